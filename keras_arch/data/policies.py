"""Choose the augmentation policy of a recipe, and check a function of the user."""

from collections.abc import Callable

import tensorflow as tf

from ..errors import InputError, first_line
from ..plugins import is_function, load_function
from ..recipes import Recipe
from ..text import brief
from .augment import POLICIES, Policy
from .dataset import Dataset
from .order import RANDOM_NUMBERS

TOLERANCE = 1  # of a pixel's range, for rounding errors of an augmentation


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
        shape, low, high = augmented.shape, augmented.min(), augmented.max()
    except Exception as error:
        raise InputError(
            f"`augment` must be a function (images, random) -> images of TensorFlow operations. "
            f"Received: {type(error).__name__}: {first_line(error)}."
        ) from error
    if shape != images.shape:
        raise InputError(
            f"`augment` must return images of the same shape, {images.shape}. Received: {shape}."
        )
    inside = low >= -TOLERANCE and high <= 255 + TOLERANCE  # false for NaN
    if not inside or (high <= 1 < images.max()):
        raise InputError(
            f"`augment` must return pixels of 0-255. Received: {low:.4g} to {high:.4g} for images "
            f"of {images.min():.4g} to {images.max():.4g}. Return tf.clip_by_value(images, 0, 255), "
            "for example."
        )
