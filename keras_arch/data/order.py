"""The order of training images: functions of seed, epoch and example alone."""

import numpy as np
import tensorflow as tf

RANDOM_NUMBERS = 16  # with each example; augment.py says which is for what


def without_autotuning(batches):
    """The same `tf.data.Dataset` without TensorFlow's tuner.

    On a busy processor an iterator is let go only when the tuner next looks, 1.3, 2.5, 5, 10 ... seconds after it began:
    every validation would wait for it.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def random_numbers(count, seed, epoch):
    """(count, RANDOM_NUMBERS) uniform numbers from 0 to below 1 for one epoch."""
    return tf.random.stateless_uniform((count, RANDOM_NUMBERS), [tf.cast(seed, tf.int64), epoch])


def shuffle(count, seed, epoch):
    """The numbers 0 to count - 1 in the order of one epoch."""
    # Another seed than the random numbers', so that order and augmentation have nothing to do with each other.
    return tf.random.experimental.stateless_shuffle(
        tf.range(count), [tf.cast(seed, tf.int64) + 2**32, epoch]
    )


def choose_examples(count, seed, epoch, batch_size):
    """(number, random numbers) of each example of one epoch in its order, as many as fill whole batches."""
    numbers, random = shuffle(count, seed, epoch), random_numbers(count, seed, epoch)
    whole = tf.data.Dataset.from_tensor_slices((numbers, tf.gather(random, numbers)))
    return whole.take(count // batch_size * batch_size)


def draw_examples(total, count, seed):
    """`count` of the numbers 0 to total - 1, or all of them, in an order that is a function of the seed."""
    return np.random.default_rng(seed).permutation(total)[:count]
