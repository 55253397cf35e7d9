"""The three ways in which a split holds its examples: in memory, in files, or in a stream of TFDS.

Each has a `count`, gives all `examples` in their order as they are evaluated, those `at` given numbers
and a `sample` of them as arrays, and for training gives `batches` of epochs in an order that is a function of seed and
epoch alone. Random numbers come with each example: a row of uniform numbers, a function of seed, epoch and the example's
number, whichever thread works on it.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from ..images.read import read_image
from ..images.resize import read_window, resize
from ..machine import total_memory
from .memory import empty_array, shared_tensor
from .order import choose_examples, draw_examples, random_numbers, without_autotuning

READ_AT_ONCE = 256  # images
THREADS = os.cpu_count()
SHUFFLE_MEMORY = 2**30  # bytes of records that a stream shuffles together


def uncopied(batches):
    """The same `tf.data.Dataset`, `without_autotuning` and without TensorFlow's graph optimizations: they copy the arrays that it reads."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return without_autotuning(batches).with_options(options)


@dataclass(frozen=True)
class InMemory:
    """Decoded images (count, height, width, channels), uint8, and their labels (count,)."""

    images: np.ndarray
    labels: np.ndarray

    @classmethod
    def join(cls, splits):
        """One split with the examples of all `splits`, in their order."""
        return cls(
            *(
                np.concatenate([getattr(split, what) for split in splits])
                for what in ("images", "labels")
            )
        )

    def relabel(self, numbers):
        """The same images; `numbers` has the new label for each old one."""
        return replace(self, labels=numbers[self.labels])

    @property
    def count(self):
        return len(self.labels)

    @property
    def examples(self):
        """A `tf.data.Dataset` of (image, label) in the split's order."""
        return uncopied(
            tf.data.Dataset.from_tensor_slices((shared_tensor(self.images), self.labels))
        )

    def at(self, numbers):
        """The images and labels of these numbers, as arrays."""
        return self.images[numbers], self.labels[numbers]

    def sample(self, count, seed):
        """At most so many images and their labels, as arrays: a function of the seed."""
        return self.at(draw_examples(self.count, count, seed))

    def batches(self, seed, epochs, batch_size, policy):
        """A `tf.data.Dataset` of (images, labels, random numbers), the whole batches of `epochs`, one after the other."""
        images, labels = shared_tensor(self.images), tf.constant(self.labels)
        picked = epochs.flat_map(
            lambda epoch: choose_examples(self.count, seed, epoch, batch_size).batch(batch_size)
        )
        shape = self.images.shape[1:]

        def load(numbers, random):
            found = tf.gather(images, numbers)
            if policy.box is not None:
                boxes = policy.box(random, *shape[:2])
                found = tf.image.crop_and_resize(
                    found, boxes, tf.range(tf.shape(numbers)[0]), shape[:2]
                )
                found = tf.ensure_shape(tf.cast(tf.round(found), tf.uint8), (None, *shape))
            return found, tf.gather(labels, numbers), random

        return uncopied(picked.map(load, num_parallel_calls=THREADS))


@dataclass(frozen=True)
class InFiles:
    """Pictures that are read when they are needed."""

    paths: list[str]
    labels: np.ndarray
    shape: tuple[int, int, int]
    plain_jpegs: (
        np.ndarray
    )  # (count,) truths: which files TensorFlow decodes to the same pixels as Pillow

    @classmethod
    def join(cls, splits):
        """One split with the examples of all `splits`, in their order."""
        labels, plain_jpegs = (
            np.concatenate([getattr(split, what) for split in splits])
            for what in ("labels", "plain_jpegs")
        )
        return cls(
            [path for split in splits for path in split.paths], labels, splits[0].shape, plain_jpegs
        )

    def relabel(self, numbers):
        """The same images; `numbers` has the new label for each old one."""
        return replace(self, labels=numbers[self.labels])

    @property
    def count(self):
        return len(self.labels)

    @property
    def examples(self):
        """A `tf.data.Dataset` of (image, label) in the split's order."""

        def load(number, label):
            image = tf.numpy_function(
                lambda number: read_image(self.paths[number], self.shape), [number], tf.uint8
            )
            return tf.ensure_shape(image, self.shape), label

        pairs = tf.data.Dataset.from_tensor_slices((tf.range(self.count), self.labels))
        return without_autotuning(pairs.map(load, num_parallel_calls=THREADS))

    def at(self, numbers):
        """The images and labels of these numbers, as arrays."""
        images = [read_image(self.paths[number], self.shape) for number in numbers]
        return np.array(images, "uint8").reshape(-1, *self.shape), self.labels[numbers]

    def sample(self, count, seed):
        """At most so many images and their labels, as arrays: a function of the seed."""
        return self.at(draw_examples(self.count, count, seed))

    def batches(self, seed, epochs, batch_size, policy):
        """A `tf.data.Dataset` of (images, labels, random numbers), the whole batches of `epochs`, one after the other."""
        picked = epochs.flat_map(lambda epoch: choose_examples(self.count, seed, epoch, batch_size))

        @tf.autograph.experimental.do_not_convert
        def read(number, random):
            def box(size):
                height, width = size[::-1]
                top, left, bottom, right = policy.box(
                    tf.constant(random[np.newaxis]), height, width
                )[0].numpy()
                return left * width, top * height, right * width, bottom * height

            return read_image(self.paths[number], self.shape, policy.box and box)

        def by_pillow(number, random):
            return tf.numpy_function(read, [number, random], tf.uint8)

        def by_tensorflow(number, random):
            return read_window(paths[number], self.shape, policy.box, random)

        def by_either(number, random):
            return tf.cond(
                plain[number],
                lambda: by_tensorflow(number, random),
                lambda: by_pillow(number, random),
            )

        # A window of a JPEG need not be decoded whole, nor wait for Python.
        load_image = by_either if policy.box is not None and self.shape[2] == 3 else by_pillow
        paths = tf.constant([os.fsencode(path) for path in self.paths])
        plain, labels = tf.constant(self.plain_jpegs), tf.constant(self.labels)

        def load(number, random):
            return tf.ensure_shape(load_image(number, random), self.shape), labels[number], random

        return without_autotuning(picked.map(load, num_parallel_calls=THREADS).batch(batch_size))


@dataclass(frozen=True)
class InStream:
    """Examples that can only be read one after the other, such as the records of a large TFDS set."""

    records: tf.data.Dataset  # (what `decode` takes, label), always in the same order
    count: int
    shape: tuple[int, int, int]
    decode: Callable = tf.identity  # a record -> image of any size, uint8
    record_bytes: int | None = None  # of one record on average; those of a whole image if not given

    @classmethod
    def join(cls, splits):
        """One split with the examples of all `splits`, in their order."""
        records = functools.reduce(tf.data.Dataset.concatenate, [split.records for split in splits])
        return replace(splits[0], records=records, count=sum(split.count for split in splits))

    def relabel(self, numbers):
        """The same images; `numbers` has the new label for each old one."""
        return replace(
            self,
            records=self.records.map(lambda record, label: (record, tf.gather(numbers, label))),
        )

    @property
    def labels(self):
        """The labels (count,), which takes reading all records, though not decoding them."""
        labels = self.records.map(lambda _, label: label).batch(READ_AT_ONCE)
        return np.concatenate(list(labels.as_numpy_iterator()))

    @property
    def examples(self):
        """A `tf.data.Dataset` of (image, label) in the split's order."""

        def load(record, label):
            return resize(self.decode(record), self.shape), label

        return without_autotuning(self.records.map(load, num_parallel_calls=THREADS))

    def at(self, numbers):
        """The images and labels of these numbers, as arrays; what lies between them is read and not decoded."""
        wanted = tf.constant(numbers, tf.int64)
        needed = self.records.take(max(map(int, numbers), default=-1) + 1)
        records = needed.enumerate().filter(lambda number, _: tf.reduce_any(number == wanted))
        found = [
            (number, resize(self.decode(record), self.shape).numpy(), label.numpy())
            for number, (record, label) in without_autotuning(records)
        ]
        places = {int(number): place for place, (number, _, _) in enumerate(found)}
        ordered = [found[places[int(number)]] for number in numbers]
        images = np.array([image for _, image, _ in ordered], "uint8").reshape(-1, *self.shape)
        return images, np.array([label for *_, label in ordered], "int64")

    def sample(self, count, seed):
        """At most so many images and their labels, as arrays: the first, whatever the seed, since a draw would read all."""
        del seed
        return self.at(np.arange(min(count, self.count)))

    def batches(self, seed, epochs, batch_size, policy):
        """A `tf.data.Dataset` of (images, labels, random numbers), the whole batches of `epochs`, one after the other."""
        # Records are shuffled and then decoded: they are smaller, and large images that stay while others come and go
        # would leave holes in memory that nothing fits into.
        buffer = SHUFFLE_MEMORY // (self.record_bytes or int(np.prod(self.shape)))
        buffer = max(1, min(self.count, buffer))

        def one_epoch(epoch):
            numbers = tf.data.Dataset.from_tensor_slices(random_numbers(self.count, seed, epoch))
            # The order is that of our seed alone: TensorFlow would mix its global one in.
            tf.compat.v1.get_default_graph().seed = None
            records = tf.data.Dataset.zip(self.records, numbers).shuffle(
                buffer, seed=seed * 1_000_003 + epoch
            )
            return records.take(self.count // batch_size * batch_size)

        def load(example, numbers):
            record, label = example
            image, box = self.decode(record), None
            if policy.box is not None:
                size = tf.shape(image)
                box = policy.box(numbers[tf.newaxis], size[0], size[1])[0]
            return resize(image, self.shape, box), label, numbers

        return without_autotuning(
            epochs.flat_map(one_epoch).map(load, num_parallel_calls=THREADS).batch(batch_size)
        )


MEMORY_SHARE = 0.25  # of the machine's memory that the decoded images of one data set may take; a larger one streams


def height_and_width(image_size):
    """(height, width) of a size that is both, or one number for either."""
    return image_size if isinstance(image_size, tuple) else (image_size, image_size)


def fits_in_memory(count, shape):
    return count * int(np.prod(shape)) <= MEMORY_SHARE * total_memory()


def load_into_memory(split):
    """The same examples, decoded once."""
    images = empty_array((split.count, *split.shape))
    labels = np.empty(split.count, "int64")
    done = 0
    for some_images, some_labels in split.examples.batch(READ_AT_ONCE).as_numpy_iterator():
        images[done : done + len(some_labels)], labels[done : done + len(some_labels)] = (
            some_images,
            some_labels,
        )
        done += len(some_labels)
    return InMemory(images, labels)
