"""Parts of batches: what several processes load is what one process loads."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_arch
from keras_arch.data import splits
from keras_arch.data.dataset import Dataset
from keras_arch.data.order import Part
from keras_arch.data.pipeline import padded_batches, training_batches
from keras_arch.data.splits import InFiles, InMemory, InStream

IMAGES = np.random.default_rng(0).integers(0, 256, (22, 8, 8, 3)).astype("uint8")
LABELS = np.arange(22) % 5
RECIPE = keras_arch.Recipe("resnet8", "x", epochs=2, learning_rate=0.1, batch_size=8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the images as PNG files."""
    folder = tmp_path_factory.mktemp("files")
    paths = [str(folder / f"{number}.png") for number in range(len(IMAGES))]
    for path, image in zip(paths, IMAGES, strict=True):
        Image.fromarray(image).save(path)
    return InFiles(paths, LABELS, (8, 8, 3), np.zeros(len(paths), bool))


@pytest.fixture(params=["memory", "files", "stream"])
def split(request, files):
    if request.param == "files":
        return files
    if request.param == "memory":
        return InMemory(IMAGES, LABELS)
    return InStream(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)), 22, (8, 8, 3))


def load(split, index=0, count=1, **changes):
    """Return the (images, labels) of all batches of a part."""
    data = Dataset("x", split, split, split, tuple("abcde"), (8, 8, 3))
    recipe = dataclasses.replace(RECIPE, **changes)
    return list(training_batches(data, recipe, part=Part(index, count)).as_numpy_iterator())


SLOW = pytest.mark.slow
POLICIES = [
    *("none", "mixup"),
    *(
        pytest.param(name, marks=SLOW)
        for name in ("flip_crop", "inception_crop", "trivial_augment", "cutmix")
    ),
]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_parts_of_a_batch_are_the_batch(split, policy):
    expected = load(split, augment=policy)
    assert len(expected) == 2 * (22 // 8)
    for count in (2, 4):
        parts = [load(split, index, count, augment=policy) for index in range(count)]
        for batch, *loaded in zip(expected, *parts, strict=True):
            for complete, *pieces in zip(batch, *loaded, strict=True):
                assert [len(piece) for piece in pieces] == [8 // count] * count
                np.testing.assert_array_equal(np.concatenate(pieces), complete)


def test_parts_follow_accumulated_batches_and_a_resumed_epoch(split):
    changes = {"batch_size": 4, "accumulate": 2, "augment": "mixup"}
    expected = load(split, **changes)
    assert len(expected) == 2 * 4  # 22 // 4 is 5, the fifth fills no optimizer step
    loaded = load(split, 1, 2, **changes)
    for (images, labels), (own, own_labels) in zip(expected, loaded, strict=True):
        np.testing.assert_array_equal(own, images[2:])
        np.testing.assert_array_equal(own_labels, labels[2:])


def test_a_process_reads_only_its_part_of_the_files(files, monkeypatch):
    read = []

    def read_image(path, *rest):
        read.append(path)
        return np.zeros((8, 8, 3), "uint8")

    monkeypatch.setattr(splits, "read_image", read_image)
    load(files, 1, 4)
    assert len(read) == 2 * 2 * 2  # epochs, batches, images
    read.clear()
    load(files, 0, 4, augment="mixup")
    assert len(read) == 2 * 2 * 3  # and the image that the first one is mixed with


def test_a_process_decodes_only_its_part_of_a_stream():
    decoded = []

    def decode(record):
        decoded.append(record)
        return record

    def decode_image(record):
        return tf.ensure_shape(tf.numpy_function(decode, [record], tf.uint8), (8, 8, 3))

    records = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    load(InStream(records, 22, (8, 8, 3), decode_image), 1, 4)
    assert len(decoded) == 2 * 2 * 2  # epochs, batches, images


def test_slices_are_consecutive_examples(split):
    sliced = split.slice(5, 9)
    assert sliced.count == 4
    images, labels = zip(*sliced.examples.as_numpy_iterator(), strict=True)
    np.testing.assert_array_equal(images, IMAGES[5:9])
    np.testing.assert_array_equal(labels, LABELS[5:9])
    assert split.slice(20, 40).count == 2
    assert split.slice(30, 40).count == 0


@pytest.mark.parametrize(
    ("processes", "devices", "batch"),
    [(1, 2, 4), (2, 2, 4), (3, 6, 256), (8, 8, 8), (4, 4, 256), (12, 12, 24)],
)
def test_padded_batches_have_every_image_once(split, processes, devices, batch):
    parts = [
        list(padded_batches(split, 5, batch, devices, Part(index, processes)).as_numpy_iterator())
        for index in range(processes)
    ]
    sizes = {tuple(len(images) for images, _, _ in part) for part in parts}
    assert len(sizes) == 1  # every process has as many batches, of the same size
    (sizes,) = sizes
    assert len(set(sizes)) == 1
    assert sizes[0] * processes % devices == 0
    assert sizes[0] * processes < batch + devices
    images, labels, weights = (
        np.concatenate([batch[place] for part in parts for batch in part]) for place in range(3)
    )
    real = weights > 0
    np.testing.assert_array_equal(images[real], IMAGES)
    np.testing.assert_array_equal(labels[real], np.eye(5)[LABELS])
    assert not labels[~real].any()
    assert weights.mean() == pytest.approx(1)
    assert len(set(weights[real])) == 1
