"""Labels of .npz files: types, class names and validation images."""

import re

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

import keras_arch
from keras_arch.errors import DataWarning

CLEAN = np.arange(60) % 3
WORDS = np.array(["dog", "ant", "cat"])


@pytest.fixture
def load(tmp_path):
    """Function that loads an .npz file of different grayscale images with the given labels."""

    def load(y_train, y_test, **changes):
        y_train, y_test = np.asarray(y_train), np.asarray(y_test)
        images = (
            np.arange((len(y_train) + len(y_test)) * 4, dtype=">u4").view("uint8").reshape(-1, 4, 4)
        )
        arrays = {"x_train": images[: len(y_train)], "x_test": images[len(y_train) :]}
        np.savez(tmp_path / "a.npz", **{**arrays, "y_train": y_train, "y_test": y_test, **changes})
        return keras_arch.load_dataset(tmp_path / "a.npz")

    return load


@pytest.mark.parametrize("dtype", ["uint8", "int64", "uint64", "bool", "float32", "float64"])
def test_integers_of_any_type_are_labels(load, dtype):
    labels = np.arange(40) % 2
    dataset = load(labels.astype(dtype), labels[:10].astype(dtype)[:, None])
    assert dataset.class_names == ("0", "1")
    assert dataset.test.labels.dtype == "int64"
    np.testing.assert_array_equal(dataset.test.labels, labels[:10])


@pytest.mark.parametrize("encode", [np.asarray, np.char.encode])
def test_text_labels_are_class_names(load, encode):
    dataset = load(encode(WORDS[CLEAN]), encode(np.array(["cat", "dog", "dog", "ant"])))
    assert dataset.class_names == ("ant", "cat", "dog")
    assert dataset.test.labels.tolist() == [1, 2, 2, 0]
    names = np.array(dataset.class_names)
    kept = np.concatenate([dataset.train.labels, dataset.validation.labels])
    assert sorted(names[kept]) == sorted(WORDS[CLEAN])


ONE_HOT = np.eye(3)[CLEAN]
INVALID = {
    "one-hot": (
        ONE_HOT,
        ONE_HOT[:9],
        {},
        r"y_train .*Received: shape \(60, 3\).*np.argmax\(y_train, axis=1\)",
    ),
    "one-hot in test": (
        CLEAN,
        ONE_HOT[:9],
        {},
        r"y_test .*Received: shape \(9, 3\).*np.argmax\(y_test, axis=1\)",
    ),
    "fractions": (CLEAN / 2, CLEAN[:9], {}, r"y_train .*integers from 0.*Received: 0.5"),
    "no number": (
        np.where(CLEAN, 1, np.nan),
        CLEAN[:9],
        {},
        r"y_train .*integers from 0.*Received: nan",
    ),
    "infinite": (CLEAN, [np.inf, 1], {}, r"y_test .*integers from 0.*Received: inf"),
    "complex": (CLEAN * 1j, CLEAN[:9], {}, r"y_train .*Received: complex128"),
    "dates": (CLEAN.astype("M8[s]"), CLEAN[:9], {}, r"y_train .*Received: datetime64\[s\]"),
    "objects": (
        WORDS[CLEAN].astype(object),
        WORDS,
        {},
        r"y_train .*Python objects.*y_train\.astype\(str\)",
    ),
    "negative": (CLEAN - 1, CLEAN[:9], {}, r"y_train .*Received: -1"),
    "a line break": (
        np.where(CLEAN, "a\nb", "c"),
        ["c"],
        {},
        r"Class names must be .*Received: 'a\\nb'",
    ),
    "one huge": (
        [*CLEAN, 10**15],
        CLEAN[:9],
        {},
        r"4 labels from 0 to 1000000000000000.*return_inverse=True",
    ),
    "beyond int64": (
        np.array([*CLEAN, 2**64 - 1], "uint64"),
        CLEAN[:9],
        {},
        r"18446744073709551615",
    ),
    "huge float": ([*CLEAN, 1e300], CLEAN[:9], {}, r"y_train .*Received: 1e\+300"),
    "gaps": (
        5 + 100 * (np.arange(90) % 10),
        [5, 905],
        {},
        r"10 labels from 5 to 905.*return_inverse=True",
    ),
    "text and numbers": (
        WORDS[CLEAN],
        CLEAN[:9],
        {},
        r"one kind.*y_train of text, y_test of numbers",
    ),
    "empty text": (["", "a", "b"] * 20, ["a"], {}, r"y_train .*empty"),
    "not UTF-8": (np.array([b"\xff", b"a"] * 20), [b"a"], {}, r"y_train .*UTF-8"),
    "one class": (np.zeros(60, int), np.zeros(9, int), {}, r"two classes .*Received: 1"),
    "no pair": (np.arange(10), np.arange(10), {}, r"two images or more.*x_train"),
    "too few labels": (
        CLEAN,
        CLEAN[:9],
        {"x_train": np.zeros((61, 4, 4), "uint8")},
        r"61 images.*Received: shape \(60,\)",
    ),
    "no pixels": (
        CLEAN,
        CLEAN[:9],
        {"x_train": np.zeros((60, 0, 4), "uint8")},
        r"x_train .*uint8 \(60, 0, 4\)",
    ),
    "channels first": (
        CLEAN,
        CLEAN[:9],
        {"x_test": np.zeros((9, 3, 4, 4), "uint8")},
        r"x_test .*\(9, 3, 4, 4\)",
    ),
}


@pytest.mark.parametrize("case", INVALID)
def test_invalid_arrays_are_an_error_of_one_line(load, case, tmp_path):
    y_train, y_test, changes, message = INVALID[case]
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        load(y_train, y_test, **changes)
    (line,) = str(refused.value).splitlines()
    assert len(line) < 300 + len(str(tmp_path))


def test_the_fix_for_gaps_works(load):
    y_train, y_test = 5 + 100 * (np.arange(90) % 10), np.array([905, 5])
    with pytest.raises(keras_arch.InputError) as refused:
        load(y_train, y_test)
    names = {"np": np, "y_train": y_train, "y_test": y_test}
    exec(re.search("`(.*)`", str(refused.value))[1], names)
    with pytest.warns(DataWarning):  # of the eight classes without test images
        dataset = load(names["y_train"], names["y_test"])
    assert len(dataset.class_names) == 10
    assert dataset.test.labels.tolist() == [9, 0]


def test_classes_without_images_cause_a_warning(load):
    """Labels from 1 make a class 0 without images."""
    with pytest.warns(DataWarning) as warned:
        dataset = load(1 + np.arange(40) % 2, [1])
    assert dataset.class_names == ("0", "1", "2")
    assert [str(one.message) for one in warned] == [
        "a.npz has classes without images. In x_train: 0. In x_test: 0, 2. Labels count from 0, so there are 3 classes."
    ]
    with pytest.warns(DataWarning, match=r"In x_train: zebra\.$"):
        load(WORDS[CLEAN], ["ant", "zebra", "dog", "cat"])
    with pytest.warns(DataWarning, match=r"In x_test: 3, 4, 5 and 4 more\."):
        load(np.arange(100) % 10, [0, 1, 2])


@pytest.mark.parametrize("repeats", [[1, 40, 40], [1, 1, 40], [2, 1, 2]])
def test_a_class_of_one_image_stays_in_training(load, repeats):
    labels = np.repeat(np.arange(3), repeats)
    dataset = load(labels, [0, 1, 2])
    assert set(dataset.train.labels) == {0, 1, 2}
    held_out = dataset.validation.labels
    assert {label for label, count in enumerate(repeats) if count == 1} & set(held_out) == set()
    together = np.concatenate([dataset.train.labels, held_out])
    np.testing.assert_array_equal(np.bincount(together), repeats)
    images = {
        image.tobytes() for split in (dataset.train, dataset.validation) for image in split.images
    }
    assert len(images) == len(labels)


def test_each_small_class_has_a_validation_image(load):
    """A tenth of ten classes of five images is fewer images than classes."""
    labels = np.arange(50) % 10
    dataset = load(labels, labels[:10])
    assert sorted(dataset.validation.labels) == list(range(10))
    np.testing.assert_array_equal(np.bincount(dataset.train.labels), [4] * 10)


@pytest.mark.parametrize("rare", [2, 3, 4])
def test_a_rare_class_has_a_validation_image(load, rare):
    labels = np.repeat([0, 1], [1000, rare])
    dataset = load(labels, [0, 1])
    assert np.bincount(dataset.validation.labels)[1] == 1
    together = np.concatenate([dataset.train.labels, dataset.validation.labels])
    np.testing.assert_array_equal(np.bincount(together), [1000, rare])


def test_validation_images_do_not_change_between_versions(load):
    labels = np.random.default_rng(0).integers(0, 3, 200)
    dataset = load(labels, labels[:9])
    train, validation = train_test_split(
        np.arange(200), test_size=0.1, random_state=0, stratify=labels
    )
    numbers = np.arange(200 * 4, dtype=">u4").view("uint8").reshape(-1, 4, 4, 1)
    np.testing.assert_array_equal(dataset.train.images, numbers[train])
    np.testing.assert_array_equal(dataset.validation.images, numbers[validation])
