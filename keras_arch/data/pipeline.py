"""From the examples of a split to the batches that a model sees."""

import tensorflow as tf

from ..errors import InputError
from .augment import POLICIES
from .splits import THREADS


def training_batches(dataset, recipe, first_epoch=0):
    """Shuffled, augmented batches of all epochs, one after the other: a function of seed, epoch and example alone.

    Args:
        dataset: a `keras_arch.data.dataset.Dataset`, whose train split is used.
        recipe: a `keras_arch.Recipe`: batch size, seed, augmentation, epochs.
        first_epoch: epochs to leave out at the beginning; what follows is as it would have been behind them.

    Returns:
        A `tf.data.Dataset` of `steps_per_epoch` batches an epoch: images (batch, height, width, channels) of 0-255 and
        one-hot labels (batch, classes). The last, smaller batch is left out, since batch norm would take its few images
        for the whole population.
    """
    policy, classes = POLICIES[recipe.augment], len(dataset.class_names)
    batch_size = min(recipe.batch_size, dataset.train.count)

    def augment(images, labels, random):
        labels = tf.one_hot(labels, classes)
        for change in policy.pixels:
            images = change(images, random)
        return policy.mix(images, labels, random) if policy.mix else (images, labels)

    epochs = tf.data.Dataset.range(first_epoch, recipe.epochs)
    loaded = dataset.train.batches(recipe.seed, epochs, batch_size, policy)
    batches = loaded.map(augment, num_parallel_calls=THREADS)
    return batches.prefetch(2)


def check_batch_size(dataset, recipe):
    """Raise InputError if a batch would have more images than the training split."""
    if recipe.batch_size > dataset.train.count:
        raise InputError(
            f"`batch_size` must be at most the number of training images of {dataset.name}. Received: "
            f"batch_size={recipe.batch_size}, {dataset.train.count} training images. Pass a smaller --batch-size."
        )


def steps_per_epoch(dataset, recipe):
    """Whole batches in an epoch; one, of all images, where the batch size is greater than their number."""
    return max(1, dataset.train.count // recipe.batch_size)


def evaluation_batches(split, classes, batch_size):
    """Batches in the order of `split`, all of it: uint8 images and one-hot labels."""
    batches = split.examples.batch(batch_size)
    return batches.map(lambda images, labels: (images, tf.one_hot(labels, classes))).prefetch(1)
