"""GoogLeNet: Going Deeper with Convolutions (Szegedy et al. 2014, arXiv:1409.4842).

Deviations from the paper:

- Batch norm replaces biases and local response normalization, unless `batch_norm=False`.
- Images are normalized to -1 to 1, as for torchvision's weights. The paper subtracts the mean.
"""

import numbers
import reprlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import keras
from keras import layers, ops

from ..errors import InputError, choose
from ..published import HALVES
from .layers import (
    ANY_SIZE,
    build_model,
    check_builder_arguments,
    check_classes,
    check_width,
    classifier_head,
    conv_bn_relu,
    conv_relu,
    image_input,
    max_pool_ceil,
    scale_count,
)


class Inception(NamedTuple):
    """A row of table 1: the number of filters of each convolution in a module.

    The fields have the names of the paper's columns.
    """

    name: str
    filters_1x1: int
    reduce_3x3: int
    filters_3x3: int
    reduce_5x5: int
    filters_5x5: int
    pool_projection: int


# A max pool follows 3b and 4e.
TABLE_1 = (
    #         1x1  3x3reduce  3x3  5x5reduce  5x5  pool proj
    Inception("3a", 64, 96, 128, 16, 32, 32),
    Inception("3b", 128, 128, 192, 32, 96, 64),
    Inception("4a", 192, 96, 208, 16, 48, 64),
    Inception("4b", 160, 112, 224, 24, 64, 64),
    Inception("4c", 128, 128, 256, 24, 64, 64),
    Inception("4d", 112, 144, 288, 32, 64, 64),
    Inception("4e", 256, 160, 320, 32, 128, 128),
    Inception("5a", 256, 160, 320, 32, 128, 128),
    Inception("5b", 384, 192, 384, 48, 128, 128),
)
POOLED_BEFORE = ("4a", "5a")
AUXILIARY_AFTER = ("4a", "4d")
GOOGLENET_EPSILON = 1e-3  # of batch norm, the value of torchvision's training

conv_bn_relu_googlenet = partial(conv_bn_relu, epsilon=GOOGLENET_EPSILON)


def inception_module(
    x: keras.KerasTensor,
    row: Inception,
    conv: Callable = conv_bn_relu_googlenet,
    kernel_5x5: int = 5,
) -> keras.KerasTensor:
    """Build an Inception module with dimension reductions (figure 2b).

    The module has four parallel branches. 1x1 convolutions reduce the input of the 3x3 and 5x5
    convolutions.

    Args:
        x: Tensor (batch, height, width, channels).
        row: An `Inception`, such as a row of `TABLE_1`.
        conv: Function (x, filters, kernel_size, name=...) -> x that builds a convolution with its
            normalization and activation.
        kernel_5x5: Kernel size of the 5x5 branch.

    Returns:
        Tensor (batch, height, width, filters_1x1 + filters_3x3 + filters_5x5 + pool_projection).
    """
    name = f"inception_{row.name}"
    branch_1x1 = conv(x, row.filters_1x1, 1, name=f"{name}_1x1")
    branch_3x3 = conv(x, row.reduce_3x3, 1, name=f"{name}_reduce_3x3")
    branch_3x3 = conv(branch_3x3, row.filters_3x3, 3, name=f"{name}_3x3")
    branch_5x5 = conv(x, row.reduce_5x5, 1, name=f"{name}_reduce_5x5")
    branch_5x5 = conv(branch_5x5, row.filters_5x5, kernel_5x5, name=f"{name}_5x5")
    branch_pool = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    branch_pool = conv(branch_pool, row.pool_projection, 1, name=f"{name}_pool_projection")
    return layers.Concatenate(name=f"{name}_concat")(
        [branch_1x1, branch_3x3, branch_5x5, branch_pool]
    )


def naive_inception_module(
    x: keras.KerasTensor, row: Inception, conv: Callable = conv_bn_relu_googlenet
) -> keras.KerasTensor:
    """Build an Inception module without dimension reductions (figure 2a).

    Args:
        x: Tensor (batch, height, width, channels).
        row: An `Inception`. `reduce_3x3`, `reduce_5x5` and `pool_projection` are not used.
        conv: Function (x, filters, kernel_size, name=...) -> x that builds a convolution with its
            normalization and activation.

    Returns:
        Tensor (batch, height, width, filters_1x1 + filters_3x3 + filters_5x5 + channels).
    """
    name = f"inception_{row.name}"
    branch_1x1 = conv(x, row.filters_1x1, 1, name=f"{name}_1x1")
    branch_3x3 = conv(x, row.filters_3x3, 3, name=f"{name}_3x3")
    branch_5x5 = conv(x, row.filters_5x5, 5, name=f"{name}_5x5")
    branch_pool = layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    return layers.Concatenate(name=f"{name}_concat")(
        [branch_1x1, branch_3x3, branch_5x5, branch_pool]
    )


def local_response_norm(x, name):
    """Build local response normalization (Krizhevsky et al. 2012, section 3.3).

    y = x / (1 + alpha / 5 * sum) ** beta, with the sum of squares of five neighboring channels.
    The constants and the division of alpha by five are those of Caffe's GoogLeNet. The operations
    form a nested model, so that they share one name and saved models need only Keras.
    """
    radius, alpha, beta = 2, 1e-4, 0.75
    inside = keras.Input(x.shape[1:], name=f"{name}_input")
    squares = ops.pad(ops.square(inside), [[0, 0], [0, 0], [0, 0], [radius, radius]])
    channels = x.shape[-1]
    total = sum(squares[..., shift : shift + channels] for shift in range(2 * radius + 1))
    normed = inside / ops.power(1 + alpha / (2 * radius + 1) * total, beta)
    return keras.Model(inside, normed, name=name)(x)


def no_norm(x, name):
    """Return x. Networks with batch norm have no local response normalization."""
    return x


def googlenet_stem(x, conv, norm):
    """Build the first rows of table 1. They reduce 224 pixels to 28."""
    x = conv(x, 64, 7, 2, name="stem_conv1")
    x = max_pool_ceil(x, 3, 2, name="stem_pool1")
    x = norm(x, "stem_norm1")
    x = conv(x, 64, 1, name="stem_reduce")
    x = conv(x, 192, 3, name="stem_conv2")
    x = norm(x, "stem_norm2")
    return max_pool_ceil(x, 3, 2, name="stem_pool2")


def googlenet_cifar_stem(x, conv, norm, stride=1):
    """Build the convolutions of the stem without pools, for images of about 32 pixels."""
    x = conv(x, 64, 3, stride, name="stem_conv1")
    x = norm(x, "stem_norm1")
    x = conv(x, 64, 1, name="stem_reduce")
    x = conv(x, 192, 3, name="stem_conv2")
    return norm(x, "stem_norm2")


class GoogLeNetStem(NamedTuple):
    build: Callable
    stride: int


STEMS = {
    "imagenet": GoogLeNetStem(googlenet_stem, 8),
    "cifar": GoogLeNetStem(googlenet_cifar_stem, 1),
    "cifar_stride2": GoogLeNetStem(partial(googlenet_cifar_stem, stride=2), 2),
}


def scale_filters(conv, width):
    """Return `conv` with `width` times as many filters."""
    return lambda x, filters, *args, **options: conv(
        x, scale_count(filters, width), *args, **options
    )


def auxiliary_head(x, conv, classes, activation, name):
    """Build an auxiliary classifier. It brings gradients to the lower layers (section 5)."""
    if x.shape[1] is None or x.shape[2] is None or min(x.shape[1:3]) < 5:
        raise InputError(
            "Auxiliary classifiers need feature maps of at least 5x5 pixels. "
            f"Received: {x.shape[1]}x{x.shape[2]}. Use larger images or auxiliary_heads=False."
        )
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = conv(x, 128, 1, name=f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_dense")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return layers.Dense(classes, activation=activation, name=name)(x)


def GoogLeNet(
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "googlenet",
    *,
    stem: Literal["imagenet", "cifar", "cifar_stride2"] = "imagenet",
    width: float = 1.0,
    batch_norm: bool = True,
    kernel_5x5: Literal[3, 5] = 5,
    auxiliary_heads: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Build GoogLeNet.

    Args:
        include_top: Whether to include the average pool, the dropout and the classifier. Defaults
            to True.
        weights: None for random initialization, "imagenet" for torchvision's checkpoint (needs
            `kernel_5x5=3`), or the path of a file: .keras, .weights.h5, .safetensors or .pth. See
            `transfer_weights` for other classes and grayscale images.
        input_tensor: Keras tensor of raw images to use as input. Defaults to a new input named
            "image".
        input_shape: (height, width, channels). Height and width may be None. Defaults to
            (224, 224, 3), or to (None, None, 3) if `include_top` is False.
        pooling: Pooling of the features if `include_top` is False: None for the feature map,
            "avg" or "max" for a vector.
        classes: Number of classes, at least 2. Defaults to 1000. Unused if `include_top` is False.
        classifier_activation: Activation of the classifier. None returns logits. Defaults to
            "softmax".
        name: Name of the model.
        stem: "imagenet" divides the image size by 8, "cifar_stride2" by 2. "cifar" keeps it.
        width: Multiplier of the number of filters of every convolution, above 0 and at most 16.
            Multiply-adds grow about quadratically: 0.5 needs a quarter.
        batch_norm: Whether to use batch norm. False builds the paper's convolutions with bias and
            local response normalization.
        kernel_5x5: Kernel size of the 5x5 branches, 5 or 3. 3 is torchvision's network, which also
            ends in a 2x2 max pool.
        auxiliary_heads: Whether to add the two auxiliary classifiers, as outputs "auxiliary_4a" and
            "auxiliary_4d" after the main output. `keras_arch.fit` gives each the paper's loss
            weight of 0.3. `keras_arch.strip_auxiliary_heads` removes them.
        mean: Mean of images of 0-1 that is subtracted, one number from 0 to 1 per channel. Defaults
            to 0.5.
        std: Standard deviation by which they are divided, one number above 0 and up to 1 per
            channel. Defaults to 0.5. Set both to load weights that were trained with other values.

    Returns:
        A functional `keras.Model` from raw images (batch, height, width, channels) of 0-255 to
        probabilities (batch, classes), or to a list of three with auxiliary classifiers.

    Raises:
        InputError (a ValueError): An argument is invalid, or `weights` do not fit the model.

    Reference:
        Szegedy et al. 2014, arXiv:1409.4842, table 1.

    Example:
        model = keras_arch.GoogLeNet(input_shape=(224, 224, 3), classes=5)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images, labels)  # raw images of 0-255

        model = keras_arch.GoogLeNet(auxiliary_heads=True)
        loss = ["sparse_categorical_crossentropy"] * 3
        model.compile("sgd", loss, loss_weights=[1, 0.3, 0.3])
        model.fit(images, [labels] * 3)
    """
    check_builder_arguments(
        include_top, weights, pooling, classes, classifier_activation, name, "googlenet"
    )
    entrance = STEMS[choose("stem", stem, STEMS)]
    if auxiliary_heads and not include_top:
        raise InputError(
            "`auxiliary_heads=True` needs `include_top=True`. Received: include_top=False. "
            "Use auxiliary_heads=False."
        )
    if include_top:
        classes = check_classes(classes)
    if not isinstance(kernel_5x5, numbers.Integral) or kernel_5x5 not in (3, 5):
        raise InputError(
            "`kernel_5x5` must be 5, or 3 for torchvision's weights. "
            f"Received: kernel_5x5={reprlib.repr(kernel_5x5)}."
        )
    width = check_width(width)
    conv, norm = (
        (conv_bn_relu_googlenet, no_norm) if batch_norm else (conv_relu, local_response_norm)
    )
    conv = conv if width == 1 else scale_filters(conv, width)
    kernel_size = 3 if kernel_5x5 == 3 else 5  # an int, also for integers of NumPy
    pool_sizes = {"4a": 3, "5a": 2 if kernel_size == 3 else 3}
    smallest = entrance.stride * 2 ** len(POOLED_BEFORE)
    default_shape = (224, 224, 3) if include_top else ANY_SIZE
    x = images = image_input(
        input_shape, input_tensor, default_shape, smallest, mean, std, default=HALVES
    )
    x = entrance.build(x, conv, norm)
    auxiliary = []
    for row in TABLE_1:
        if row.name in POOLED_BEFORE:
            x = max_pool_ceil(x, pool_sizes[row.name], 2, name=f"pool_{row.name[0]}")
        x = inception_module(x, row, conv, kernel_size)
        if auxiliary_heads and row.name in AUXILIARY_AFTER:
            auxiliary.append(
                auxiliary_head(x, conv, classes, classifier_activation, f"auxiliary_{row.name}")
            )
    x = classifier_head(x, include_top, pooling, classes, classifier_activation, dropout=0.4)
    return build_model(images, [x, *auxiliary] if auxiliary else x, weights, name, "googlenet")
