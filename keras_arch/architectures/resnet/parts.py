"""What residual networks are composed of besides their blocks: stems, shortcuts, and what may end a branch."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from keras import layers

from ..layers import conv, conv_bn, conv_bn_relu, max_pool

# --- stems: from the image to the first block ---


def imagenet_stem(x, filters):
    """A 7x7 convolution and a max pool: 224 pixels become 56."""
    x = conv_bn_relu(x, filters, 7, 2, name="stem_conv")
    return max_pool(x, 3, 2, name="stem_pool")


def deep_stem(x, filters):
    """ResNet-D's: three 3x3 convolutions in place of the 7x7 (He et al. 2018, arXiv:1812.01187, figure 2b)."""
    x = conv_bn_relu(x, filters // 2, 3, 2, name="stem_conv1")
    x = conv_bn_relu(x, filters // 2, 3, name="stem_conv2")
    x = conv_bn_relu(x, filters, 3, name="stem_conv3")
    return max_pool(x, 3, 2, name="stem_pool")


def cifar_stem(x, filters):
    """A 3x3 convolution that keeps the size, for images of 32 pixels or so."""
    return conv_bn_relu(x, filters, 3, name="stem_conv")


class Stem(NamedTuple):
    build: Callable
    stride: int


STEMS = {
    "imagenet": Stem(imagenet_stem, 4),
    "deep": Stem(deep_stem, 4),
    "cifar": Stem(cifar_stem, 1),
}

# --- shortcuts: the identity where the shapes agree, else one of these ---


def keeps_shape(x, filters, stride):
    return stride == 1 and x.shape[-1] == filters


def projection(x, filters, stride, name):
    """Option B of the first paper: a 1x1 convolution and batch norm."""
    return x if keeps_shape(x, filters, stride) else conv_bn(x, filters, 1, stride, name=name)


def bare_projection(x, filters, stride, name):
    """A 1x1 convolution alone: pre-activation networks normalise before it."""
    return x if keeps_shape(x, filters, stride) else conv(x, filters, 1, stride, name=name)


def average_pool(x, filters, stride, name, project=projection):
    """ResNet-D's: average the pixels that a strided 1x1 convolution would skip (He et al. 2018, figure 2c)."""
    if stride > 1:
        # "same" counts no padding, so that an odd edge is an average of real pixels.
        x = layers.AveragePooling2D(2, stride, padding="same", name=f"{name}_pool")(x)
    return project(x, filters, 1, name)


def zero_padding(x, filters, stride, name):
    """Option A of the first paper: every second pixel, and zeros for the channels that are missing; no parameters."""
    if stride > 1:
        x = layers.MaxPooling2D(1, stride, name=f"{name}_subsample")(x)
    missing = filters - x.shape[-1]
    if missing:
        # Read as (batch, channels, height, width), the last two axes are our width and channels: the one layer of
        # Keras that pads channels, has a name and needs no custom code to load.
        pad = layers.ZeroPadding2D(
            ((0, 0), (0, missing)), data_format="channels_first", name=f"{name}_pad"
        )
        x = pad(x)
    return x


SHORTCUTS = {"projection": projection, "average_pool": average_pool, "zero_padding": zero_padding}

# The same for pre-activation networks, which normalise before a shortcut and not in it.
BARE_SHORTCUTS = {
    "projection": bare_projection,
    "average_pool": partial(average_pool, project=bare_projection),
    "zero_padding": zero_padding,
}

# ResNet-D replaces parts of the ordinary network, which its paper calls ResNet-B, by others.
VARIANTS: dict[str, dict[str, str]] = {
    "b": {},
    "d": {"imagenet": "deep", "projection": "average_pool", "zero_padding": "average_pool"},
}

# --- what may follow the last convolution of a branch ---


def squeeze_excitation(y, name, *, ratio):
    """Weigh each channel by what all pixels say (Hu et al. 2018, arXiv:1709.01507, figure 3)."""
    channels = y.shape[-1]
    weights = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_se_squeeze")(y)
    weights = layers.Conv2D(
        max(1, round(ratio * channels)), 1, activation="relu", name=f"{name}_se_reduce"
    )(weights)
    weights = layers.Conv2D(channels, 1, activation="sigmoid", name=f"{name}_se_expand")(weights)
    return layers.Multiply(name=f"{name}_se_scale")([y, weights])


def stochastic_depth(y, name, *, rate):
    """In training, drop the branch of an image at `rate` and scale it up where it stays (arXiv:1603.09382)."""
    return layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{name}_stochastic_depth")(y)
