"""Three classes of splits: examples in memory, in files, or in a stream of TFDS records.

All have the same members:

- `count`: number of examples.
- `examples`: all examples, in a fixed order, for evaluation.
- `at` and `sample`: some examples as arrays.
- `batches`: batches for training, in an order that depends only on seed and epoch.
- `slice`: consecutive examples, as a split.

Each training example comes with a row of uniform random numbers, a function of seed, epoch and
example. With `rows`, `batches` returns only the examples at these positions of each batch.
"""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from ..images.read import read_image
from ..images.resize import read_window, resize
from ..machine import total_memory
from .memory import empty_array, shared_tensor
from .order import draw_indices, epoch_examples, random_numbers, without_autotuning

if TYPE_CHECKING:
    from .augment import Policy

READ_BATCH_SIZE = 256  # images
THREADS = os.cpu_count()
SHUFFLE_MEMORY = 2**30  # bytes of records in the shuffle buffer of a stream
# Share of the memory limit. Decoded images stay in memory if all splits together take less.
MEMORY_SHARE = 0.25


def without_optimizations(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Disable autotuning and graph optimizations, which copy the arrays of a `tf.data.Dataset`."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return without_autotuning(dataset).with_options(options)


@dataclass(frozen=True)
class InMemory:
    """A split with decoded images in memory.

    Args:
        images: uint8 (count, height, width, channels) of 0-255.
        labels: int64 (count,), indices of the class names.
        paths: image files. None: the images are not from files.
    """

    images: np.ndarray
    labels: np.ndarray
    paths: list[str] | None = None

    @classmethod
    def join(cls, splits: Sequence["InMemory"]) -> "InMemory":
        """Return one split with the examples of all `splits`, in their order."""
        images, labels = (
            np.concatenate([getattr(split, what) for split in splits])
            for what in ("images", "labels")
        )
        return cls(images, labels, join_paths([split.paths for split in splits]))

    def relabel(self, new_labels: np.ndarray) -> "InMemory":
        """Return the same images with the label `new_labels[label]` for each label."""
        return replace(self, labels=new_labels[self.labels])

    def slice(self, start: int, stop: int) -> "InMemory":
        """Return the examples from `start` to `stop`, which is not included, as a split."""
        paths = self.paths and self.paths[start:stop]
        return InMemory(self.images[start:stop], self.labels[start:stop], paths)

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.labels)

    @property
    def examples(self) -> tf.data.Dataset:
        """All (image, label) in the order of the split."""
        return without_optimizations(
            tf.data.Dataset.from_tensor_slices((shared_tensor(self.images), self.labels))
        )

    def at(self, indices) -> tuple[np.ndarray, np.ndarray]:
        """Return the images and labels at `indices` as arrays."""
        return self.images[indices], self.labels[indices]

    def sample(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return at most `count` random images and their labels as arrays."""
        return self.at(draw_indices(self.count, count, seed))

    def batches(
        self,
        seed: int,
        epochs: tf.data.Dataset,
        batch_size: int,
        policy: "Policy",
        rows: np.ndarray | None = None,
    ) -> tf.data.Dataset:
        """Return the complete batches of `epochs`: (images, labels, random numbers)."""
        images, labels = shared_tensor(self.images), tf.constant(self.labels)
        examples = epochs.flat_map(
            lambda epoch: epoch_examples(self.count, seed, epoch, batch_size, rows).batch(
                batch_size if rows is None else len(rows)
            )
        )
        shape = self.images.shape[1:]

        def load(indices, random):
            batch = tf.gather(images, indices)
            if policy.box is not None:
                boxes = policy.box(random, *shape[:2])
                batch = tf.image.crop_and_resize(
                    batch, boxes, tf.range(tf.shape(indices)[0]), shape[:2]
                )
                batch = tf.ensure_shape(tf.cast(tf.round(batch), tf.uint8), (None, *shape))
            return batch, tf.gather(labels, indices), random

        return without_optimizations(examples.map(load, num_parallel_calls=THREADS))


@dataclass(frozen=True)
class InFiles:
    """A split with image files that are read when needed.

    Args:
        paths: image files.
        labels: int64 (count,), indices of the class names.
        shape: (height, width, channels) of the images after resizing.
        plain_jpegs: bool (count,), true for files that TensorFlow decodes to the pixels of Pillow.
    """

    paths: list[str]
    labels: np.ndarray
    shape: tuple[int, int, int]
    plain_jpegs: np.ndarray

    @classmethod
    def join(cls, splits: Sequence["InFiles"]) -> "InFiles":
        """Return one split with the examples of all `splits`, in their order."""
        labels, plain_jpegs = (
            np.concatenate([getattr(split, what) for split in splits])
            for what in ("labels", "plain_jpegs")
        )
        return cls(
            [path for split in splits for path in split.paths], labels, splits[0].shape, plain_jpegs
        )

    def relabel(self, new_labels: np.ndarray) -> "InFiles":
        """Return the same images with the label `new_labels[label]` for each label."""
        return replace(self, labels=new_labels[self.labels])

    def slice(self, start: int, stop: int) -> "InFiles":
        """Return the examples from `start` to `stop`, which is not included, as a split."""
        kept = slice(start, stop)
        return InFiles(self.paths[kept], self.labels[kept], self.shape, self.plain_jpegs[kept])

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.labels)

    @property
    def examples(self) -> tf.data.Dataset:
        """All (image, label) in the order of the split."""

        def load(index, label):
            image = tf.numpy_function(
                lambda index: read_image(self.paths[index], self.shape), [index], tf.uint8
            )
            return tf.ensure_shape(image, self.shape), label

        pairs = tf.data.Dataset.from_tensor_slices((tf.range(self.count), self.labels))
        return without_autotuning(pairs.map(load, num_parallel_calls=THREADS))

    def at(self, indices) -> tuple[np.ndarray, np.ndarray]:
        """Return the images and labels at `indices` as arrays."""
        images = [read_image(self.paths[index], self.shape) for index in indices]
        return np.array(images, "uint8").reshape(-1, *self.shape), self.labels[indices]

    def sample(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return at most `count` random images and their labels as arrays."""
        return self.at(draw_indices(self.count, count, seed))

    def batches(
        self,
        seed: int,
        epochs: tf.data.Dataset,
        batch_size: int,
        policy: "Policy",
        rows: np.ndarray | None = None,
    ) -> tf.data.Dataset:
        """Return the complete batches of `epochs`: (images, labels, random numbers)."""
        examples = epochs.flat_map(
            lambda epoch: epoch_examples(self.count, seed, epoch, batch_size, rows)
        )

        make_boxes: Any = policy.box

        @tf.autograph.experimental.do_not_convert
        def read(index, random):
            def box(size):
                width, height = size
                top, left, bottom, right = make_boxes(
                    tf.constant(random[np.newaxis]), height, width
                )[0].numpy()
                return left * width, top * height, right * width, bottom * height

            return read_image(self.paths[index], self.shape, make_boxes and box)

        def read_with_pillow(index, random):
            return tf.numpy_function(read, [index, random], tf.uint8)

        def read_with_either(index, random):
            return tf.cond(
                plain_jpegs[index],
                lambda: read_window(paths[index], self.shape, make_boxes, random),
                lambda: read_with_pillow(index, random),
            )

        # For a random crop of a JPEG, TensorFlow decodes only the crop, without Python's lock.
        crops_color = make_boxes is not None and self.shape[2] == 3
        load_image = read_with_either if crops_color else read_with_pillow
        paths = tf.constant([os.fsencode(path) for path in self.paths])
        plain_jpegs, labels = tf.constant(self.plain_jpegs), tf.constant(self.labels)

        def load(index, random):
            return tf.ensure_shape(load_image(index, random), self.shape), labels[index], random

        size = batch_size if rows is None else len(rows)
        return without_autotuning(examples.map(load, num_parallel_calls=THREADS).batch(size))


@dataclass(frozen=True)
class InStream:
    """A split with records that must be read in their order, such as a large TFDS data set.

    Args:
        records: `tf.data.Dataset` of (record, label) in a fixed order.
        count: number of records.
        shape: (height, width, channels) of the images after resizing.
        decode: function from a record to a uint8 image of any size. Default: the record is an
            image.
        record_bytes: average size of a record in bytes. Default: the size of a decoded image.
    """

    records: tf.data.Dataset
    count: int
    shape: tuple[int, int, int]
    decode: Callable[[tf.Tensor], tf.Tensor] = tf.identity
    record_bytes: int | None = None

    @classmethod
    def join(cls, splits: Sequence["InStream"]) -> "InStream":
        """Return one split with the examples of all `splits`, in their order."""
        records = functools.reduce(tf.data.Dataset.concatenate, [split.records for split in splits])
        return replace(splits[0], records=records, count=sum(split.count for split in splits))

    def relabel(self, new_labels: np.ndarray) -> "InStream":
        """Return the same images with the label `new_labels[label]` for each label."""
        return replace(
            self,
            records=self.records.map(lambda record, label: (record, tf.gather(new_labels, label))),
        )

    def slice(self, start: int, stop: int) -> "InStream":
        """Return the examples from `start` to `stop`, which is not included, as a split.

        The records before `start` are read, but not decoded.
        """
        count = len(range(self.count)[start:stop])
        return replace(self, records=self.records.skip(start).take(count), count=count)

    @property
    def labels(self) -> np.ndarray:
        """The labels, int64 (count,). All records are read, but not decoded."""
        labels = self.records.map(lambda _, label: label).batch(READ_BATCH_SIZE)
        return np.concatenate(list(labels.as_numpy_iterator()))

    @property
    def examples(self) -> tf.data.Dataset:
        """All (image, label) in the order of the split."""

        @tf.autograph.experimental.do_not_convert  # it has no control flow
        def load(record, label):
            return resize(self.decode(record), self.shape), label

        return without_autotuning(self.records.map(load, num_parallel_calls=THREADS))

    def at(self, indices) -> tuple[np.ndarray, np.ndarray]:
        """Return the images and labels at `indices` as arrays.

        All records up to the last index are read. Only those at `indices` are decoded.
        """
        wanted = tf.constant(indices, tf.int64)
        needed = self.records.take(max(map(int, indices), default=-1) + 1)
        records = needed.enumerate().filter(lambda index, _: tf.reduce_any(index == wanted))
        examples = {
            int(index): (resize(self.decode(record), self.shape).numpy(), label.numpy())
            for index, (record, label) in without_autotuning(records)
        }
        ordered = [examples[int(index)] for index in indices]
        images = np.array([image for image, _ in ordered], "uint8").reshape(-1, *self.shape)
        return images, np.array([label for _, label in ordered], "int64")

    def sample(self, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the first images and labels, at most `count`, as arrays.

        A random sample would read all records, so the seed has no effect.
        """
        del seed
        return self.at(np.arange(min(count, self.count)))

    def batches(
        self,
        seed: int,
        epochs: tf.data.Dataset,
        batch_size: int,
        policy: "Policy",
        rows: np.ndarray | None = None,
    ) -> tf.data.Dataset:
        """Return the complete batches of `epochs`: (images, labels, random numbers)."""
        # Records are shuffled before they are decoded. They are smaller than images, and images in
        # the buffer would fragment the memory.
        buffer = SHUFFLE_MEMORY // (self.record_bytes or int(np.prod(self.shape)))
        buffer = max(1, min(self.count, buffer))

        def one_epoch(epoch):
            numbers = tf.data.Dataset.from_tensor_slices(random_numbers(self.count, seed, epoch))
            # Without this, TensorFlow would combine its global seed with ours.
            tf.compat.v1.get_default_graph().seed = None
            records = tf.data.Dataset.zip(self.records, numbers).shuffle(
                buffer, seed=seed * 1_000_003 + epoch
            )
            records = records.take(self.count // batch_size * batch_size)
            return records if rows is None else keep_rows(records, rows, batch_size)

        def load(example, numbers):
            record, label = example
            image, box = self.decode(record), None
            if policy.box is not None:
                size = tf.shape(image)
                box = policy.box(numbers[tf.newaxis], size[0], size[1])[0]
            return resize(image, self.shape, box), label, numbers

        examples = epochs.flat_map(one_epoch).map(load, num_parallel_calls=THREADS)
        if rows is None:
            return without_autotuning(examples.batch(batch_size))
        # The stream gives the rows in rising order.
        order = np.argsort(np.argsort(rows))
        return without_autotuning(
            examples.batch(len(rows)).map(lambda *batch: [tf.gather(part, order) for part in batch])
        )


def join_paths(parts: Sequence[list[str] | None]) -> list[str] | None:
    """Return the paths of all parts, or None if a part has none."""
    known = [paths for paths in parts if paths is not None]
    return [path for paths in known for path in paths] if len(known) == len(parts) else None


def keep_rows(records: tf.data.Dataset, rows: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return the records at the positions `rows` of each batch, in their order."""
    numbered = records.enumerate().filter(
        lambda number, _: tf.reduce_any(number % batch_size == rows)
    )
    return numbered.map(lambda _, record: record)


def height_and_width(image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of an image size that is one number or both."""
    return image_size if isinstance(image_size, tuple) else (image_size, image_size)


def fits_in_memory(count: int, shape: tuple[int, int, int]) -> bool:
    """Return whether `count` decoded images take at most `MEMORY_SHARE` of the memory limit."""
    return count * int(np.prod(shape)) <= MEMORY_SHARE * total_memory()


def load_into_memory(split: InStream) -> InMemory:
    """Decode all examples of a stream into memory."""
    images = empty_array((split.count, *split.shape))
    labels = np.empty(split.count, "int64")
    start = 0
    for batch, batch_labels in split.examples.batch(READ_BATCH_SIZE).as_numpy_iterator():
        stop = start + len(batch_labels)
        images[start:stop], labels[start:stop] = batch, batch_labels
        start = stop
    return InMemory(images, labels)
