"""Convert arrays and `tf.data` pipelines to a `Dataset` for training."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ..class_names import check_class_names
from ..errors import InputError, first_line
from ..text import shorten
from .dataset import Dataset
from .memory import align
from .order import RANDOM_NUMBERS, without_autotuning
from .splits import THREADS, InMemory

if TYPE_CHECKING:
    from .augment import Policy

FORMS = (
    "a keras_arch.Dataset, ((x_train, y_train), (x_val, y_val)) of arrays, or a pair of "
    "tf.data.Dataset"
)
FIX_CARDINALITY = "dataset.apply(tf.data.experimental.assert_cardinality(n))"
# In messages of TensorFlow: those of `checked_batches`, and those of assert_cardinality.
INVALID_BATCH = re.compile(r"\[(The [a-z ]*(?:train|validation) data must have .*?\.)\]")
UNREADABLE_IMAGE = re.compile(r"InputError: (.+)")  # a file that has changed since it was found
MISSING_FILE = re.compile(r"(?:^|\}\} )([^{}]*); No such file or directory")
INVALID_COUNT = re.compile(r"expected to contain (\d+) elements? but contained (\D+ \d+) element")


@dataclass(frozen=True)
class InBatches:
    """A training or validation split of a `tf.data.Dataset`, with its batches in their order.

    It has the members of the other splits (see splits.py) that `fit` uses.

    Args:
        dataset: `tf.data.Dataset` of (images, labels): uint8 or float32 images
            (batch, height, width, channels) of 0-255 and integer labels (batch,).
        steps: number of batches.
    """

    dataset: tf.data.Dataset
    steps: int

    @cached_property
    def first(self) -> tuple[np.ndarray, np.ndarray]:
        """The images and labels of the first batch."""
        return next(iter(self.dataset.take(1).as_numpy_iterator()))

    @property
    def batch_size(self) -> int:
        """The number of images in the first batch."""
        return len(self.first[1])

    @property
    def count(self) -> int:
        """The number of images if all batches are as large as the first one."""
        return self.steps * self.batch_size

    @property
    def labels(self) -> np.ndarray:
        """The labels, int64. All batches are read."""
        batches = self.dataset.map(lambda _, labels: labels).as_numpy_iterator()
        return np.concatenate(list(batches)).astype("int64")

    def sample(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first images and labels, at most `count`. The seed has no effect."""
        del seed
        images, labels = self.first
        return images[:count], labels[:count]

    def batches(
        self,
        seed: int,
        epochs: tf.data.Dataset,
        batch_size: int,
        policy: "Policy",
        rows: None = None,
    ) -> tf.data.Dataset:
        """Return all batches of `epochs`: (images, labels, random numbers).

        `batch_size` and `rows` have no effect. The random numbers are a function of seed, epoch,
        step and position in the batch.
        """
        del batch_size, rows

        shape = self.first[0].shape[1:]

        def load(epoch, step, images, labels):
            images, count = tf.ensure_shape(images, (None, *shape)), tf.shape(labels)[0]
            random = tf.random.stateless_uniform(
                (count, RANDOM_NUMBERS), [tf.cast(seed, tf.int64), epoch * self.steps + step]
            )
            if policy.box is not None:
                boxes = policy.box(random, *shape[:2])
                images = tf.image.crop_and_resize(images, boxes, tf.range(count), shape[:2])
            return images, labels, random

        def one_epoch(epoch):
            return self.dataset.enumerate().map(
                lambda step, batch: load(epoch, step, *batch), num_parallel_calls=THREADS
            )

        return without_autotuning(epochs.flat_map(one_epoch))


def to_dataset(data: Any, classes: int) -> Dataset:
    """Return training data as a `Dataset`. A `Dataset` is returned unchanged.

    Args:
        data: a `Dataset`, a pair of pairs of arrays, or a pair of `tf.data.Dataset`.
        classes: number of classes of the model.

    Raises:
        InputError (a ValueError): `data` has another form, or images or labels are not valid.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, (tuple, list)) and len(data) == 2:
        if all(isinstance(part, tf.data.Dataset) for part in data):
            return from_batches(data[0], data[1], classes)
        if all(isinstance(part, (tuple, list)) and len(part) == 2 for part in data):
            return from_arrays(data[0], data[1], classes)
    kinds = type(data).__name__
    if isinstance(data, (tuple, list)):
        kinds += f" of {', '.join(type(part).__name__ for part in data[:4]) or 'nothing'}"
    raise InputError(
        f"`data` must be {FORMS}. Received: {shorten(kinds, 60)}. Load files with "
        "keras_arch.load_dataset."
    )


def from_arrays(train: Any, validation: Any, classes: int) -> Dataset:
    """Return a `Dataset` of two pairs (images, labels) of arrays."""
    splits = []
    for name, (x, y) in (("train", train), ("val", validation)):
        x, y = to_array(f"x_{name}", x), to_array(f"y_{name}", y)
        images = x[..., np.newaxis] if x.ndim == 3 else x
        labels = without_axis(y)
        check_pixels(f"x_{name}", images)
        check_integer_labels(f"y_{name}", labels, len(images), classes)
        if images.dtype.kind == "f":
            images = np.round(images)
        splits.append(InMemory(align(images.astype("uint8")), labels.astype("int64")))
    return join_splits("the arrays", splits, number_classes(classes))


def to_array(name: str, values: Any) -> np.ndarray:
    """Return images or labels as an array."""
    try:
        return np.asarray(values)
    except Exception as error:  # lists of different lengths, and tensors of other libraries
        raise InputError(f"{name} must be an array. Received: {first_line(error)}.") from error


def without_axis(labels: np.ndarray) -> np.ndarray:
    """Return labels (images,) of labels (images, 1), and other labels as they are."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def check_pixels(name: str, images: np.ndarray) -> None:
    """Raise InputError unless `images` is a batch of images of 0-255."""
    if images.ndim != 4 or images.dtype.kind not in "uif" or not images.size:
        raise InputError(
            f"{name} must be numbers (images, height, width, channels) of 0-255. "
            f"Received: {images.dtype} {images.shape}."
        )
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255) or (images.dtype.kind == "f" and high <= 1):
        raise InputError(
            f"{name} must have pixels of 0-255. Received: {low:.4g} to {high:.4g}. Scale the "
            "pixels inside of the model instead, for example with keras.layers.Rescaling(1 / 255)."
        )


def check_integer_labels(name: str, labels: np.ndarray, count: int, classes: int) -> None:
    """Raise InputError unless `labels` has an integer below `classes` for each image."""
    if labels.ndim != 1 or labels.dtype.kind not in "ui" or len(labels) != count:
        fixes = {2: " Use labels.argmax(axis=1) of one-hot labels."}
        if labels.dtype.kind == "f":
            fixes[1] = " Use labels.astype(int)."
        raise InputError(
            f"{name} must be one integer for each of {count} images. "
            f"Received: {labels.dtype} {labels.shape}.{fixes.get(labels.ndim, '')}"
        )
    low, high = labels.min(), labels.max()
    if low < 0 or high >= classes:
        raise InputError(
            f"{name} must be from 0 to {classes - 1}, because the model has {classes} classes. "
            f"Received: {low} to {high}."
        )


def from_batches(train: tf.data.Dataset, validation: tf.data.Dataset, classes: int) -> Dataset:
    """Return a `Dataset` of two `tf.data.Dataset` of (image batches, integer labels)."""
    splits = []
    for name, dataset in (("train", train), ("validation", validation)):
        if fix := find_fix(dataset.element_spec):
            raise InputError(
                f"The {name} data must be batches of (images, labels). Received: "
                f"{shorten(dataset.element_spec, 80)}. {fix}"
            )
        steps = int(dataset.cardinality())
        if steps == tf.data.INFINITE_CARDINALITY:
            raise InputError(
                f"The {name} data must end. Received: an infinite tf.data.Dataset. Remove repeat()."
            )
        if steps == tf.data.UNKNOWN_CARDINALITY:
            raise InputError(
                f"The number of batches in the {name} data must be known. Received: an unknown "
                f"cardinality. Pass {FIX_CARDINALITY}, n batches."
            )
        if steps == 0:
            raise InputError(f"The {name} data must have a batch. Received: none.")
        images, labels = InBatches(dataset, steps).first
        labels = without_axis(labels)
        check_pixels(f"The images of the {name} data", images)
        check_integer_labels(f"The labels of the {name} data", labels, len(images), classes)
        batches = checked_batches(name, dataset, images.shape[1:], classes)
        splits.append(InBatches(assert_count(batches, steps), steps))
    return join_splits("the tf.data pair", splits, class_names_in(train, classes))


def find_fix(spec: Any) -> str:
    """Return how to correct the elements of a `tf.data.Dataset`, or "" if they are batches."""
    if isinstance(spec, tuple) and len(spec) == 3:
        return (
            "Remove the third part: dataset.map(lambda images, labels, weights: (images, labels))."
        )
    if not isinstance(spec, tuple) or [type(part) for part in spec] != [tf.TensorSpec] * 2:
        return "Yield pairs of tensors."
    images, labels = (part.shape.rank for part in spec)
    if images is None:
        return "Call tf.ensure_shape(images, (None, height, width, channels)) in dataset.map."
    if images == 3 and labels:
        return (
            "Add a channel axis: dataset.map(lambda images, labels: (images[..., None], labels))."
        )
    return "" if images == 4 else "Call dataset.batch(32), for example."


def assert_count(dataset: tf.data.Dataset, count: int) -> tf.data.Dataset:
    """Return the same batches, which raise an error of TensorFlow unless there are `count`."""
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def checked_batches(
    name: str, dataset: tf.data.Dataset, shape: tuple[int, ...], classes: int
) -> tf.data.Dataset:
    """Return image batches with labels (batch,), int64. An invalid batch raises an error.

    It is an error of TensorFlow, whose message `explain_batches` knows.
    """

    def check(images, labels):
        labels = tf.reshape(tf.cast(labels, tf.int64), [-1])  # of (batch,) or (batch, 1)
        wrong = tf.boolean_mask(labels, (labels < 0) | (labels >= classes))
        size, count = tf.shape(images), tf.size(labels)
        checks = [
            require(
                tf.reduce_all(size[1:] == shape),
                f"The images of the {name} data must have shape {shape} in all batches. Received: ",
                lambda: [tf.strings.format("{}", size[1:])],
            ),
            require(
                size[0] == count,
                f"The {name} data must have one label per image. Received: ",
                lambda: [as_text(count), " labels for ", as_text(size[0]), " images"],
            ),
            require(
                tf.size(wrong) == 0,
                f"The labels of the {name} data must have values from 0 to {classes - 1}, because "
                f"the model has {classes} classes. Received: ",
                lambda: [as_text(wrong[0])],
            ),
        ]
        with tf.control_dependencies(checks):
            return tf.identity(images), tf.identity(labels)

    return dataset.map(check)


as_text = tf.strings.as_string


def require(condition: tf.Tensor, message: str, received: Callable[[], list]) -> tf.Operation:
    """Return an operation that raises an error of TensorFlow unless a condition is true."""
    text = tf.cond(condition, lambda: "", lambda: tf.strings.join([message, *received(), "."]))
    return tf.debugging.Assert(condition, [text])


@contextmanager
def explain_batches() -> Iterator[None]:
    """Raise InputError if a batch or an image cannot be read.

    Other errors in the caller's own functions are raised as they are.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if invalid := INVALID_BATCH.search(str(error)) or UNREADABLE_IMAGE.search(str(error)):
            raise InputError(invalid[1]) from error
        if missing := MISSING_FILE.search(str(error)):
            raise InputError(
                "Image files must stay where they are until the work is done. Received: "
                f"{shorten(missing[1])}, which does not exist any more. Restore it."
            ) from error
        if invalid := INVALID_COUNT.search(str(error)):
            raise InputError(
                "A tf.data.Dataset must have as many batches as its cardinality, "
                f"{invalid[1]}. Received: {invalid[2]}. Correct n in {FIX_CARDINALITY}."
            ) from error
        raise


def join_splits(name: str, splits: list[Any], class_names: tuple[str, ...]) -> Dataset:
    """Return a `Dataset` of a training and a validation split. `fit` does not use the test split."""
    train, validation = splits
    shape, other = (split.sample(1, 0)[0].shape[1:] for split in (train, validation))
    if shape != other:
        raise InputError(
            f"The images of training and validation must have the same shape. Received: {shape} "
            f"and {other}."
        )
    return Dataset(name, train, validation, validation, class_names, shape)


def number_classes(classes: int) -> tuple[str, ...]:
    """Return "0", "1", ... as class names."""
    return tuple(map(str, range(classes)))


def class_names_in(dataset: tf.data.Dataset, classes: int) -> tuple[str, ...]:
    """Return the class names that `keras.utils.image_dataset_from_directory` adds, or numbers."""
    names = getattr(dataset, "class_names", None)
    return number_classes(classes) if names is None else check_class_names(names)
