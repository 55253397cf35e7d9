"""The order and the random numbers of training images, as functions of seed, epoch and example."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

RANDOM_NUMBERS = 16  # per example; augment.py defines the use of each


@dataclass(frozen=True)
class Part:
    """One of `count` equal, consecutive parts of every batch. Each process loads its part."""

    index: int = 0
    count: int = 1

    def rows(self, batch_size: int, with_previous: bool) -> np.ndarray:
        """Return the positions in a batch of the examples of this part.

        Args:
            batch_size: examples per batch, a multiple of `count`.
            with_previous: whether the example before the first one is included, as the first.
                Example 0 follows the last one.
        """
        size = batch_size // self.count
        first = self.index * size - with_previous
        return np.arange(first, (self.index + 1) * size) % batch_size


EVERYTHING = Part()


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Disable TensorFlow's autotuner for a `tf.data.Dataset`.

    On a busy processor, an iterator with the autotuner is released 1.3, 2.5, 5, 10, ... seconds
    after its start. Each validation would wait for this.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def random_numbers(count, seed, epoch):
    """Return uniform numbers in [0, 1) for one epoch: float32 (count, RANDOM_NUMBERS)."""
    return tf.random.stateless_uniform((count, RANDOM_NUMBERS), [tf.cast(seed, tf.int64), epoch])


def shuffle(count, seed, epoch):
    """Return the indices 0 to count - 1 in the order of one epoch."""
    # This seed differs from that of `random_numbers`, so that order and augmentation are
    # independent.
    return tf.random.experimental.stateless_shuffle(
        tf.range(count), [tf.cast(seed, tf.int64) + 2**32, epoch]
    )


def epoch_examples(count, seed, epoch, batch_size, rows=None) -> tf.data.Dataset:
    """Return (index, random numbers) of the examples of one epoch, without an incomplete batch.

    `rows` are the positions in each batch of the examples to return. Default: all.
    """
    indices, random = shuffle(count, seed, epoch), random_numbers(count, seed, epoch)
    kept = count // batch_size * batch_size
    if rows is not None:
        batches = tf.reshape(indices[:kept], (-1, batch_size))
        indices, kept = tf.reshape(tf.gather(batches, rows, axis=1), (-1,)), -1
    examples = tf.data.Dataset.from_tensor_slices((indices, tf.gather(random, indices)))
    return examples.take(kept)


def draw_indices(total: int, count: int, seed: int) -> np.ndarray:
    """Return at most `count` of the indices 0 to total - 1, in a random order."""
    return np.random.default_rng(seed).permutation(total)[:count]
