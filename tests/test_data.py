"""Data: digits as scikit-learn has them, splits apart, augmentation by a second way of computing, refusals."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import keras_arch
from keras_arch.data import split_instructions
from keras_arch.data.pipeline import random_crop, random_flip, resize, training_batches


def images_of(split):
    return [image.tobytes() for image, _ in split.as_numpy_iterator()]


def test_digits_are_scikit_learns_and_the_splits_are_apart(digits):
    assert digits.sizes == {"train": 1293, "validation": 144, "test": 360}
    assert digits.class_names == tuple("0123456789")
    assert digits.image_shape == (8, 8, 1)
    everything = load_digits()
    expected = {
        image.tobytes(): label
        for image, label in zip(np.round(everything.images * 255 / 16).astype("uint8"), everything.target, strict=True)
    }
    found = [pair for split in (digits.train, digits.validation, digits.test) for pair in split.as_numpy_iterator()]
    assert len(found) == len({image.tobytes() for image, _ in found}) == len(expected) == 1797
    assert all(expected[image.tobytes()] == label for image, label in found)


def test_splits_stay_the_same(digits, tmp_path):
    again = keras_arch.load_dataset("digits", tmp_path)
    for split in ("train", "validation", "test"):
        assert images_of(getattr(again, split)) == images_of(getattr(digits, split))


class Split:
    def __init__(self, count):
        self.num_examples = count


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": 1000, "test": 10}, ("train[:-100]", "train[-100:]", "test")),
        ({"train": 1000, "validation": 10, "test": 10}, ("train", "validation", "test")),
        ({"train": 1_281_167, "validation": 50_000}, ("train[:-10000]", "train[-10000:]", "validation")),
        ({"train": 1000}, ("train[:-200]", "train[-200:-100]", "train[-100:]")),
    ],
)
def test_rule_for_splits(splits, expected):
    assert split_instructions("x", {name: Split(count) for name, count in splits.items()}) == expected


def test_training_batches_are_repeatable_and_change_by_epoch(digits):
    recipe = keras_arch.RECIPES["quickstart"]
    runs = [
        [[images.copy() for images, _ in batches.as_numpy_iterator()] for _ in range(2)]
        for batches in (training_batches(digits, recipe), training_batches(digits, recipe))
    ]
    np.testing.assert_array_equal(np.concatenate(runs[0][0]), np.concatenate(runs[1][0]))
    np.testing.assert_array_equal(np.concatenate(runs[0][1]), np.concatenate(runs[1][1]))
    assert (np.concatenate(runs[0][0]) != np.concatenate(runs[0][1])).any()


def test_crop_cuts_every_image_from_its_padded_self():
    images = np.random.default_rng(0).integers(1, 256, (64, 16, 16, 3)).astype("uint8")
    cropped = random_crop(tf.constant(images), (1, 2)).numpy()
    places = set()
    for before, after in zip(images, cropped, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)))
        found = [(y, x) for y in range(5) for x in range(5) if (padded[y : y + 16, x : x + 16] == after).all()]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 15  # of 25


def test_flip_mirrors_about_half():
    images = np.random.default_rng(0).integers(0, 256, (200, 4, 4, 1)).astype("uint8")
    flipped = random_flip(tf.constant(images), (1, 2)).numpy()
    mirrored = [(after == before[:, ::-1]).all() for before, after in zip(images, flipped, strict=True)]
    same = [(after == before).all() for before, after in zip(images, flipped, strict=True)]
    assert sum(mirrored) + sum(same) == 200
    assert 70 < sum(mirrored) < 130


def test_resize_takes_the_centre_of_the_shorter_side():
    wide = np.zeros((10, 30, 1), "uint8")
    wide[:, 10:20] = 200
    np.testing.assert_array_equal(resize(tf.constant(wide), (10, 10, 1)), 200)
    assert resize(tf.zeros((7, 9, 3), tf.uint8), (32, 32, 3)).dtype == tf.uint8
    assert resize(tf.zeros((700, 33, 3), tf.uint8), (32, 32, 3)).shape == (32, 32, 3)


def test_image_size(data_dir):
    assert keras_arch.load_dataset("digits", data_dir, image_size=16).image_shape == (16, 16, 1)


def test_fashion_mnist(pytestconfig):
    shared = pytestconfig.rootpath.parent / "shared" / "datasets"
    if not (shared / "fashion_mnist").is_dir():
        pytest.skip(f"no prepared Fashion-MNIST in {shared}")
    dataset = keras_arch.load_dataset("fashion_mnist", shared)
    assert dataset.sizes == {"train": 54_000, "validation": 6_000, "test": 10_000}
    assert dataset.class_names[9] == "Ankle boot"
    assert dataset.image_shape == (28, 28, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion_mnst", "did you mean .*fashion_mnist"),
        ("mnist:9.9.9", "version and config of 'mnist' that TFDS has"),
        ("imdb_reviews", "image classification set"),
    ],
)
def test_unknown_names(name, message, tmp_path):
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.load_dataset(name, tmp_path)
    assert list(tmp_path.iterdir()) == []
