"""Stems, shortcuts and branch ends of residual networks."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from keras import layers

from ..layers import conv, conv_bn, conv_bn_relu, max_pool

# --- stems ---


def imagenet_stem(x, filters):
    """Build a 7x7 convolution and a max pool. They reduce 224 pixels to 56."""
    x = conv_bn_relu(x, filters, 7, 2, name="stem_conv")
    return max_pool(x, 3, 2, name="stem_pool")


def deep_stem(x, filters):
    """Build ResNet-D's stem: three 3x3 convolutions and a max pool.

    He et al. 2018, arXiv:1812.01187, figure 2b.
    """
    half = max(1, filters // 2)
    x = conv_bn_relu(x, half, 3, 2, name="stem_conv1")
    x = conv_bn_relu(x, half, 3, name="stem_conv2")
    x = conv_bn_relu(x, filters, 3, name="stem_conv3")
    return max_pool(x, 3, 2, name="stem_pool")


def cifar_stem(x, filters):
    """Build a 3x3 convolution that keeps the size, for images of about 32 pixels."""
    return conv_bn_relu(x, filters, 3, name="stem_conv")


class Stem(NamedTuple):
    """A stem and its total stride."""

    build: Callable
    stride: int


STEMS = {
    "imagenet": Stem(imagenet_stem, 4),
    "deep": Stem(deep_stem, 4),
    "cifar": Stem(cifar_stem, 1),
}

# --- shortcuts: the identity mapping if the shapes agree, otherwise one of these ---


def keeps_shape(x, filters, stride):
    return stride == 1 and x.shape[-1] == filters


def projection(x, filters, stride, name):
    """Build option B of He et al. 2015: a 1x1 convolution and batch norm."""
    return x if keeps_shape(x, filters, stride) else conv_bn(x, filters, 1, stride, name=name)


def bare_projection(x, filters, stride, name):
    """Build a 1x1 convolution without batch norm, for pre-activation networks."""
    return x if keeps_shape(x, filters, stride) else conv(x, filters, 1, stride, name=name)


def average_pool(x, filters, stride, name, project=projection):
    """Build ResNet-D's shortcut: an average pool before an unstrided 1x1 convolution.

    He et al. 2018, figure 2c.
    """
    if stride > 1:
        # "same" excludes padding from averages at the edge of odd sizes.
        x = layers.AveragePooling2D(2, stride, padding="same", name=f"{name}_pool")(x)
    return project(x, filters, 1, name)


def zero_padding(x, filters, stride, name):
    """Build option A of He et al. 2015: subsampling and zeros for new channels, no parameters."""
    if stride > 1:
        x = layers.MaxPooling2D(1, stride, name=f"{name}_subsample")(x)
    missing = filters - x.shape[-1]
    if missing:
        # In channels_first order, the last two axes are our width and channels. No other layer of
        # Keras pads channels, has a name and loads without custom code.
        pad = layers.ZeroPadding2D(
            ((0, 0), (0, missing)), data_format="channels_first", name=f"{name}_pad"
        )
        x = pad(x)
    return x


SHORTCUTS = {"projection": projection, "average_pool": average_pool, "zero_padding": zero_padding}

# Pre-activation networks have batch norm before a shortcut, not in it.
BARE_SHORTCUTS = {
    "projection": bare_projection,
    "average_pool": partial(average_pool, project=bare_projection),
    "zero_padding": zero_padding,
}

# ResNet-D replaces these parts of ResNet-B, the name of the standard network in its paper.
VARIANTS: dict[str, dict[str, str]] = {
    "b": {},
    "d": {"imagenet": "deep", "projection": "average_pool", "zero_padding": "average_pool"},
}

# --- branch ends: layers after the last convolution of a branch ---


def squeeze_excitation(y, name, *, ratio):
    """Scale each channel by a function of the channel averages.

    Hu et al. 2018, arXiv:1709.01507, figure 3.
    """
    channels = y.shape[-1]
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_squeeze")(y)
    weights = layers.Conv2D(
        max(1, round(ratio * channels)), 1, activation="relu", name=f"{name}_se_reduce"
    )(weights)
    weights = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_se_expand")(weights)
    return layers.Multiply(name=f"{name}_se_scale")([y, weights])


def stochastic_depth(y, name, *, rate):
    """Drop the branch of an image in training with probability `rate`, and rescale kept branches.

    Huang et al. 2016, arXiv:1603.09382.
    """
    return layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}_stochastic_depth")(y)
