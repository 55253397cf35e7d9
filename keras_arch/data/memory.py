"""Memory for images: how much there is, and arrays that TensorFlow shares instead of copying."""

import math
from pathlib import Path

import numpy as np
import psutil
import tensorflow as tf

ALIGNMENT = 64  # bytes; TensorFlow shares memory that begins at a multiple of it
CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def total_memory():
    """Return the bytes of memory that this process may use: the machine's, or less if its control group (cgroup) says so."""
    return min([psutil.virtual_memory().total, *cgroup_limits()])


def cgroup_limits():
    """Return the memory limits in bytes of this process's control groups of Linux, version 1 and 2, and of those above."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # another operating system
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += limits_of(CGROUPS, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += limits_of(CGROUPS / "memory", path, "memory.limit_in_bytes")
    return found


def limits_of(root, path, file):
    """Return the numbers in the files called `file` in the folder `path` below `root` and in those above it, up to `root`."""
    # In a container, `path` may be that of the host, which is not there: the container's own group is then `root`.
    place = root / path.lstrip("/")
    contents = []
    for folder in (place, *place.parents[: len(place.parts) - len(root.parts)]):
        try:
            contents.append((folder / file).read_text().strip())
        except OSError:
            continue
    return [int(content) for content in contents if content.isdigit()]  # "max" is no limit


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
