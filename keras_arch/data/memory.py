"""Allocate memory that NumPy and TensorFlow share."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from numpy.typing import DTypeLike

ALIGNMENT = 64  # bytes; TensorFlow shares memory that begins at a multiple of it


def empty_array(shape: Sequence[int], dtype: DTypeLike = "uint8") -> np.ndarray:
    """Return an array like `numpy.empty` whose memory TensorFlow can share."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(count + ALIGNMENT, "uint8")
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + count].view(dtype).reshape(shape)


def align(array: np.ndarray) -> np.ndarray:
    """Return `array` if TensorFlow can share its memory, else a copy that it can share."""
    if array.ctypes.data % ALIGNMENT == 0 and array.flags.c_contiguous and array.flags.writeable:
        return array
    copy = empty_array(array.shape, array.dtype)
    copy[...] = array
    return copy


def shared_tensor(array: np.ndarray) -> tf.Tensor:
    """Return a tensor that shares the memory of an array. `tf.constant` would copy it twice."""
    return tf.experimental.dlpack.from_dlpack(align(array).__dlpack__())
