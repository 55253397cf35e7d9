"""Blocks: the residual block of 2015, its pre-activation of 2016, each with two or three convolutions, and none.

Every block is (x, filters, stride, parts, name) -> x: branches, merge, return.
"""

from collections.abc import Callable
from typing import NamedTuple

from keras import layers

from ..layers import bn_relu, conv, conv_bn, conv_bn_relu
from .parts import keeps_shape, projection


class Parts(NamedTuple):
    """What a network has decided for its blocks, so that a block holds topology only."""

    shortcut: Callable = (
        projection  # (x, filters, stride, name) -> x in the shape of the residual branch
    )
    last_gamma: str = (
        "ones"  # initial scale of the branch's last batch norm; at zero the block is the identity
    )
    last_kernel: str = "he_normal"  # the same where a convolution is last
    branch_end: tuple[Callable, ...] = ()  # (y, name) -> y, one after the other

    def end(self, y, name):
        for part in self.branch_end:
            y = part(y, name)
        return y


def basic_block(x, filters, stride, parts, name):
    """Two 3x3 convolutions around which the input skips (He et al. 2015, figure 5, left)."""
    shortcut = parts.shortcut(x, filters, stride, f"{name}_shortcut")
    y = conv_bn_relu(x, filters, 3, stride, name=f"{name}_conv1")
    y = conv_bn(y, filters, 3, gamma_initializer=parts.last_gamma, name=f"{name}_conv2")
    y = parts.end(y, name)
    y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.ReLU(name=f"{name}_out")(y)


def bottleneck_block(x, filters, stride, parts, name):
    """A 3x3 convolution between two 1x1 that shrink and restore the channels (He et al. 2015, figure 5, right)."""
    shortcut = parts.shortcut(x, 4 * filters, stride, f"{name}_shortcut")
    y = conv_bn_relu(x, filters, 1, name=f"{name}_conv1")
    y = conv_bn_relu(y, filters, 3, stride, name=f"{name}_conv2")
    y = conv_bn(y, 4 * filters, 1, gamma_initializer=parts.last_gamma, name=f"{name}_conv3")
    y = parts.end(y, name)
    y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.ReLU(name=f"{name}_out")(y)


def plain_block(x, filters, stride, parts, name):
    """The basic block without its skip connection: what a residual network is measured against (2015, figure 3)."""
    x = conv_bn_relu(x, filters, 3, stride, name=f"{name}_conv1")
    return conv_bn_relu(x, filters, 3, name=f"{name}_conv2")


# --- pre-activation: batch norm and ReLU come before a convolution, and nothing touches the skip ---


def preactivation_basic_block(x, filters, stride, parts, name):
    """Two 3x3 convolutions, each behind its batch norm and ReLU (He et al. 2016, figure 1b)."""
    y = bn_relu(x, name=f"{name}_preact")
    shortcut = parts.shortcut(
        add_shortcut(x, y, filters, stride), filters, stride, f"{name}_shortcut"
    )
    y = conv(y, filters, 3, stride, name=f"{name}_conv1")
    y = bn_relu(y, name=f"{name}_conv1")
    y = conv(y, filters, 3, kernel_initializer=parts.last_kernel, name=f"{name}_conv2")
    y = parts.end(y, name)
    return layers.Add(name=f"{name}_add")([shortcut, y])


def preactivation_bottleneck_block(x, filters, stride, parts, name):
    """1x1, 3x3 and 1x1 convolutions, each behind its batch norm and ReLU (He et al. 2016, figure 1b)."""
    y = bn_relu(x, name=f"{name}_preact")
    shortcut = parts.shortcut(
        add_shortcut(x, y, 4 * filters, stride), 4 * filters, stride, f"{name}_shortcut"
    )
    y = conv(y, filters, 1, name=f"{name}_conv1")
    y = bn_relu(y, name=f"{name}_conv1")
    y = conv(y, filters, 3, stride, name=f"{name}_conv2")
    y = bn_relu(y, name=f"{name}_conv2")
    y = conv(y, 4 * filters, 1, kernel_initializer=parts.last_kernel, name=f"{name}_conv3")
    y = parts.end(y, name)
    return layers.Add(name=f"{name}_add")([shortcut, y])


def add_shortcut(x, activated, filters, stride):
    """What skips: the untouched input, or where the shape must change, its activation, as in the paper's own code."""
    return x if keeps_shape(x, filters, stride) else activated
