"""Make batches from the examples of a split."""

import tensorflow as tf

from ..errors import InputError
from ..recipes import Recipe
from .augment import Policy
from .convert import InBatches
from .dataset import Dataset, Split
from .policies import policy_of
from .splits import THREADS


def training_batches(
    dataset: Dataset, recipe: Recipe, first_epoch: int = 0, policy: Policy | None = None
) -> tf.data.Dataset:
    """Return shuffled, augmented batches of all epochs.

    Each image is a function of seed, epoch and example.

    Args:
        dataset: data set. Its training split is used.
        recipe: recipe with batch size, seed, augmentation and number of epochs.
        first_epoch: number of epochs to skip. Later epochs are the same as without skipping.
        policy: augmentation policy. Default: that of the recipe.

    Returns:
        A `tf.data.Dataset` with `steps_per_epoch` batches per epoch: images
        (batch, height, width, channels) of 0-255 and one-hot labels (batch, classes). The last,
        incomplete batch of an epoch is dropped, because batch norm statistics of a few images are
        inaccurate.
    """
    policy, classes = policy or policy_of(recipe), len(dataset.class_names)
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


def check_batch_size(dataset: Dataset, recipe: Recipe) -> None:
    """Raise InputError if the batch size exceeds the number of training images."""
    if recipe.batch_size > dataset.train.count:
        raise InputError(
            f"`batch_size` must be at most {dataset.train.count}, the number of training images in "
            f"{dataset.name}. Received: batch_size={recipe.batch_size}. "
            "Pass a smaller --batch-size."
        )


def steps_per_epoch(dataset: Dataset, recipe: Recipe) -> int:
    """Return the number of complete batches per epoch, at least 1."""
    return max(1, dataset.train.count // recipe.batch_size)


def evaluation_batches(split: Split | InBatches, classes: int, batch_size: int) -> tf.data.Dataset:
    """Return all images of a split in batches, in its order: images and one-hot labels.

    `InBatches` keeps its batches. Their number is known, which Keras needs.
    """
    batches = split.dataset if isinstance(split, InBatches) else split.examples.batch(batch_size)
    return batches.map(lambda images, labels: (images, tf.one_hot(labels, classes))).prefetch(1)
