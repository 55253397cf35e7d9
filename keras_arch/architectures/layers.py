"""What every architecture shares, decided once: how an image enters, what a convolution is, how classes leave.

Everything here is stock Keras, so that a saved model opens where keras_arch is not installed.
"""

import numbers
import operator
import reprlib

import keras
from keras import layers

from ..errors import InputError
from ..weights.files import check_source
from ..weights.torchvision import IMAGENET
from ..weights.transfer import load_weights

ANY_SIZE = (
    None,
    None,
    3,
)  # what a network without its top takes by default, as in keras.applications


def check_arguments(
    include_top, weights, pooling, classes, classifier_activation, name, architecture
):
    """Raise InputError if what every builder takes cannot be used, before a deep network is built for nothing."""
    if include_top:
        check_classes(classes)
        check_activation(classifier_activation)
    else:
        check_pooling(pooling)
    check_name(name, architecture)
    if weights is not None:
        check_source(weights)


def image_input(input_shape, input_tensor, default_shape, smallest, mean, std, default=IMAGENET):
    """The entrance of every model: raw images of 0-255, normalised inside the graph.

    Args:
        input_shape: (height, width, channels) or None for `default_shape`. Height and width may be None.
        input_tensor: a Keras tensor of raw images to build upon, or None for a new `keras.Input` named "image".
        default_shape: the shape that the architecture was published with, or `ANY_SIZE` without its top.
        smallest: the least height and width in pixels, the product of the architecture's strides.
        mean, std: as the builder got them: one number for each channel, for values of 0-1, or None for `default`.
        default: a `Normalization` of red, green and blue. Images that are not RGB take the average of the three.

    Returns:
        A tensor (batch, height, width, channels) of about zero mean and unit deviation.

    Raises:
        InputError: the shape is not one of an image, or smaller than `smallest`; `mean` or `std` do not fit.
    """
    if keras.config.image_data_format() != "channels_last":
        raise InputError(
            "expected keras.config.image_data_format() to be 'channels_last', got 'channels_first'"
        )
    wanted = None if input_shape is None else parse_image_shape(input_shape, default_shape)
    if input_tensor is None:
        shape = wanted or default_shape
    elif not isinstance(input_tensor, keras.KerasTensor):
        raise InputError(
            f"`input_tensor` must be a Keras tensor of raw images. Received: a {type(input_tensor).__name__}. Use "
            "keras.Input((height, width, channels))."
        )
    else:
        shape = parse_image_shape(input_tensor.shape[1:], default_shape)
        if wanted not in (None, shape):
            raise InputError(
                f"expected input_shape to be that of input_tensor, {shape}, got {wanted}"
            )
    if any(side is not None and side < smallest for side in shape[:2]):
        raise InputError(
            f"expected images of at least {smallest}x{smallest} pixels (the product of the strides), got "
            f"{shape[0]}x{shape[1]}; larger images would work, or a stem of less stride where there is one"
        )
    mean = (
        default_values(default.mean, shape[-1])
        if mean is None
        else channel_values("mean", mean, shape[-1])
    )
    std = (
        default_values(default.std, shape[-1])
        if std is None
        else channel_values("std", std, shape[-1])
    )
    images = keras.Input(shape, name="image") if input_tensor is None else input_tensor
    return normalize(images, mean, std)


def parse_image_shape(shape, example):
    """(height, width, channels) as a tuple of int, None for an open height or width; or InputError."""
    try:
        height, width, channels = (None if side is None else as_integer(side) for side in shape)
        if channels is not None and channels > 0:
            return height, width, channels
    except (TypeError, ValueError):
        pass
    raise InputError(
        f"`input_shape` must be (height, width, channels), integers or None for height and width. Received: "
        f"{reprlib.repr(shape)}. An example is {example}."
    )


def as_integer(value):
    """An integer of Python or NumPy as an int; TypeError for anything else."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def as_real(name, value, fits, range_):
    """An option as a float, or InputError unless it is a number for which `fits` is true, as `range_` says in words."""
    if isinstance(value, numbers.Real) and fits(value):
        return float(value)
    raise InputError(f"expected {name} to be {range_}, got {value!r}")


def default_values(values, channels):
    """The values of red, green and blue, or their average in each channel of images that are not RGB."""
    return list(values) if channels == 3 else [sum(values) / 3] * channels


def channel_values(name, values, channels):
    """The values of a builder's `mean` or `std` as a list, or InputError."""
    try:
        given = [float(value) for value in values]
    except (TypeError, ValueError):
        given = []
    # NaN is not between 0 and 1, either.
    fit = len(given) == channels and all(0 <= value <= 1 for value in given)
    if not fit or (name == "std" and 0 in given):
        zero = " and greater than 0" if name == "std" else ""
        raise InputError(
            f"`{name}` must be {channels} numbers from 0 to 1{zero}, one for each channel of images of 0 to 1. "
            f"Received: {name}={values!r}. Divide values for pixels of 0-255 by 255."
        )
    return given


def normalize(images, mean, std):
    """(images / 255 - mean) / std, a channel each."""
    scale = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return layers.Rescaling(scale, offset, name="normalise")(images)


def conv(
    x, filters, kernel_size, stride=1, kernel_initializer="he_normal", *, use_bias=False, name
):
    """A convolution padded by kernel_size // 2 on every side, as in the papers' own code.

    Keras's "same" pads a strided convolution of an even-sized image on the right and below only, and weights trained
    with symmetric padding then see every image shifted; hence the explicit padding where the stride is not 1.
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
    """Batch normalisation with the constants of He et al.'s code and torchvision's ResNets."""
    norm = layers.BatchNormalization(
        momentum=0.9, epsilon=epsilon, gamma_initializer=gamma_initializer, name=name
    )
    return norm(x)


def conv_bn(x, filters, kernel_size, stride=1, gamma_initializer="ones", epsilon=1e-5, *, name):
    """A convolution without bias, then batch norm, which brings one."""
    x = conv(x, filters, kernel_size, stride, name=name)
    return batch_norm(x, gamma_initializer, epsilon, name=f"{name}_bn")


def conv_bn_relu(x, filters, kernel_size, stride=1, epsilon=1e-5, *, name):
    """A convolution without bias, batch norm, ReLU."""
    x = conv_bn(x, filters, kernel_size, stride, epsilon=epsilon, name=name)
    return layers.ReLU(name=f"{name}_relu")(x)


def conv_relu(x, filters, kernel_size, stride=1, *, name):
    """A convolution with bias, ReLU: as it was before batch norm."""
    x = conv(x, filters, kernel_size, stride, use_bias=True, name=name)
    return layers.ReLU(name=f"{name}_relu")(x)


def bn_relu(x, *, name):
    """Batch norm and ReLU, for networks where they come before a convolution."""
    x = batch_norm(x, name=f"{name}_bn")
    return layers.ReLU(name=f"{name}_relu")(x)


def max_pool(x, size, stride, *, name):
    """Max pooling, padded by size // 2 with zeros: right behind a ReLU only, where nothing is less than zero."""
    x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(size, stride, name=name)(x)


def max_pool_ceil(x, size, stride, *, name):
    """Max pooling without padding whose last window may reach over the edge by a pixel, as Caffe and GoogLeNet count.

    The row and column of zeros are harmless behind a ReLU, and no window takes them where the size leaves no rest.
    """
    x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return layers.MaxPooling2D(size, stride, name=name)(x)


def classifier_head(x, include_top, pooling, classes, classifier_activation, dropout=0.0):
    """The exit of every model: class scores, or without the top the features, pooled as `pooling` says.

    Args:
        x: the last feature map.
        include_top, pooling, classes, classifier_activation: as the builder got them.
        dropout: share of the pooled features that training drops before the classifier.

    Raises:
        InputError: fewer than two classes, or a pooling that is not None, "avg" or "max".
    """
    if include_top:
        classes = check_classes(classes)
        check_activation(classifier_activation)
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        if dropout:
            x = layers.Dropout(dropout, name="dropout")(x)
        return layers.Dense(classes, activation=classifier_activation, name="predictions")(x)
    return pool_features(x, pooling)


def pool_features(x, pooling):
    """The feature map `x` itself, or averaged ("avg") or at its greatest ("max") over all pixels."""
    check_pooling(pooling)
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if pooling == "max":
        return layers.GlobalMaxPooling2D(name="max_pool")(x)
    return x


def check_pooling(pooling):
    if pooling is not None and not (isinstance(pooling, str) and pooling in ("avg", "max")):
        raise InputError(
            f"expected pooling to be None, 'avg' or 'max', got {reprlib.repr(pooling)}"
        )


def check_classes(classes):
    """The number of classes as an int, or InputError."""
    if not isinstance(classes, numbers.Integral) or classes < 2:
        raise InputError(f"expected classes to be a whole number of 2 or more, got {classes!r}")
    return int(classes)


def check_activation(activation):
    try:
        keras.activations.get(activation)
    except ValueError as error:
        raise InputError(
            f"expected an activation of Keras such as 'softmax', or None, got {activation!r}"
        ) from error


def check_name(name, architecture):
    if name is not None and (not isinstance(name, str) or not name or "/" in name):
        raise InputError(
            f"`name` must be text without '/'. Received: name={reprlib.repr(name)}. Leave it out for {architecture!r}."
        )


def build_model(x, outputs, weights, name, architecture):
    """Close the graph from the source of `x` to `outputs`; load `weights`, if any, as those of the named architecture."""
    check_name(name, architecture)
    sources = keras.utils.get_source_inputs(x)
    model = keras.Model(sources[0] if len(sources) == 1 else sources, outputs, name=name)
    if weights is not None:
        load_weights(model, weights, architecture)
    return model
