"""Make batches from the examples of a split."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from ..errors import InputError, first_line
from ..plugins import is_function, load_function
from ..recipes import Recipe
from ..text import brief
from .augment import POLICIES, Policy
from .convert import InBatches
from .dataset import Dataset, Split
from .order import RANDOM_NUMBERS
from .splits import THREADS


def training_batches(
    dataset: Dataset, recipe: Recipe, first_epoch: int = 0, augment: Callable | None = None
) -> tf.data.Dataset:
    """Return shuffled, augmented batches of all epochs.

    Each image is a function of seed, epoch and example.

    Args:
        dataset: data set. Its training split is used.
        recipe: recipe with batch size, seed, augmentation and number of epochs.
        first_epoch: number of epochs to skip. Later epochs are the same as without skipping.
        augment: function from (images, random) to images, for `policy_of`.

    Returns:
        A `tf.data.Dataset` with `steps_per_epoch` batches per epoch: images
        (batch, height, width, channels) of 0-255 and one-hot labels (batch, classes). The last,
        incomplete batch of an epoch is dropped, because batch norm statistics of a few images are
        inaccurate.
    """
    policy, classes = policy_of(recipe, augment), len(dataset.class_names)
    batch_size = min(recipe.batch_size, dataset.train.count)

    def change_batch(images, labels, random):
        labels = tf.one_hot(labels, classes)
        for change in policy.pixels:
            images = change(images, random)
        return policy.mix(images, labels, random) if policy.mix else (images, labels)

    epochs = tf.data.Dataset.range(first_epoch, recipe.epochs)
    loaded = dataset.train.batches(recipe.seed, epochs, batch_size, policy)
    batches = loaded.map(change_batch, num_parallel_calls=THREADS)
    return batches.prefetch(2)


def policy_of(recipe: Recipe, augment: Callable | None = None) -> Policy:
    """Return the augmentation policy of a recipe.

    Args:
        recipe: recipe with the name of a policy or a `FILE.py:function`.
        augment: function from (images, random) to images, which replaces the functions of the
            policy in `Policy.pixels`.
    """
    if is_function(recipe.augment):
        policy = Policy(pixels=(load_function(recipe.augment),))
    else:
        policy = POLICIES[recipe.augment]
    return policy if augment is None else policy._replace(pixels=(augment,))


def check_augment(augment: Callable, dataset: Dataset, seed: int) -> None:
    """Raise InputError unless a function returns augmented images of 0-255.

    The function runs in a `tf.data.Dataset`, as in training.
    """
    if not callable(augment):
        raise InputError(
            "`augment` must be a function (images, random) -> images. Received: "
            f"{brief(augment)}. Set `augment` of the recipe to choose a policy by its name."
        )
    images, _ = dataset.train.sample(8, seed)
    random = tf.random.stateless_uniform((len(images), RANDOM_NUMBERS), (seed, 0))
    examples = tf.data.Dataset.from_tensor_slices((images, random)).batch(len(images))
    try:
        augmented = next(iter(examples.map(augment).as_numpy_iterator()))
        shape, high = augmented.shape, augmented.max()
    except Exception as error:
        raise InputError(
            f"`augment` must be a function (images, random) -> images of TensorFlow operations. "
            f"Received: {type(error).__name__}: {first_line(error)}."
        ) from error
    if shape != images.shape:
        raise InputError(
            f"`augment` must return images of the same shape, {images.shape}. Received: {shape}."
        )
    if not np.isfinite(high) or (high <= 1 < images.max()):
        raise InputError(
            f"`augment` must return pixels of 0-255. Received: a maximum of {high:.4g} for images "
            f"of 0 to {images.max():.4g}."
        )


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
