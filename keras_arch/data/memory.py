"""Memory for images: arrays that TensorFlow shares instead of copying."""

import math

import numpy as np
import tensorflow as tf

ALIGNMENT = 64  # bytes; TensorFlow shares memory that begins at a multiple of it


def empty_array(shape, dtype="uint8"):
    """Return an array like `numpy.empty`, whose memory `shared_tensor` need not copy."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(count + ALIGNMENT, "uint8")
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + count].view(dtype).reshape(shape)


def shareable(array):
    """Return `array` itself if TensorFlow can share its memory, else a copy that it can share."""
    if array.ctypes.data % ALIGNMENT == 0 and array.flags.c_contiguous and array.flags.writeable:
        return array
    copy = empty_array(array.shape, array.dtype)
    copy[...] = array
    return copy


def shared_tensor(array):
    """Return a tensor with the memory of a `shareable` array. `tf.constant` would copy it twice."""
    return tf.experimental.dlpack.from_dlpack(shareable(array).__dlpack__())
