"""Augmentation as named policies: what a training image may become.

Everything is a function of the images of a batch and of the row of uniform numbers that comes with each example, so that
the same (seed, epoch, example) gives the same pixels on any machine and any number of threads. Keras's own layers draw
their random numbers from a state instead, which order of execution changes; hence these few lines of tf.image.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.stats import beta

# Which of an example's random numbers is for what.
(
    TOP,
    LEFT,
    FLIP,
    AREA,
    ASPECT,
    ERASE,
    ERASE_TOP,
    ERASE_LEFT,
    ERASE_AREA,
    ERASE_ASPECT,
    MIX,
    OPERATION,
    STRENGTH,
    SIGN,
) = range(14)


class Policy(NamedTuple):
    """What happens to training images."""

    box: Callable | None = None  # (random, height, width) -> boxes to cut out, (batch, 4) of 0-1
    pixels: tuple[
        Callable, ...
    ] = ()  # (images, random) -> images, one after the other; uint8 stays uint8
    mix: Callable | None = None  # (images, one-hot labels, random) -> the same, of two images each


# --- one image: uint8 (batch, height, width, channels) in and out ---


def crop(images, random):
    """Pad each side by an eighth of it (4 pixels of CIFAR-10's 32) and cut out at a random place (He et al. 2015)."""
    return shift(images, random, mirror=None)


def flip_crop(images, random):
    """The same, and half of the images are mirrored."""
    return shift(images, random, mirror=random[:, FLIP] < 0.5)


def shift(images, random, mirror):
    """Padding, cropping and mirroring are one gather of pixels by their numbers."""
    height, width, channels = images.shape[1:]
    pad_height, pad_width = height // 8, width // 8
    images = tf.pad(images, [[0, 0], [pad_height, pad_height], [pad_width, pad_width], [0, 0]])
    rows = whole(random[:, TOP], 2 * pad_height + 1)[:, tf.newaxis] + tf.range(height)
    columns = whole(random[:, LEFT], 2 * pad_width + 1)[:, tf.newaxis] + tf.range(width)
    if mirror is not None:
        columns = tf.where(mirror[:, tf.newaxis], columns[:, ::-1], columns)
    numbers = rows[:, :, tf.newaxis] * (width + 2 * pad_width) + columns[:, tf.newaxis, :]
    flat = tf.reshape(images, (-1, (height + 2 * pad_height) * (width + 2 * pad_width), channels))
    return tf.gather(flat, numbers, axis=1, batch_dims=1)


def flip(images, random):
    """Mirror half of the images left to right."""
    both = tf.stack(
        [images, tf.reverse(images, [2])], axis=1
    )  # six times as fast as tf.where over whole images
    return tf.gather(both, tf.cast(random[:, FLIP] < 0.5, tf.int32), axis=1, batch_dims=1)


def random_erasing(images, random):
    """Blank a rectangle of 2% to a third of the area of every fourth image (Zhong et al. 2017, arXiv:1708.04896)."""
    height, width = images.shape[1:3]
    area = (0.02 + random[:, ERASE_AREA] * (1 / 3 - 0.02)) * height * width
    aspect = log_uniform(random[:, ERASE_ASPECT], 0.3, 1 / 0.3)
    inside = rectangle(
        random[:, ERASE_TOP],
        random[:, ERASE_LEFT],
        tf.sqrt(area * aspect),
        tf.sqrt(area / aspect),
        height,
        width,
    )
    erased = inside & (random[:, ERASE] < 0.25)[:, tf.newaxis, tf.newaxis]
    return tf.where(erased[..., tf.newaxis], tf.constant(128, images.dtype), images)


def rectangle(top, left, height, width, whole_height, whole_width):
    """(batch, whole_height, whole_width) truths: what lies in a rectangle at a place of 0-1, its size in pixels."""
    height, width = tf.minimum(height, whole_height), tf.minimum(width, whole_width)
    top, left = top * (whole_height - height), left * (whole_width - width)

    def between(count, low, size):
        centres = tf.range(count, dtype=tf.float32) + 0.5
        return (centres >= low[:, tf.newaxis]) & (centres < (low + size)[:, tf.newaxis])

    return (
        between(whole_height, top, height)[:, :, tf.newaxis]
        & between(whole_width, left, width)[:, tf.newaxis, :]
    )


def trivial_augment(images, random):
    """One operation an image, of a random strength (Mueller and Hutter 2021, arXiv:2103.10158), without their equalize."""
    strength = random[:, STRENGTH]
    signed = tf.where(random[:, SIGN] < 0.5, -strength, strength)
    factor = 1 + 0.99 * signed  # 0.01 to 1.99
    values = tf.cast(images, tf.float32)
    height, width = images.shape[1:3]
    one, zero = tf.ones_like(signed), tf.zeros_like(signed)
    angle = signed * (135 * np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    geometric = {
        "shear_x": [one, 0.99 * signed, -0.99 * signed * middle_y, zero, one, zero],
        "shear_y": [one, zero, zero, 0.99 * signed, one, -0.99 * signed * middle_x],
        "translate_x": [one, zero, signed * width / 4, zero, one, zero],
        "translate_y": [one, zero, zero, zero, one, signed * height / 4],
        "rotate": [
            cos,
            -sin,
            middle_x - cos * middle_x + sin * middle_y,
            sin,
            cos,
            middle_y - sin * middle_x - cos * middle_y,
        ],
    }
    identity = [one, zero, zero, zero, one, zero]
    operation = whole(random[:, OPERATION], len(geometric) + len(COLOR_OPERATIONS) + 1)
    chosen = [tf.stack([*rows, zero, zero], axis=1) for rows in (identity, *geometric.values())]
    is_geometric = operation <= len(geometric)
    matrices = tf.gather(
        tf.stack(chosen, axis=1), tf.where(is_geometric, operation, 0), batch_dims=1
    )
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=values,
        transforms=matrices,
        output_shape=(height, width),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )
    # Only the images that drew an operation go through it.
    for number, colour in enumerate(COLOR_OPERATIONS, start=len(geometric) + 1):
        where = tf.where(operation == number)
        picked = tf.gather_nd(values, where)
        changed = colour(
            picked,
            *(
                tf.gather_nd(value, where)[:, tf.newaxis, tf.newaxis, tf.newaxis]
                for value in (factor, strength)
            ),
        )
        moved = tf.tensor_scatter_nd_update(moved, where, changed)
    return tf.saturate_cast(tf.round(moved), tf.uint8)


def brightness(values, factor, strength):
    return values * factor


def contrast(values, factor, strength):
    return blend(tf.reduce_mean(to_gray(values), axis=(1, 2), keepdims=True), values, factor)


def adjust_color(values, factor, strength):
    return blend(to_gray(values), values, factor)


def posterize(values, factor, strength):
    """Keep 8 down to 2 bits."""
    step = 2 ** tf.round(6 * strength)
    return tf.floor(values / step) * step


def solarize(values, factor, strength):
    """Invert what is brighter than a threshold."""
    return tf.where(values >= 255 * (1 - strength), 255 - values, values)


def autocontrast(values, factor, strength):
    low, high = (
        reduce(values, axis=(1, 2), keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max)
    )
    return tf.where(high > low, (values - low) * 255 / tf.maximum(high - low, 1), values)


COLOR_OPERATIONS = (brightness, contrast, adjust_color, posterize, solarize, autocontrast)


def to_gray(values):
    return tf.image.rgb_to_grayscale(values) if values.shape[-1] == 3 else values


def blend(a, b, factor):
    return a + factor * (b - a)


# --- a box of the original picture, whose size is known when it is read ---


def inception_box(random, height, width):
    """8% to 100% of the area at an aspect of 3/4 to 4/3, cut out anywhere (Szegedy et al. 2014, section 6).

    Args:
        random: (batch, RANDOM_NUMBERS) of 0-1.
        height, width: of the picture, in pixels.

    Returns:
        (batch, 4): top, left, bottom, right of 0-1.
    """
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    area = (0.08 + 0.92 * random[:, AREA]) * height * width
    aspect = log_uniform(random[:, ASPECT], 3 / 4, 4 / 3)
    cut_width = tf.minimum(tf.sqrt(area * aspect) / width, 1)
    cut_height = tf.minimum(tf.sqrt(area / aspect) / height, 1)
    top, left = random[:, TOP] * (1 - cut_height), random[:, LEFT] * (1 - cut_width)
    return tf.stack([top, left, top + cut_height, left + cut_width], axis=1)


# --- two images: each is mixed with the next of its batch ---


def mixup(images, labels, random):
    """Blend each image and its label with the next one's (Zhang et al. 2017, arXiv:1710.09412, alpha 0.2)."""
    share = tf.gather(BETA, whole(random[:, MIX], len(BETA)))
    wide = share[:, tf.newaxis, tf.newaxis, tf.newaxis]
    values = tf.cast(images, tf.float32)
    mixed = blend(tf.roll(values, 1, axis=0), values, wide)
    return mixed, blend(tf.roll(labels, 1, axis=0), labels, share[:, tf.newaxis])


def cutmix(images, labels, random):
    """Paste a rectangle of the next image, and its share of the label (Yun et al. 2019, arXiv:1905.04899, alpha 1)."""
    height, width = images.shape[1:3]
    side = tf.sqrt(1 - random[:, MIX])
    inside = rectangle(
        random[:, ERASE_TOP], random[:, ERASE_LEFT], side * height, side * width, height, width
    )
    mixed = tf.where(inside[..., tf.newaxis], tf.roll(images, 1, axis=0), images)
    share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2))[:, tf.newaxis]
    return mixed, blend(tf.roll(labels, 1, axis=0), labels, share)


# Quantiles of the beta distribution of alpha 0.2, which a uniform number picks from.
BETA = tf.constant(beta.ppf((np.arange(1024) + 0.5) / 1024, 0.2, 0.2), tf.float32)


def whole(uniform, count):
    """A whole number from 0 to `count` - 1 from a uniform one of 0 to below 1."""
    return tf.minimum(tf.cast(uniform * count, tf.int32), count - 1)


def log_uniform(uniform, low, high):
    return tf.exp(np.log(low) + uniform * (np.log(high) - np.log(low)))


POLICIES = {
    "none": Policy(),
    "crop": Policy(pixels=(crop,)),
    "flip_crop": Policy(pixels=(flip_crop,)),
    "inception_crop": Policy(box=inception_box, pixels=(flip,)),
    "trivial_augment": Policy(pixels=(flip_crop, trivial_augment)),
    "random_erasing": Policy(pixels=(flip_crop, random_erasing)),
    "mixup": Policy(pixels=(flip_crop,), mix=mixup),
    "cutmix": Policy(pixels=(flip_crop,), mix=cutmix),
}
