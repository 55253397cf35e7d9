"""Layers that all architectures share: input, convolutions, pools and head.

All of them are stock Keras layers, so saved models load without keras_arch.
"""

import numbers
import operator
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import layers

from ..errors import UNORDERED, InputError
from ..published import IMAGENET_NORMALIZATION, Normalization
from ..weights.files import check_source
from ..weights.transfer import load_weights

ImageShape = tuple[int | None, int | None, int]  # (height, width, channels)
Activation = str | Callable | None

ANY_SIZE: ImageShape = (None, None, 3)  # default without the head, as in keras.applications
MAX_WIDTH = 16


def check_builder_arguments(
    include_top: bool,
    weights: str | Path | None,
    pooling: str | None,
    classes: int,
    classifier_activation: Activation,
    name: str | None,
    architecture: str,
) -> None:
    """Raise InputError if an argument that all builders share is invalid."""
    if include_top:
        check_classes(classes)
        check_activation(classifier_activation)
    else:
        check_pooling(pooling)
    check_name(name, architecture)
    if weights is not None:
        check_source(weights)


def image_input(
    input_shape: ImageShape | None,
    input_tensor: keras.KerasTensor | None,
    default_shape: ImageShape,
    smallest: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    default: Normalization = IMAGENET_NORMALIZATION,
) -> keras.KerasTensor:
    """Build the input and the normalization of an architecture.

    Args:
        input_shape: Image shape, or None for `default_shape`. Height and width may be None.
        input_tensor: A Keras tensor of raw images, or None for a new `keras.Input` named "image".
        default_shape: Image shape of the paper, or `ANY_SIZE` without the head.
        smallest: Minimum height and width in pixels: the product of the strides.
        mean, std: One number per channel for values of 0-1, or None for `default`.
        default: `Normalization` of RGB images. Other images use its average for every channel.

    Returns:
        A tensor (batch, height, width, channels) of normalized images.

    Raises:
        InputError: The shape is not an image shape or smaller than `smallest`, or `mean` or `std`
            do not fit it.
    """
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "Keras must use the image data format 'channels_last'. Received: 'channels_first'. "
            "Call keras.config.set_image_data_format('channels_last')."
        )
    wanted = None if input_shape is None else parse_image_shape(input_shape, default_shape)
    if input_tensor is None:
        shape = wanted or default_shape
    elif not isinstance(input_tensor, keras.KerasTensor):
        raise InputError(
            "`input_tensor` must be a Keras tensor of raw images. "
            f"Received: a {type(input_tensor).__name__}. "
            "Use keras.Input((height, width, channels))."
        )
    else:
        shape = parse_image_shape(input_tensor.shape[1:], default_shape)
        if wanted not in (None, shape):
            raise InputError(
                f"`input_shape` must be the shape of `input_tensor`, {shape}. "
                f"Received: input_shape={wanted}. Pass only one of them."
            )
    if any(side is not None and side < smallest for side in shape[:2]):
        raise InputError(
            f"Images must be at least {smallest}x{smallest} pixels, the product of the strides. "
            f"Received: {shape[0]}x{shape[1]}. Use larger images or a `stem` with smaller strides."
        )
    mean = (
        expand_default(default.mean, shape[-1])
        if mean is None
        else parse_channel_values("mean", mean, shape[-1])
    )
    std = (
        expand_default(default.std, shape[-1])
        if std is None
        else parse_channel_values("std", std, shape[-1])
    )
    images = keras.Input(shape, name="image") if input_tensor is None else input_tensor
    return normalize(images, mean, std)


def parse_image_shape(shape: Any, example: ImageShape) -> ImageShape:
    """Return `shape` as a tuple, with None for an open height or width, or raise InputError."""
    try:
        if isinstance(shape, UNORDERED):
            raise TypeError
        height, width, channels = (None if side is None else as_integer(side) for side in shape)
        if channels is not None and channels > 0:
            return height, width, channels
    except (TypeError, ValueError):
        pass
    raise InputError(
        "`input_shape` must be (height, width, channels) of integers. "
        "Height and width may be None. "
        f"Received: {reprlib.repr(shape)}. Use, for example, {example}."
    )


def as_integer(value: Any) -> int:
    """Return an integer of Python or NumPy as an int. Raise TypeError for anything else."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def as_real(name: str, value: Any, fits: Callable[[float], bool], limits: str) -> float:
    """Return an option as a float. Raise InputError unless `fits(value)` is true."""
    if isinstance(value, numbers.Real) and fits(value):  # type: ignore[arg-type]
        return float(value)
    raise InputError(f"`{name}` must be a number {limits}. Received: {name}={reprlib.repr(value)}.")


def check_width(width: Any) -> float:
    """Return a multiplier of the number of filters as a float, or raise InputError."""
    limits = f"above 0 and at most {MAX_WIDTH}"
    return as_real("width", width, lambda number: 0 < number <= MAX_WIDTH, limits)


def scale_count(filters: int, width: float) -> int:
    """Return `width` times as many filters, at least one."""
    return max(1, round(width * filters))


def expand_default(values: Sequence[float], channels: int) -> list[float]:
    """Return RGB values for three channels. Return their average per channel for other images."""
    return list(values) if channels == 3 else [sum(values) / 3] * channels


def parse_channel_values(name: str, values: Any, channels: int) -> list[float]:
    """Return a builder's `mean` or `std` as a list, or raise InputError."""
    try:
        given = [] if isinstance(values, UNORDERED) else [float(value) for value in values]
    except (TypeError, ValueError):
        given = []
    # NaN fails this comparison.
    fit = len(given) == channels and all(0 <= value <= 1 for value in given)
    if not fit or (name == "std" and 0 in given):
        zero = " and greater than 0" if name == "std" else ""
        raise InputError(
            f"`{name}` must be {channels} numbers from 0 to 1{zero}, one per channel. "
            f"Received: {name}={reprlib.repr(values)}. Divide values for pixels of 0-255 by 255."
        )
    return given


def normalize(images: keras.KerasTensor, mean: list[float], std: list[float]) -> keras.KerasTensor:
    """Compute (images / 255 - mean) / std per channel."""
    scale = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return layers.Rescaling(scale, offset, name="normalize")(images)


def conv(
    x, filters, kernel_size, stride=1, kernel_initializer="he_normal", *, use_bias=False, name
):
    """Build a convolution with kernel_size // 2 pixels of padding on every side.

    This is the padding of the papers' code. Keras's "same" pads a strided convolution of an
    even-sized image only on the right and at the bottom. Weights that were trained with symmetric
    padding would then see shifted images. So strided convolutions are padded explicitly.
    """
    padding = "same"
    if stride > 1 and kernel_size > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
        padding = "valid"
    convolution = layers.Conv2D(
        filters,
        kernel_size,
        stride,
        padding,
        use_bias=use_bias,
        kernel_initializer=kernel_initializer,
        name=name,
    )
    return convolution(x)


def batch_norm(x, gamma_initializer="ones", epsilon=1e-5, *, name):
    """Build batch norm with the constants of He et al.'s code and torchvision's ResNets."""
    norm = layers.BatchNormalization(
        momentum=0.9, epsilon=epsilon, gamma_initializer=gamma_initializer, name=name
    )
    return norm(x)


def conv_bn(x, filters, kernel_size, stride=1, gamma_initializer="ones", epsilon=1e-5, *, name):
    """Build a convolution without bias and batch norm."""
    x = conv(x, filters, kernel_size, stride, name=name)
    return batch_norm(x, gamma_initializer, epsilon, name=f"{name}_bn")


def conv_bn_relu(x, filters, kernel_size, stride=1, epsilon=1e-5, *, name):
    """Build a convolution without bias, batch norm and ReLU."""
    x = conv_bn(x, filters, kernel_size, stride, epsilon=epsilon, name=name)
    return layers.ReLU(name=f"{name}_relu")(x)


def conv_relu(x, filters, kernel_size, stride=1, *, name):
    """Build a convolution with bias and ReLU, as networks had before batch norm."""
    x = conv(x, filters, kernel_size, stride, use_bias=True, name=name)
    return layers.ReLU(name=f"{name}_relu")(x)


def bn_relu(x, *, name):
    """Build batch norm and ReLU, for pre-activation networks."""
    x = batch_norm(x, name=f"{name}_bn")
    return layers.ReLU(name=f"{name}_relu")(x)


def max_pool(x, size, stride, *, name):
    """Build max pooling with size // 2 pixels of zero padding.

    Zeros change no maximum directly after a ReLU. Use it only there.
    """
    x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(size, stride, name=name)(x)


def max_pool_ceil(x, size, stride, *, name):
    """Build max pooling whose output size is rounded up, as in Caffe and GoogLeNet.

    One row and one column of zeros follow the image. They change no maximum after a ReLU.
    """
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return layers.MaxPooling2D(size, stride, name=name)(x)


def classifier_head(
    x: keras.KerasTensor,
    include_top: bool,
    pooling: str | None,
    classes: int,
    classifier_activation: Activation,
    dropout: float = 0.0,
) -> keras.KerasTensor:
    """Build the head of a classifier, or the features without it.

    Args:
        x: The last feature map.
        include_top, pooling, classes, classifier_activation: Arguments of the builder.
        dropout: Dropout rate before the classifier.

    Raises:
        InputError: `classes` is below 2, or `pooling` is not None, "avg" or "max".
    """
    if include_top:
        classes = check_classes(classes)
        check_activation(classifier_activation)
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        if dropout:
            x = layers.Dropout(dropout, name="dropout")(x)
        return layers.Dense(classes, activation=classifier_activation, name="predictions")(x)
    return pool_features(x, pooling)


def pool_features(x: keras.KerasTensor, pooling: str | None) -> keras.KerasTensor:
    """Return the feature map, or its average ("avg") or maximum ("max") over all pixels."""
    check_pooling(pooling)
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="max_pool")(x)
    return x


def check_pooling(pooling: Any) -> None:
    if pooling is not None and not (isinstance(pooling, str) and pooling in ("avg", "max")):
        raise InputError(
            f"`pooling` must be None, 'avg' or 'max'. Received: pooling={reprlib.repr(pooling)}."
        )


def check_classes(classes: Any) -> int:
    """Return the number of classes as an int, or raise InputError."""
    if not isinstance(classes, numbers.Integral) or classes < 2:
        raise InputError(
            f"`classes` must be an integer >= 2. Received: classes={reprlib.repr(classes)}."
        )
    return int(classes)


def check_activation(activation: Any) -> None:
    try:
        keras.activations.get(activation)
    except ValueError as error:
        raise InputError(
            "`classifier_activation` must be None, a function or the name of a Keras activation. "
            f"Received: classifier_activation={reprlib.repr(activation)}. "
            "Use, for example, 'softmax'."
        ) from error


def check_name(name: Any, architecture: str) -> None:
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise InputError(
            f"`name` must be text without '/'. Received: name={reprlib.repr(name)}. "
            f"Leave it out for {architecture!r}."
        )


def build_model(
    x: keras.KerasTensor,
    outputs: keras.KerasTensor | list[keras.KerasTensor],
    weights: str | Path | None,
    name: str | None,
    architecture: str,
) -> keras.Model:
    """Build the model from the sources of `x` to `outputs`, and load `weights`."""
    check_name(name, architecture)
    sources = keras.utils.get_source_inputs(x)
    model = keras.Model(sources[0] if len(sources) == 1 else sources, outputs, name=name)
    if weights is not None:
        load_weights(model, weights, architecture)
    return model
