"""Images and labels of an .npz file with the arrays that keras.datasets gives."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ..class_names import check_class_names
from ..errors import DataWarning, InputError, first_line
from ..files import hash_of, refuse_endless
from ..text import brief
from .dataset import Dataset
from .duplicates import warn_of_duplicates
from .folders import SHARE, first_few
from .memory import shareable
from .splits import InMemory, InStream, height_and_width, load_into_memory

PARTS = ("train", "test")
NAMES = ("x_train", "y_train", "x_test", "y_test")
NUMBER_LABELS = "`y = np.unique([*y_train, *y_test], return_inverse=True)[1]; y_train, y_test = np.split(y, [len(y_train)])`"


class Arrays(NamedTuple):
    """Contents of an .npz file. `images` and `labels` are {"train": array, "test": array}."""

    images: dict[str, np.ndarray]  # uint8 (count, height, width, 1 or 3)
    labels: dict[str, np.ndarray]  # int64 (count,), numbers of `class_names`
    class_names: tuple[str, ...]


def read_npz(path):
    """Read and check the arrays of an .npz file.

    Labels are whole numbers from 0, which name the classes, or text: class names are then the different
    labels, sorted. A `DataWarning` names classes that have no images in x_train or in x_test.

    Returns:
        `Arrays`.

    Raises:
        InputError (a ValueError): not an .npz file with these arrays; images that are not uint8; labels that
            are one-hot, fractions, negative or of another type; one class; more classes without images than
            with some.
    """
    arrays = load_arrays(path)
    images = {part: check_image_array(path, part, arrays[f"x_{part}"]) for part in PARTS}
    labels = {
        part: check_label_array(path, part, arrays[f"y_{part}"], len(images[part]))
        for part in PARTS
    }
    labels, class_names = (
        number_text(path, labels) if has_text(path, labels) else number_integers(path, labels)
    )
    if len(class_names) < 2:
        raise InputError(f"{path} must have two classes or more. Received: {len(class_names)}.")
    return Arrays(images, labels, class_names)


def load_arrays(path):
    """Return {name: array} of the four arrays of an .npz file. Nothing in it is executed."""
    refuse_endless(path)
    name = NAMES[0]
    try:
        with open(path, "rb") as opened, np.load(opened) as file:
            arrays = {}
            for name in NAMES:
                arrays[name] = file[name]
                if not isinstance(
                    arrays[name], np.ndarray
                ):  # NumPy gives the bytes of what does not begin as an array
                    raise ValueError(f"{name} is not an array")
            return arrays
    except FileNotFoundError:
        raise InputError(f"expected an .npz file, got {path}, which does not exist") from None
    except Exception as error:  # a damaged file raises whatever its bytes happen to mean
        if "Object arrays" in str(error):
            kind = "str" if name.startswith("y") else "np.uint8"
            raise InputError(
                f"{name} in {path} must not hold Python objects. Received: dtype object. Save {name}.astype({kind})."
            ) from error
        raise InputError(
            f"expected an .npz file with {', '.join(NAMES)}, got {path}: {first_line(error)}"
        ) from error


def check_image_array(path, part, x):
    """Return images as (count, height, width, channels), or raise InputError."""
    images = x[..., np.newaxis] if x.ndim == 3 else x
    if (
        images.ndim != 4
        or images.shape[-1] not in (1, 3)
        or images.dtype != np.uint8
        or not images.size
    ):
        raise InputError(
            f"x_{part} must be uint8 (images, height, width) or (images, height, width, 1 or 3), of 0-255. "
            f"Received: {x.dtype} {x.shape} in {path}."
        )
    return images


def check_label_array(path, part, y, count):
    """Return one label for each of `count` images: int64 from 0, or text; else raise InputError."""
    name = f"y_{part}"
    if y.size != count:
        one_hot = y.ndim == 2 and len(y) == count
        fix = f" If the labels are one-hot, save np.argmax({name}, axis=1)." if one_hot else ""
        raise InputError(
            f"{name} must have one label for each of {count} images. Received: shape {y.shape} in {path}.{fix}"
        )
    y = y.reshape(-1)
    if y.dtype.kind == "S":
        y = decode_class_names(path, name, y)
    if y.dtype.kind == "U":
        if (y == "").any():
            raise InputError(
                f"{name} in {path} must not have empty labels. Received: {np.sum(y == '')} of {count}."
            )
        return y
    if y.dtype.kind not in "biuf":
        raise InputError(
            f"{name} must be whole numbers from 0, or text. Received: {y.dtype} in {path}."
        )
    wrong = y[~((y >= 0) & (y < 2**63) & (y == np.floor(y)))] if y.dtype.kind != "b" else y[:0]
    if len(wrong):
        raise InputError(
            f"{name} must be whole numbers from 0, the class of each image. Received: {wrong[0]} in {path}. "
            "Save the numbers of the classes as integers."
        )
    return y.astype("int64")


def decode_class_names(path, name, y):
    """Return labels of bytes as text."""
    try:
        return np.char.decode(y, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name} in {path} must be UTF-8 text. Received: {brief(error.object)}. Save it as str."
        ) from None


def has_text(path, labels):
    """Return whether labels are text, or raise InputError if only those of one part are."""
    kinds = {part: "text" if y.dtype.kind == "U" else "numbers" for part, y in labels.items()}
    if len(set(kinds.values())) > 1:
        received = ", ".join(f"y_{part} of {kind}" for part, kind in kinds.items())
        raise InputError(f"The labels in {path} must be of one kind. Received: {received}.")
    return kinds["train"] == "text"


def number_text(path, labels):
    """Return the number of each text label, and the class names: the different labels, sorted."""
    found, numbers = np.unique(
        np.concatenate([labels[part] for part in PARTS]), return_inverse=True
    )
    class_names = check_class_names(found.tolist())
    numbered = dict(zip(PARTS, np.split(numbers, [len(labels["train"])]), strict=True))
    warn_of_absent(path, numbered, class_names, "")
    return numbered, class_names


def number_integers(path, labels):
    """Return the labels as they are, and the class names: all numbers up to the largest label."""
    found = np.unique(np.concatenate([labels[part] for part in PARTS]))
    classes = int(found[-1]) + 1
    if classes > 2 * len(found):
        raise InputError(
            f"Labels must count from 0. Received: {len(found)} labels from {found[0]} to {found[-1]} in {path}. "
            f"Number them with {NUMBER_LABELS}."
        )
    class_names = tuple(map(str, range(classes)))
    warn_of_absent(
        path, labels, class_names, f" Labels count from 0, so there are {classes} classes"
    )
    return labels, class_names


def warn_of_absent(path, labels, class_names, reason):
    """Issue one `DataWarning` that names the classes without images in x_train and in x_test."""
    absent = {
        part: np.setdiff1d(np.arange(len(class_names)), numbers) for part, numbers in labels.items()
    }
    told = [
        f" In x_{part}: {first_few([class_names[number] for number in numbers])}."
        for part, numbers in absent.items()
        if len(numbers)
    ]
    if told:
        warnings.warn(
            f"{Path(path).name} has classes without images.{''.join(told)}{reason}",
            DataWarning,
            stacklevel=2,
        )


def hold_out(path, labels):
    """Choose the training images that validate: a tenth of them, stratified by class.

    A class of one image stays in training. If a tenth is fewer images than there are other classes, it is as
    many as these.

    Args:
        path: of the file, for messages.
        labels: (count,) of the training images.

    Returns:
        Numbers of the images for training and for validation, as two arrays.
    """
    from sklearn.model_selection import train_test_split

    single = np.bincount(labels)[labels] == 1
    rest = np.flatnonzero(~single)
    if not len(rest):
        raise InputError(
            f"Some class must have two images or more, so that one can validate. Received: one for each class in "
            f"x_train of {path}."
        )
    count = max(int(np.ceil(SHARE * len(rest))), len(np.unique(labels[rest])))
    train, validation = train_test_split(
        rest, test_size=count, random_state=0, stratify=labels[rest]
    )
    return np.concatenate([train, np.flatnonzero(single)]), validation


def load_npz(path, image_size):
    images, labels, class_names = read_npz(path)
    train, validation = hold_out(path, labels["train"])
    shape = images["train"].shape[1:]
    image_shape = shape if image_size is None else (*height_and_width(image_size), shape[-1])

    def split(x, y):
        if x.shape[1:] == image_shape:
            return InMemory(shareable(x), y)
        return load_into_memory(
            InStream(tf.data.Dataset.from_tensor_slices((x, y)), len(y), image_shape)
        )

    x, y = images["train"], labels["train"]
    dataset = Dataset(
        Path(path).stem,
        split(x[train], y[train]),
        split(x[validation], y[validation]),
        split(images["test"], labels["test"]),
        class_names,
        image_shape,
        hash_of([*images.values(), *labels.values()]),
    )
    warn_of_duplicates(dataset)
    return dataset
