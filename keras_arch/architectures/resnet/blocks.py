"""Residual blocks, pre-activation blocks and the plain block.

Every block is a function (x, filters, stride, parts, name) -> x.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import layers

from ..layers import bn_relu, conv, conv_bn, conv_bn_relu
from .parts import keeps_shape, projection


class Parts(NamedTuple):
    """The options that all blocks of a network share.

    Attributes:
        shortcut: Function (x, filters, stride, name) -> x that gives x the shape of the residual
            branch. Defaults to the projection of He et al. 2015.
        last_gamma: Initializer of the scale of the last batch norm in each branch. "zeros" makes
            a new block an identity mapping. Defaults to "ones".
        last_kernel: Initializer of the last convolution in each pre-activation branch. "zeros"
            makes a new block an identity mapping. Defaults to "he_normal".
        branch_end: Functions (y, name) -> y that are applied in order at the end of each branch.
            Defaults to none.
    """

    shortcut: Callable = projection
    last_gamma: str = "ones"
    last_kernel: str = "he_normal"
    branch_end: tuple[Callable, ...] = ()

    def end(self, y: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """Apply the functions in `branch_end`."""
        for part in self.branch_end:
            y = part(y, name)
        return y


def basic_block(
    x: keras.KerasTensor, filters: int, stride: int, parts: Parts, name: str
) -> keras.KerasTensor:
    """Build two 3x3 convolutions with a skip connection (He et al. 2015, figure 5, left).

    Args:
        x: Tensor (batch, height, width, channels).
        filters: Number of filters.
        stride: Stride of the first 3x3 convolution, 1 or 2.
        parts: Options that all blocks share.
        name: Prefix of the layer names.

    Returns:
        Tensor (batch, height / stride, width / stride, filters).
    """
    shortcut = parts.shortcut(x, filters, stride, f"{name}_shortcut")
    y = conv_bn_relu(x, filters, 3, stride, name=f"{name}_conv1")
    y = conv_bn(y, filters, 3, gamma_initializer=parts.last_gamma, name=f"{name}_conv2")
    y = parts.end(y, name)
    y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.ReLU(name=f"{name}_out")(y)


def bottleneck_block(
    x: keras.KerasTensor, filters: int, stride: int, parts: Parts, name: str
) -> keras.KerasTensor:
    """Build a bottleneck block: 1x1, 3x3 and 1x1 convolutions (He et al. 2015, figure 5, right).

    The first 1x1 convolution reduces the channels, and the last restores them.

    Args:
        x: Tensor (batch, height, width, channels).
        filters: Number of filters of the first two convolutions. The last has four times as many.
        stride: Stride of the 3x3 convolution, 1 or 2.
        parts: Options that all blocks share.
        name: Prefix of the layer names.

    Returns:
        Tensor (batch, height / stride, width / stride, 4 * filters).
    """
    shortcut = parts.shortcut(x, 4 * filters, stride, f"{name}_shortcut")
    y = conv_bn_relu(x, filters, 1, name=f"{name}_conv1")
    y = conv_bn_relu(y, filters, 3, stride, name=f"{name}_conv2")
    y = conv_bn(y, 4 * filters, 1, gamma_initializer=parts.last_gamma, name=f"{name}_conv3")
    y = parts.end(y, name)
    y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.ReLU(name=f"{name}_out")(y)


def plain_block(
    x: keras.KerasTensor, filters: int, stride: int, parts: Parts, name: str
) -> keras.KerasTensor:
    """Build the basic block without its skip connection (He et al. 2015, figure 3).

    Args:
        x: Tensor (batch, height, width, channels).
        filters: Number of filters.
        stride: Stride of the first 3x3 convolution, 1 or 2.
        parts: Options that all blocks share. Unused.
        name: Prefix of the layer names.

    Returns:
        Tensor (batch, height / stride, width / stride, filters).
    """
    x = conv_bn_relu(x, filters, 3, stride, name=f"{name}_conv1")
    return conv_bn_relu(x, filters, 3, name=f"{name}_conv2")


# --- pre-activation: batch norm and ReLU precede a convolution, skips are identity mappings ---


def preactivation_basic_block(
    x: keras.KerasTensor, filters: int, stride: int, parts: Parts, name: str
) -> keras.KerasTensor:
    """Build two 3x3 convolutions, each after batch norm and ReLU (He et al. 2016, figure 1b).

    Args:
        x: Tensor (batch, height, width, channels).
        filters: Number of filters.
        stride: Stride of the first 3x3 convolution, 1 or 2.
        parts: Options that all blocks share.
        name: Prefix of the layer names.

    Returns:
        Tensor (batch, height / stride, width / stride, filters).
    """
    y = bn_relu(x, name=f"{name}_preact")
    shortcut = parts.shortcut(
        select_skip(x, y, filters, stride), filters, stride, f"{name}_shortcut"
    )
    y = conv(y, filters, 3, stride, name=f"{name}_conv1")
    y = bn_relu(y, name=f"{name}_conv1")
    y = conv(y, filters, 3, kernel_initializer=parts.last_kernel, name=f"{name}_conv2")
    y = parts.end(y, name)
    return layers.Add(name=f"{name}_add")([shortcut, y])


def preactivation_bottleneck_block(
    x: keras.KerasTensor, filters: int, stride: int, parts: Parts, name: str
) -> keras.KerasTensor:
    """Build a pre-activation bottleneck block (He et al. 2016, figure 1b).

    Batch norm and ReLU precede each of the 1x1, 3x3 and 1x1 convolutions.

    Args:
        x: Tensor (batch, height, width, channels).
        filters: Number of filters of the first two convolutions. The last has four times as many.
        stride: Stride of the 3x3 convolution, 1 or 2.
        parts: Options that all blocks share.
        name: Prefix of the layer names.

    Returns:
        Tensor (batch, height / stride, width / stride, 4 * filters).
    """
    y = bn_relu(x, name=f"{name}_preact")
    shortcut = parts.shortcut(
        select_skip(x, y, 4 * filters, stride), 4 * filters, stride, f"{name}_shortcut"
    )
    y = conv(y, filters, 1, name=f"{name}_conv1")
    y = bn_relu(y, name=f"{name}_conv1")
    y = conv(y, filters, 3, stride, name=f"{name}_conv2")
    y = bn_relu(y, name=f"{name}_conv2")
    y = conv(y, 4 * filters, 1, kernel_initializer=parts.last_kernel, name=f"{name}_conv3")
    y = parts.end(y, name)
    return layers.Add(name=f"{name}_add")([shortcut, y])


def select_skip(x, activated, filters, stride):
    """Return the input of the shortcut, as in the paper's code.

    It is x, or the activation of x if the shape changes.
    """
    return x if keeps_shape(x, filters, stride) else activated
