"""GoogLeNet: Going Deeper with Convolutions (Szegedy et al. 2014, arXiv:1409.4842).

Deviations from the paper: batch norm in place of biases and local response normalisation, unless `batch_norm=False`;
images are normalised to -1 to 1, as for torchvision's weights, instead of subtracting the mean.
"""

import numbers
import reprlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import keras
from keras import layers, ops

from ..errors import InputError, choose
from ..weights.torchvision import HALVES
from .layers import (
    ANY_SIZE,
    as_real,
    build_model,
    check_arguments,
    check_classes,
    classifier_head,
    conv_bn_relu,
    conv_relu,
    image_input,
    max_pool_ceil,
)

WIDEST = 16  # times the filters of the paper


class Inception(NamedTuple):
    """A row of table 1: the number of filters in each convolution of a module, columns named as in the paper."""

    name: str
    filters_1x1: int
    reduce_3x3: int
    filters_3x3: int
    reduce_5x5: int
    filters_5x5: int
    pool_projection: int


# A max pool stands between 3b and 4a and between 4e and 5a.
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
GOOGLENET_EPSILON = 1e-3  # of batch norm, as torchvision's weights were trained with

conv_bn_relu_googlenet = partial(conv_bn_relu, epsilon=GOOGLENET_EPSILON)


def inception_module(x, row, conv=conv_bn_relu_googlenet, kernel_5x5=5):
    """Four branches side by side, the expensive ones behind a 1x1 convolution that shrinks their input (figure 2b).

    Args:
        x: (batch, height, width, channels).
        row: an `Inception`, such as a row of `TABLE_1`.
        conv: (x, filters, kernel_size, name=...) -> x, a convolution and what follows it.
        kernel_5x5: size of the large kernel.

    Returns:
        (batch, height, width, filters_1x1 + filters_3x3 + filters_5x5 + pool_projection).
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


def naive_inception_module(x, row, conv=conv_bn_relu_googlenet):
    """All filter sizes side by side with nothing in between: the module whose cost the 1x1 cuts (figure 2a).

    Args:
        x: (batch, height, width, channels).
        row: an `Inception`; its `reduce_3x3`, `reduce_5x5` and `pool_projection` are not used.
        conv: (x, filters, kernel_size, name=...) -> x, a convolution and what follows it.

    Returns:
        (batch, height, width, filters_1x1 + filters_3x3 + filters_5x5 + channels): it can only grow.
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
    """x / (1 + alpha / 5 * the sum of squares in five neighbouring channels) ** beta (Krizhevsky et al. 2012, section 3.3).

    The constants, and the alpha that is divided by five, are those of Caffe and its replication of GoogLeNet. It is a
    small model of `keras.ops`, so that the operations stand under one name and a saved model stays plain Keras.
    """
    radius, alpha, beta = 2, 1e-4, 0.75
    inside = keras.Input(x.shape[1:], name=f"{name}_input")
    squares = ops.pad(ops.square(inside), [[0, 0], [0, 0], [0, 0], [radius, radius]])
    channels = x.shape[-1]
    total = sum(squares[..., shift : shift + channels] for shift in range(2 * radius + 1))
    normed = inside / ops.power(1 + alpha / (2 * radius + 1) * total, beta)
    return keras.Model(inside, normed, name=name)(x)


def no_norm(x, name):
    """Where batch norm is, nothing else normalises."""
    return x


def imagenet_stem(x, conv, norm):
    """The first rows of table 1: 224 pixels become 28."""
    x = conv(x, 64, 7, 2, name="stem_conv1")
    x = max_pool_ceil(x, 3, 2, name="stem_pool1")
    x = norm(x, "stem_norm1")
    x = conv(x, 64, 1, name="stem_reduce")
    x = conv(x, 192, 3, name="stem_conv2")
    x = norm(x, "stem_norm2")
    return max_pool_ceil(x, 3, 2, name="stem_pool2")


def cifar_stem(x, conv, norm, stride=1):
    """The same convolutions without stride or pools, for images of 32 pixels or so."""
    x = conv(x, 64, 3, stride, name="stem_conv1")
    x = norm(x, "stem_norm1")
    x = conv(x, 64, 1, name="stem_reduce")
    x = conv(x, 192, 3, name="stem_conv2")
    return norm(x, "stem_norm2")


class Stem(NamedTuple):
    build: Callable
    stride: int


STEMS = {
    "imagenet": Stem(imagenet_stem, 8),
    "cifar": Stem(cifar_stem, 1),
    "cifar_stride2": Stem(partial(cifar_stem, stride=2), 2),
}


def scale_filters(conv, width):
    """The same convolution with `width` times as many filters."""
    return lambda x, filters, *args, **options: conv(
        x, max(1, round(width * filters)), *args, **options
    )


def auxiliary_head(x, conv, classes, activation, name):
    """A second classifier halfway, which brings gradient to the lower layers (section 5)."""
    if x.shape[1] is None or x.shape[2] is None or min(x.shape[1:3]) < 5:
        raise InputError(
            f"expected images that leave 5x5 pixels or more for the auxiliary heads, got {x.shape[1]}x{x.shape[2]} "
            "there; auxiliary_heads=False or larger images would work"
        )
    x = layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)
    x = conv(x, 128, 1, name=f"{name}_conv")
    x = layers.Flatten(name=f"{name}_flatten")(x)
    x = layers.Dense(1024, activation="relu", name=f"{name}_dense")(x)
    x = layers.Dropout(0.7, name=f"{name}_dropout")(x)
    return layers.Dense(classes, activation=activation, name=name)(x)


def GoogLeNet(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="googlenet",
    *,
    stem="imagenet",
    width=1.0,
    batch_norm=True,
    kernel_5x5=5,
    auxiliary_heads=False,
    mean=None,
    std=None,
):
    """GoogLeNet: raw images in, class probabilities out.

    Args:
        include_top: whether the average pool, the dropout and the classifier are there.
        weights: None for random ones; "imagenet" for torchvision's (with kernel_5x5=3); or a .weights.h5 or .keras
            file of such a model, or a .safetensors or .pth file of torchvision's.
        input_tensor: a Keras tensor of raw images to build upon; None makes an input named "image".
        input_shape: (height, width, channels). None is (224, 224, 3), or (None, None, 3) without the top. Height
            and width may be None.
        pooling: without the top, None for the feature map, "avg" or "max" for a vector.
        classes: number of classes, 2 or more. Without the top it is ignored.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.
        stem: "imagenet" (divides the size by 8), "cifar" (keeps it) or "cifar_stride2" (halves it: a quarter of the cost).
        width: share of the paper's filters that each convolution has; at 0.5 a quarter of the multiply-adds.
        batch_norm: True, or False for the paper's convolutions with bias and local response normalisation.
        kernel_5x5: 5, or 3 for torchvision's network, which also ends in a 2x2 max pool: its weights were trained so.
        auxiliary_heads: add the two training heads, as outputs "auxiliary_4a" and "auxiliary_4d" behind the main one.
            `keras_arch.fit` gives each the paper's loss weight of 0.3; in one's own code it is
            `model.compile(..., loss=[loss] * 3, loss_weights=[1, 0.3, 0.3])` and `model.fit(images, [labels] * 3)`.
            `keras_arch.strip_auxiliary_heads(model)` takes them off.
        mean: what images of 0 to 1 have subtracted, one number from 0 to 1 for each channel. None is 0.5.
        std: what they are divided by then, one number above 0 to 1 for each channel. None is 0.5. Set both to
            load weights that were trained with another normalization.

    Returns:
        A functional `keras.Model` from images (batch, height, width, channels), 0-255, to (batch, classes), or to a
        list of three such with auxiliary heads.

    Raises:
        InputError (a ValueError): an option, shape or file that cannot be used; the message says what can.

    Reference:
        Szegedy et al. 2014, arXiv:1409.4842, table 1.

    Example:
        model = keras_arch.GoogLeNet(input_shape=(224, 224, 3), classes=5)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images, labels)  # images: 0-255, as they come
    """
    check_arguments(
        include_top, weights, pooling, classes, classifier_activation, name, "googlenet"
    )
    stem = STEMS[choose("stem", stem, STEMS)]
    if auxiliary_heads and not include_top:
        raise InputError(
            "expected include_top=True with auxiliary_heads=True, got False; auxiliary_heads=False would work"
        )
    if include_top:
        classes = check_classes(classes)
    if not isinstance(kernel_5x5, numbers.Integral) or kernel_5x5 not in (3, 5):
        raise InputError(
            f"expected kernel_5x5 to be 5, or 3 for torchvision's weights, got {reprlib.repr(kernel_5x5)}"
        )
    width = as_real(
        "width", width, lambda number: 0 < number <= WIDEST, f"greater than 0 and at most {WIDEST}"
    )
    conv, norm = (
        (conv_bn_relu_googlenet, no_norm) if batch_norm else (conv_relu, local_response_norm)
    )
    conv = conv if width == 1 else scale_filters(conv, width)
    kernel_5x5 = 3 if kernel_5x5 == 3 else 5  # an integer, whatever the number type
    pool_sizes = {"4a": 3, "5a": 2 if kernel_5x5 == 3 else 3}
    smallest = stem.stride * 2 ** len(POOLED_BEFORE)
    default_shape = (224, 224, 3) if include_top else ANY_SIZE
    x = images = image_input(
        input_shape, input_tensor, default_shape, smallest, mean, std, default=HALVES
    )
    x = stem.build(x, conv, norm)
    auxiliary = []
    for row in TABLE_1:
        if row.name in POOLED_BEFORE:
            x = max_pool_ceil(x, pool_sizes[row.name], 2, name=f"pool_{row.name[0]}")
        x = inception_module(x, row, conv, kernel_5x5)
        if auxiliary_heads and row.name in AUXILIARY_AFTER:
            auxiliary.append(
                auxiliary_head(x, conv, classes, classifier_activation, f"auxiliary_{row.name}")
            )
    x = classifier_head(x, include_top, pooling, classes, classifier_activation, dropout=0.4)
    return build_model(images, [x, *auxiliary] if auxiliary else x, weights, name, "googlenet")
