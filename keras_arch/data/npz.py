"""Load images and labels from an .npz file with the arrays of keras.datasets."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ..class_names import check_class_names
from ..errors import DataWarning, InputError, first_line
from ..files import hash_of, refuse_pipe
from ..text import brief, join_first
from .dataset import Dataset
from .duplicates import warn_of_duplicates
from .folder_splits import HELD_OUT_SHARE
from .memory import align
from .splits import InMemory, InStream, height_and_width, load_into_memory

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
NUMBER_LABELS = (
    "`y = np.unique([*y_train, *y_test], return_inverse=True)[1]; "
    "y_train, y_test = np.split(y, [len(y_train)])`"
)


class LabeledImages(NamedTuple):
    """The images and labels of training or test."""

    images: np.ndarray  # uint8 (count, height, width, 1 or 3)
    labels: np.ndarray  # int64 (count,), indices of the class names; str until they are numbered


class Arrays(NamedTuple):
    """The contents of an .npz file."""

    train: LabeledImages
    test: LabeledImages
    class_names: tuple[str, ...]


def read_npz(path: str | Path) -> Arrays:
    """Read and check the arrays of an .npz file.

    Labels are integers from 0 or text. Class names of text labels are the different labels, sorted.
    A `DataWarning` lists classes that have no images in x_train or x_test.

    Raises:
        InputError (a ValueError): the file lacks an array; images are not uint8; labels are
            one-hot, fractional, negative or of another type; there is one class; or most classes
            have no images.
    """
    x_train, y_train, x_test, y_test = load_arrays(path)
    train = check_part(path, "train", x_train, y_train)
    test = check_part(path, "test", x_test, y_test)
    number = number_text if has_text(path, train.labels, test.labels) else number_integers
    train_labels, test_labels, class_names = number(path, train.labels, test.labels)
    if len(class_names) < 2:
        raise InputError(f"{path} must have two classes or more. Received: {len(class_names)}.")
    return Arrays(
        train._replace(labels=train_labels), test._replace(labels=test_labels), class_names
    )


def load_arrays(path: str | Path) -> list[np.ndarray]:
    """Load the four `ARRAYS` of an .npz file. Python objects in it are not unpickled."""
    refuse_pipe(path)
    name = ARRAYS[0]
    try:
        with open(path, "rb") as opened, np.load(opened) as file:
            arrays = []
            for name in ARRAYS:
                array = file[name]
                if not isinstance(array, np.ndarray):  # NumPy returns bytes if there is no header
                    raise ValueError(f"{name} is not an array")
                arrays.append(array)
            return arrays
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Pass an existing .npz file.") from None
    except Exception as error:  # a damaged file can raise any exception
        if "Object arrays" in str(error):
            kind = "str" if name.startswith("y") else "np.uint8"
            raise InputError(
                f"{name} in {path} must not have Python objects. Received: dtype object. "
                f"Save {name}.astype({kind})."
            ) from error
        raise InputError(
            f"{path} must be an .npz file with {', '.join(ARRAYS)}. Received: {first_line(error)}."
        ) from error


def check_part(path: str | Path, part: str, x: np.ndarray, y: np.ndarray) -> LabeledImages:
    """Return the images and labels of "train" or "test" in their standard shapes."""
    images = check_images(path, f"x_{part}", x)
    return LabeledImages(images, check_labels(path, f"y_{part}", y, len(images)))


def check_images(path: str | Path, name: str, x: np.ndarray) -> np.ndarray:
    """Return images as (count, height, width, channels), or raise InputError."""
    images = x[..., np.newaxis] if x.ndim == 3 else x
    if (
        images.ndim != 4
        or images.shape[-1] not in (1, 3)
        or images.dtype != np.uint8
        or not images.size
    ):
        raise InputError(
            f"{name} must be uint8 (images, height, width) or (images, height, width, 1 or 3) of "
            f"0-255. Received: {x.dtype} {x.shape} in {path}."
        )
    return images


def check_labels(path: str | Path, name: str, y: np.ndarray, count: int) -> np.ndarray:
    """Return one label per image, int64 from 0 or text, or raise InputError."""
    if y.size != count:
        one_hot = y.ndim == 2 and len(y) == count
        fix = f" If the labels are one-hot, save np.argmax({name}, axis=1)." if one_hot else ""
        raise InputError(
            f"{name} must have one label for each of {count} images. "
            f"Received: shape {y.shape} in {path}.{fix}"
        )
    y = y.reshape(-1)
    if y.dtype.kind == "S":
        y = decode_text(path, name, y)
    if y.dtype.kind == "U":
        if (y == "").any():
            raise InputError(
                f"{name} in {path} must not have empty labels. "
                f"Received: {np.sum(y == '')} of {count}."
            )
        return y
    if y.dtype.kind not in "biuf":
        raise InputError(f"{name} must be integers from 0, or text. Received: {y.dtype} in {path}.")
    wrong = y[~((y >= 0) & (y < 2**63) & (y == np.floor(y)))] if y.dtype.kind != "b" else y[:0]
    if len(wrong):
        raise InputError(
            f"{name} must be integers from 0, the class of each image. "
            f"Received: {wrong[0]} in {path}. Save the class indices as integers."
        )
    return y.astype("int64")


def decode_text(path: str | Path, name: str, y: np.ndarray) -> np.ndarray:
    """Decode labels that are bytes to text."""
    try:
        return np.char.decode(y, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} in {path} must be UTF-8 text. Received: {brief(error.object)}. Save it as str."
        ) from None


def has_text(path: str | Path, y_train: np.ndarray, y_test: np.ndarray) -> bool:
    """Return whether labels are text. Raise InputError if only those of one part are."""
    train, test = ("text" if y.dtype.kind == "U" else "numbers" for y in (y_train, y_test))
    if train != test:
        raise InputError(
            f"The labels in {path} must be of one kind. "
            f"Received: y_train of {train}, y_test of {test}."
        )
    return train == "text"


def number_text(
    path: str | Path, y_train: np.ndarray, y_test: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return the labels of training and test as integers, and the sorted different labels."""
    names, indices = np.unique(np.concatenate([y_train, y_test]), return_inverse=True)
    class_names = check_class_names(names.tolist())
    train, test = np.split(indices, [len(y_train)])
    warn_of_absent_classes(path, train, test, class_names)
    return train, test, class_names


def number_integers(
    path: str | Path, y_train: np.ndarray, y_test: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return the labels unchanged, and the integers up to the largest label as class names."""
    values = np.unique(np.concatenate([y_train, y_test]))
    classes = int(values[-1]) + 1
    if classes > 2 * len(values):
        raise InputError(
            f"Labels must count from 0. Received: {len(values)} labels from {values[0]} to "
            f"{values[-1]} in {path}. Number them with {NUMBER_LABELS}."
        )
    class_names = tuple(map(str, range(classes)))
    reason = f" Labels count from 0, so there are {classes} classes."
    warn_of_absent_classes(path, y_train, y_test, class_names, reason)
    return y_train, y_test, class_names


def warn_of_absent_classes(
    path: str | Path,
    y_train: np.ndarray,
    y_test: np.ndarray,
    class_names: Sequence[str],
    reason: str = "",
) -> None:
    """Issue one `DataWarning` that lists the classes without images in x_train and in x_test."""
    absent = ""
    for name, labels in (("x_train", y_train), ("x_test", y_test)):
        indices = np.setdiff1d(np.arange(len(class_names)), labels)
        if len(indices):
            absent += f" In {name}: {join_first([class_names[index] for index in indices])}."
    if absent:
        warnings.warn(
            f"{Path(path).name} has classes without images.{absent}{reason}",
            DataWarning,
            stacklevel=2,
        )


def choose_validation(path: str | Path, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose the training images for validation: a tenth, stratified by class.

    A class of one image stays in training. Each other class has at least one validation image.

    Args:
        path: path of the file, for messages.
        labels: labels of the training images, int64 (count,).

    Returns:
        Indices of the images for training and of those for validation.
    """
    from sklearn.model_selection import train_test_split

    single = np.bincount(labels)[labels] == 1
    rest = np.flatnonzero(~single)
    if not len(rest):
        raise InputError(
            "At least one class must have two images or more, one of them for validation. "
            f"Received: one image per class in x_train of {path}."
        )
    count = max(int(np.ceil(HELD_OUT_SHARE * len(rest))), len(np.unique(labels[rest])))
    train, validation = train_test_split(
        rest, test_size=count, random_state=0, stratify=labels[rest]
    )
    # With very different class sizes, scikit-learn can leave a small class out of the validation.
    absent = np.setdiff1d(labels[rest], labels[validation])
    moved = np.array([np.flatnonzero(labels[train] == label)[0] for label in absent], int)
    validation = np.concatenate([validation, train[moved]])
    return np.concatenate([np.delete(train, moved), np.flatnonzero(single)]), validation


def load_npz(path: str | Path, image_size: int | tuple[int, int] | None) -> Dataset:
    """Load an .npz file. The arguments are those of `load_dataset`."""
    (x, y), test, class_names = read_npz(path)
    train, validation = choose_validation(path, y)
    shape = x.shape[1:]
    image_shape = shape if image_size is None else (*height_and_width(image_size), shape[-1])

    def split(images, labels):
        if images.shape[1:] == image_shape:
            return InMemory(align(images), labels)
        records = tf.data.Dataset.from_tensor_slices((images, labels))
        return load_into_memory(InStream(records, len(labels), image_shape))

    dataset = Dataset(
        Path(path).stem,
        split(x[train], y[train]),
        split(x[validation], y[validation]),
        split(*test),
        class_names,
        image_shape,
        hash_of([x, test.images, y, test.labels]),
    )
    warn_of_duplicates(dataset)
    return dataset
