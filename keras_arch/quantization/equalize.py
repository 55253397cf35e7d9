"""Rescale outlier channels before a training that simulates int8.

A channel of much larger values than the others sets the range of its tensor, so that few of the 256
levels are left for the others. If a ReLU follows, the channel can be divided by a number that the
next layer multiplies with: the model stays the same (Nagel et al. 2019, arXiv:1906.04721, section
4.1). Training alone does not repair such channels, as their gradients are out of scale, too.
"""

from collections.abc import Iterator

import keras
import numpy as np
from keras import layers

from ..keras_private import readers_of
from .copy import activation_of, folds

LIMIT = 4.0  # a channel is an outlier if its scale is this many times the median, or a part of it
# Layers that compute each channel alone, and a scaled output for a scaled input.
HOMOGENEOUS = (
    *(layers.AveragePooling2D, layers.MaxPooling2D, layers.Cropping2D, layers.ZeroPadding2D),
    *(layers.Dropout, layers.SpatialDropout2D),
    *(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D),
)


def equalize_channels(copy: keras.Model, model: keras.Model) -> None:
    """Rescale the outlier channels of a copy. Its outputs without rounding stay the same.

    Args:
        copy: what `quantized_copy` returned.
        model: the `keras.Model` that was copied.
    """
    for first, norm, second in channel_pairs(model):
        before, after = copy.get_layer(first), copy.get_layer(second)
        scale = outlier_scale(before.folded_kernel(), after.kernel)
        kernel = keras.ops.convert_to_numpy(after.kernel)
        after.kernel.assign(kernel * scale[:, np.newaxis])
        if norm is None:
            scaled = before.kernel, before.bias
        else:
            scaled = copy.get_layer(norm).gamma, copy.get_layer(norm).beta
        for variable in scaled:
            if variable is not None:
                variable.assign(keras.ops.convert_to_numpy(variable) / scale)


def channel_pairs(model: keras.Model) -> Iterator[tuple[str, str | None, str]]:
    """Yield layers whose channels can be rescaled: (layer, its batch norm or None, next layer)."""
    readers = {operation.name: after for operation, after in readers_of(model)}
    for operation, after in readers_of(model):
        if type(operation) not in (layers.Conv2D, layers.Dense):
            continue
        norm = after[0] if folds(operation, after) else None
        if norm is not None and not norm.scale:
            continue  # it has no factor to divide
        reader = next_weights(norm or operation, readers)
        if reader is not None:
            yield operation.name, norm and norm.name, reader.name


def next_weights(operation, readers) -> keras.layers.Layer | None:
    """Return the layer with weights that alone reads an operation, through layers that scale."""
    while activation_of(operation) in ("linear", "relu") and len(readers[operation.name]) == 1:
        (operation,) = readers[operation.name]
        if type(operation) is layers.Dense or (
            type(operation) is layers.Conv2D and operation.groups == 1
        ):
            return operation
        if not isinstance(operation, (*HOMOGENEOUS, layers.ReLU, layers.Activation)):
            return None
    return None


def outlier_scale(kernel, next_kernel) -> np.ndarray:
    """Return the number to divide each channel by, 1 for channels that are no outliers.

    Args:
        kernel: weights (..., channels) that compute the channels.
        next_kernel: weights (..., channels, outputs) that read them.
    """
    kernel, next_kernel = map(keras.ops.convert_to_numpy, (kernel, next_kernel))
    size = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
    next_axes = (*range(next_kernel.ndim - 2), next_kernel.ndim - 1)
    next_size = np.abs(next_kernel).max(axis=next_axes)
    used = (size > 0) & (next_size > 0)
    scale = np.ones(len(size), "float32")
    if used.any():
        scale[used] = np.sqrt(size[used] / next_size[used])
        scale[used] /= np.median(scale[used])
    scale[(scale <= LIMIT) & (scale >= 1 / LIMIT)] = 1
    return scale
