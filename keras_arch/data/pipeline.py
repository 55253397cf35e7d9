"""Make batches from the examples of a split."""

import math

import tensorflow as tf

from ..errors import InputError, choose
from ..recipes import Recipe
from .augment import Policy
from .convert import InBatches
from .dataset import Dataset, Split
from .order import EVERYTHING, Part
from .policies import policy_of
from .splits import THREADS


def training_batches(
    dataset: Dataset,
    recipe: Recipe,
    first_epoch: int = 0,
    policy: Policy | None = None,
    part: Part = EVERYTHING,
) -> tf.data.Dataset:
    """Return shuffled, augmented batches of all epochs.

    Each image is a function of seed, epoch and example.

    Args:
        dataset: data set. Its training split is used.
        recipe: recipe with batch size, seed, augmentation and number of epochs.
        first_epoch: number of epochs to skip. Later epochs are the same as without skipping.
        policy: augmentation policy. Default: that of the recipe.
        part: part of every batch to return. The other images are not loaded, except one that the
            first image of the part is mixed with. Default: all.

    Returns:
        A `tf.data.Dataset` with `batches_per_epoch` batches per epoch: images
        (batch, height, width, channels) of 0-255 and one-hot labels (batch, classes). With
        `recipe.early_size`, the images of the first epochs are smaller. The last,
        incomplete batch of an epoch is dropped, because batch norm statistics of a few images are
        inaccurate. With `recipe.accumulate`, the last batches are dropped, too, if they do not fill
        an optimizer step.

    Raises:
        InputError (a ValueError): the augmentation needs square images.
    """
    check_square(dataset, recipe)
    policy, classes = policy or policy_of(recipe), len(dataset.class_names)
    batch_size = min(recipe.batch_size, dataset.train.count)
    mixes = part.count > 1 and policy.mix is not None
    rows = part.rows(batch_size, mixes) if part.count > 1 else None

    def augment(images, labels, random):
        labels = tf.one_hot(labels, classes)
        for change in policy.pixels:
            images = change(images, random)
        if policy.mix:
            images, labels = policy.mix(images, labels, random)
        # The first image of the rows was mixed with the last one, and not with the previous one.
        return (images[1:], labels[1:]) if mixes else (images, labels)

    def load(first, last):
        epochs = tf.data.Dataset.range(first, last)
        loaded = dataset.train.batches(recipe.seed, epochs, batch_size, policy, rows)
        if recipe.accumulate > 1:
            loaded = drop_last(
                loaded, dataset.train.count // batch_size, batches_per_epoch(dataset, recipe)
            )
        return loaded.map(augment, num_parallel_calls=THREADS)

    if recipe.early_size is None:
        return load(first_epoch, recipe.epochs).prefetch(2)
    last_small = min(recipe.small_epochs, recipe.epochs)
    size = early_shape(dataset, recipe)[:2]
    small = load(first_epoch, last_small).map(
        lambda images, labels: (shrink(images, size), labels), num_parallel_calls=THREADS
    )
    return small.concatenate(load(max(first_epoch, last_small), recipe.epochs)).prefetch(2)


def early_shape(dataset: Dataset, recipe: Recipe) -> tuple[int, int, int]:
    """Return the shape of the images of the first epochs, with the aspect ratio of the data."""
    height, width, channels = dataset.image_shape
    if recipe.early_size is None:
        return dataset.image_shape
    return recipe.early_size, max(1, round(recipe.early_size * width / height)), channels


def shrink(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resize a batch of images to (height, width). Each new pixel is an average."""
    resized = tf.image.resize(tf.cast(images, tf.float32), size, antialias=True)
    if images.dtype.is_integer:
        return tf.saturate_cast(tf.round(resized), images.dtype)
    return tf.cast(resized, images.dtype)


def drop_last(batches: tf.data.Dataset, count: int, kept: int) -> tf.data.Dataset:
    """Keep the first `kept` of each `count` batches, which are those of an epoch."""
    numbered = batches.enumerate().filter(lambda number, _: number % count < kept)
    return numbered.map(lambda _, batch: batch)


def check_data_options(dataset: Dataset, recipe: Recipe) -> None:
    """Raise InputError if the data do not fit the batch size, augmentation or class weights."""
    if not dataset.validation.count:
        raise InputError(
            f"The validation split of {dataset.name!r} must have images, which choose the epoch to "
            "save. Received: none. Add images."
        )
    check_batch_size(dataset, recipe)
    check_square(dataset, recipe)
    for name in recipe.named_class_weights:
        choose(
            f"a class of {dataset.name} in class_weights (--class-weights)",
            name,
            dataset.class_names,
        )


def check_square(dataset: Dataset, recipe: Recipe) -> None:
    """Raise InputError if the augmentation needs square images and the data have others."""
    height, width, _ = dataset.image_shape
    if policy_of(recipe).square and height != width:
        raise InputError(
            f"`augment` {recipe.augment} needs square images. Received: images of "
            f"{height}x{width} pixels in {dataset.name}. Load them with "
            f"image_size={min(height, width)} (--image-size)."
        )


def check_batch_size(dataset: Dataset, recipe: Recipe) -> None:
    """Raise InputError if the images per optimizer step exceed the training images."""
    if recipe.batch_size * recipe.accumulate > dataset.train.count >= recipe.batch_size:
        raise InputError(
            f"`accumulate` times `batch_size` must be at most {dataset.train.count}, the number of "
            f"training images in {dataset.name}. Received: {recipe.accumulate} times "
            f"{recipe.batch_size}. Pass a smaller accumulate (--accumulate)."
        )
    if recipe.batch_size > dataset.train.count:
        raise InputError(
            f"`batch_size` must be at most {dataset.train.count}, the number of training images in "
            f"{dataset.name}. Received: batch_size={recipe.batch_size}. "
            "Pass a smaller batch_size (--batch-size)."
        )


def steps_per_epoch(dataset: Dataset, recipe: Recipe) -> int:
    """Return the number of optimizer steps per epoch, at least 1."""
    return max(1, dataset.train.count // (recipe.batch_size * recipe.accumulate))


def batches_per_epoch(dataset: Dataset, recipe: Recipe) -> int:
    """Return the number of batches per epoch, `recipe.accumulate` for each optimizer step."""
    return steps_per_epoch(dataset, recipe) * recipe.accumulate


def evaluation_batches(split: Split | InBatches, classes: int, batch_size: int) -> tf.data.Dataset:
    """Return all images of a split in batches, in its order: images and one-hot labels.

    `InBatches` keeps its batches. Their number is known, which Keras needs.
    """
    batches = split.dataset if isinstance(split, InBatches) else split.examples.batch(batch_size)
    return batches.map(lambda images, labels: (images, tf.one_hot(labels, classes))).prefetch(1)


def padded_batches(
    split: Split, classes: int, batch_size: int, devices: int, part: Part
) -> tf.data.Dataset:
    """Return the images of one process for evaluation on several devices.

    All processes return the same number of batches of the same size, which the devices divide.
    Images with zero labels and zero weight fill the last batches. Other images have the weight
    (all images) / (images with labels), so that the mean weight is 1.

    Args:
        split: split with all images.
        classes: number of classes.
        batch_size: most images in the batches of all processes together.
        devices: number of devices of all processes.
        part: part of the images to return.

    Returns:
        `tf.data.Dataset` of images, one-hot labels (batch, classes) and weights (batch,).
    """
    share = math.ceil(split.count / part.count)  # images per process
    size = math.ceil(min(batch_size, split.count) / devices) * devices // part.count
    padded = math.ceil(share / size) * size
    own = split.slice(part.index * share, (part.index + 1) * share)
    nothing = (tf.zeros(own.examples.element_spec[0].shape, tf.uint8), tf.constant(-1, tf.int64))
    padding = tf.data.Dataset.from_tensors(nothing).repeat(padded - own.count)
    weight = padded * part.count / split.count

    def encode(images, labels):
        return images, tf.one_hot(labels, classes), tf.where(labels >= 0, weight, 0.0)

    return own.examples.concatenate(padding).batch(size).map(encode).prefetch(1)
