"""Memory: images are not copied, and the limits of containers apply."""

import hashlib
import tracemalloc

import numpy as np
import psutil
import pytest
import tensorflow as tf
from PIL import Image

import keras_arch
from keras_arch import machine
from keras_arch.data import check, memory
from keras_arch.data.augment import POLICIES
from keras_arch.data.splits import InMemory, InStream
from keras_arch.files import hash_of
from keras_arch.machine import total_memory

GIB = 2**30


def test_images_are_not_copied():
    """Reading all batches and examples takes less than a quarter of the size of the images."""
    images = memory.empty_array((3000, 128, 128, 3))
    images[:] = np.arange(3000, dtype="uint8").reshape(-1, 1, 1, 1)
    split = InMemory(images, np.arange(3000))
    process = psutil.Process()
    before = process.memory_info().rss
    batches = iter(split.batches(0, tf.data.Dataset.range(1), 64, POLICIES["none"]))
    for found, labels, _ in (next(batches), next(batches)):
        np.testing.assert_array_equal(found[:, 5, 7, 1], labels % 256)
    for found, label in split.examples.skip(2990).as_numpy_iterator():
        assert found[0, 0, 0] == label % 256
    assert process.memory_info().rss - before < images.nbytes / 4


@pytest.mark.parametrize(
    "array",
    [np.arange(24).reshape(2, 3, 4), np.arange(5, dtype="uint8")[::2], np.zeros((0, 2, 2, 1))],
)
def test_shared_tensors_equal_any_array(array):
    array = array.copy()
    array.flags.writeable = False
    np.testing.assert_array_equal(memory.shared_tensor(array), array)


def test_empty_arrays_are_shared():
    array = memory.empty_array((2, 3), "int64")
    array[:] = 5
    tensor = memory.shared_tensor(array)
    array[1, 2] = 6
    np.testing.assert_array_equal(tensor, [[5, 5, 5], [5, 5, 6]])


def test_an_image_folder_is_read_without_a_copy(tmp_path, monkeypatch):
    """At its peak, NumPy holds the images and those that threads have just read."""
    monkeypatch.setattr(check, "CACHE", tmp_path / "memory")
    for number in range(40):
        path = tmp_path / "pictures" / "ab"[number % 2] / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2), (number, 0, 0)).save(path)
    keras_arch.load_dataset(tmp_path / "pictures", image_size=256)
    tracemalloc.start()
    dataset = keras_arch.load_dataset(tmp_path / "pictures", image_size=256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(getattr(dataset, split).images.nbytes for split in dataset.sizes)
    assert size == 40 * 256 * 256 * 3
    assert peak < 1.4 * size


def test_hash_of_arrays_is_the_hash_of_their_bytes():
    arrays = [np.arange(6, dtype="float32").reshape(2, 3).T, np.array(7), np.zeros((0, 3))]
    assert (
        hash_of(arrays) == hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    )


# --- memory limits ---


@pytest.fixture
def cgroups(tmp_path, monkeypatch):
    """Function that writes /proc/self/cgroup and files of limits."""

    def write(own, limits):
        (tmp_path / "own").write_text(own)
        for name, content in limits.items():
            (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "cgroup" / name).write_text(content)

    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "OWN_CGROUPS", tmp_path / "own")
    return write


V1 = "12:cpu,cpuacct:/x\n5:memory:/docker/abc\n1:name=systemd:/docker/abc\n"
UNLIMITED = "9223372036854771712\n"


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": "1073741824\n"}, GIB),  # version 2 in a container
        ("0::/\n", {"memory.max": "max\n"}, None),
        (
            "0::/a/b\n",
            {"a/memory.max": "1073741824\n", "a/b/memory.max": "max\n"},
            GIB,
        ),  # a parent group
        ("0::/a/b\n", {"a/memory.max": "2147483648\n", "a/b/memory.max": "1073741824\n"}, GIB),
        (V1, {"memory/memory.limit_in_bytes": "1073741824\n"}, GIB),  # version 1 in a container
        (
            V1,
            {
                "memory/docker/abc/memory.limit_in_bytes": "1073741824\n",
                "memory/memory.limit_in_bytes": UNLIMITED,
            },
            GIB,
        ),
        (V1, {"memory/memory.limit_in_bytes": UNLIMITED, "memory.max": "5\n"}, None),
        ("", {"memory.max": "5\n"}, None),
    ],
)
def test_the_limit_of_a_container(cgroups, own, limits, expected):
    cgroups(own, limits)
    assert total_memory() == (expected or psutil.virtual_memory().total)


def test_no_limit_without_cgroups(cgroups):
    assert total_memory() == psutil.virtual_memory().total


@pytest.mark.parametrize(("missing", "kind"), [(0, InMemory), (4, InStream)])
def test_images_in_memory_take_at_most_a_quarter_of_the_limit(cgroups, data_dir, missing, kind):
    """Digits take 1,797 x 64 bytes."""
    cgroups("0::/\n", {"memory.max": str(4 * 1797 * 64 - missing)})
    assert isinstance(keras_arch.load_dataset("digits", data_dir).train, kind)
