"""Augmentation policies for training images.

An augmentation is a function of a batch of images and one row of uniform random numbers per
example. The same seed, epoch and example give the same pixels on any machine, with any number of
threads. Keras layers use a random state instead, which depends on the order of execution.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.stats import beta

# Columns of the random numbers of an example.
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
    SYMMETRY,
) = range(15)


class Policy(NamedTuple):
    """An augmentation policy."""

    # Function from (random, height, width) to crop boxes (batch, 4) of 0-1.
    box: Callable | None = None
    # Functions from (images, random) to images, called in this order. uint8 stays uint8.
    pixels: tuple[Callable, ...] = ()
    # Function from (images, one-hot labels, random) to mixed images and labels.
    mix: Callable | None = None
    # Whether all images must have equal height and width.
    square: bool = False


# --- functions of one image: uint8 (batch, height, width, channels) in and out ---


def crop(images, random):
    """Pad each side by an eighth and crop at a random position (He et al. 2015).

    For CIFAR-10, an eighth is 4 pixels.
    """
    height, width = images.shape[1:3]
    return shift(images, random, None, height // 8, width // 8)


def flip_shift(images, random):
    """Mirror half of the images, and shift all by up to a thirty-second of the size.

    The shift of images below 64 pixels is up to one pixel.
    """
    height, width = images.shape[1:3]
    return shift(images, random, random[:, FLIP] < 0.5, max(1, height // 32), max(1, width // 32))


def flip_crop(images, random):
    """Apply `crop` and mirror half of the images."""
    height, width = images.shape[1:3]
    return shift(images, random, random[:, FLIP] < 0.5, height // 8, width // 8)


def shift(images, random, mirror, pad_height, pad_width):
    """Pad, crop and mirror images in a single gather of pixels by index."""
    height, width, channels = images.shape[1:]
    images = tf.pad(images, [[0, 0], [pad_height, pad_height], [pad_width, pad_width], [0, 0]])
    rows = uniform_integer(random[:, TOP], 2 * pad_height + 1)[:, tf.newaxis] + tf.range(height)
    columns = uniform_integer(random[:, LEFT], 2 * pad_width + 1)[:, tf.newaxis] + tf.range(width)
    if mirror is not None:
        columns = tf.where(mirror[:, tf.newaxis], columns[:, ::-1], columns)
    numbers = rows[:, :, tf.newaxis] * (width + 2 * pad_width) + columns[:, tf.newaxis, :]
    flat = tf.reshape(images, (-1, (height + 2 * pad_height) * (width + 2 * pad_width), channels))
    return tf.gather(flat, numbers, axis=1, batch_dims=1)


def flip(images, random):
    """Mirror half of the images left to right."""
    # Six times as fast as tf.where.
    both = tf.stack([images, tf.reverse(images, [2])], axis=1)
    return tf.gather(both, tf.cast(random[:, FLIP] < 0.5, tf.int32), axis=1, batch_dims=1)


def dihedral(images, random):
    """Rotate square images by 0, 90, 180 or 270 degrees, and mirror half of them.

    These are the eight symmetries of a square. Each has the same probability.
    """
    size, channels = images.shape[1], images.shape[3]
    numbers = np.arange(size**2, dtype="int32").reshape(size, size)
    # A symmetry is a choice of three: transpose, reverse the rows, reverse the columns.
    symmetries = [
        pixels[::down, ::right]
        for pixels in (numbers, numbers.T)
        for down in (1, -1)
        for right in (1, -1)
    ]
    table = tf.constant(np.stack(symmetries))
    chosen = tf.gather(table, uniform_integer(random[:, SYMMETRY], len(symmetries)))
    return tf.gather(tf.reshape(images, (-1, size**2, channels)), chosen, axis=1, batch_dims=1)


def random_erasing(images, random):
    """Fill a rectangle with gray in a quarter of the images.

    The rectangle has 2% to 33% of the image area.

    Reference:
        Zhong et al. 2017, arXiv:1708.04896.
    """
    height, width = images.shape[1:3]
    area = (0.02 + random[:, ERASE_AREA] * (1 / 3 - 0.02)) * height * width
    aspect = log_uniform(random[:, ERASE_ASPECT], 0.3, 1 / 0.3)
    inside = rectangle_mask(
        random[:, ERASE_TOP],
        random[:, ERASE_LEFT],
        tf.sqrt(area * aspect),
        tf.sqrt(area / aspect),
        height,
        width,
    )
    erased = inside & (random[:, ERASE] < 0.25)[:, tf.newaxis, tf.newaxis]
    return tf.where(erased[..., tf.newaxis], tf.constant(128, images.dtype), images)


def rectangle_mask(top, left, height, width, image_height, image_width):
    """Return masks that are true inside a rectangle.

    Args:
        top, left: positions of 0-1, float32 (batch,).
        height, width: sizes of the rectangles in pixels, float32 (batch,).
        image_height, image_width: size of the image in pixels.

    Returns:
        bool (batch, image_height, image_width).
    """
    height, width = tf.minimum(height, image_height), tf.minimum(width, image_width)
    top, left = top * (image_height - height), left * (image_width - width)

    def between(count, low, size):
        centers = tf.range(count, dtype=tf.float32) + 0.5
        return (centers >= low[:, tf.newaxis]) & (centers < (low + size)[:, tf.newaxis])

    return (
        between(image_height, top, height)[:, :, tf.newaxis]
        & between(image_width, left, width)[:, tf.newaxis, :]
    )


def trivial_augment(images, random):
    """Apply one random operation of random strength to each image, without equalize and sharpness.

    Reference:
        Mueller and Hutter 2021, arXiv:2103.10158.
    """
    strength = random[:, STRENGTH]
    signed = tf.where(random[:, SIGN] < 0.5, -strength, strength)
    factor = 1 + 0.99 * signed  # 0.01 to 1.99
    values = tf.cast(images, tf.float32)
    height, width = images.shape[1:3]
    one, zero = tf.ones_like(signed), tf.zeros_like(signed)
    angle = signed * (135 * np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    geometric = {
        "shear_x": [one, 0.99 * signed, -0.99 * signed * center_y, zero, one, zero],
        "shear_y": [one, zero, zero, 0.99 * signed, one, -0.99 * signed * center_x],
        "translate_x": [one, zero, signed * width / 4, zero, one, zero],
        "translate_y": [one, zero, zero, zero, one, signed * height / 4],
        "rotate": [
            cos,
            -sin,
            center_x - cos * center_x + sin * center_y,
            sin,
            cos,
            center_y - sin * center_x - cos * center_y,
        ],
    }
    identity = [one, zero, zero, zero, one, zero]
    operation = uniform_integer(random[:, OPERATION], len(geometric) + len(COLOR_OPERATIONS) + 1)
    transforms = [tf.stack([*rows, zero, zero], axis=1) for rows in (identity, *geometric.values())]
    is_geometric = operation <= len(geometric)
    matrices = tf.gather(
        tf.stack(transforms, axis=1), tf.where(is_geometric, operation, 0), batch_dims=1
    )
    augmented = tf.raw_ops.ImageProjectiveTransformV3(
        images=values,
        transforms=matrices,
        output_shape=(height, width),
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )
    # Each color operation is computed only for its images.
    for number, adjust in enumerate(COLOR_OPERATIONS, start=len(geometric) + 1):
        chosen = tf.where(operation == number)
        changed = adjust(
            tf.gather_nd(values, chosen),
            *(
                tf.gather_nd(value, chosen)[:, tf.newaxis, tf.newaxis, tf.newaxis]
                for value in (factor, strength)
            ),
        )
        augmented = tf.tensor_scatter_nd_update(augmented, chosen, changed)
    return tf.saturate_cast(tf.round(augmented), tf.uint8)


# --- color operations of TrivialAugment: float32 (batch, height, width, channels) in and out ---


def brightness(values, factor, strength):
    """Multiply all pixels."""
    return values * factor


def contrast(values, factor, strength):
    """Scale the distance to the mean gray."""
    return blend(tf.reduce_mean(to_gray(values), axis=(1, 2), keepdims=True), values, factor)


def adjust_color(values, factor, strength):
    """Scale the saturation."""
    return blend(to_gray(values), values, factor)


def posterize(values, factor, strength):
    """Keep the upper 8 to 2 bits."""
    step = 2 ** tf.round(6 * strength)
    return tf.floor(values / step) * step


def solarize(values, factor, strength):
    """Invert pixels above a threshold."""
    return tf.where(values >= 255 * (1 - strength), 255 - values, values)


def autocontrast(values, factor, strength):
    """Stretch the pixels to 0-255."""
    low, high = (
        reduce(values, axis=(1, 2), keepdims=True) for reduce in (tf.reduce_min, tf.reduce_max)
    )
    return tf.where(high > low, (values - low) * 255 / tf.maximum(high - low, 1), values)


COLOR_OPERATIONS = (brightness, contrast, adjust_color, posterize, solarize, autocontrast)


def to_gray(values):
    """Convert RGB to grayscale."""
    return tf.image.rgb_to_grayscale(values) if values.shape[-1] == 3 else values


def blend(a, b, factor):
    """Interpolate from `a` (factor 0) to `b` (factor 1), or extrapolate."""
    return a + factor * (b - a)


# --- crop boxes in the original image ---


def inception_box(random, height, width):
    """Return random crop boxes with 8% to 100% of the area and an aspect ratio of 3/4 to 4/3.

    Args:
        random: uniform numbers of 0-1, (batch, RANDOM_NUMBERS).
        height, width: size of the image in pixels.

    Returns:
        float32 (batch, 4): top, left, bottom, right of 0-1.

    Reference:
        Szegedy et al. 2014, section 6.
    """
    height, width = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    area = (0.08 + 0.92 * random[:, AREA]) * height * width
    aspect = log_uniform(random[:, ASPECT], 3 / 4, 4 / 3)
    crop_width = tf.minimum(tf.sqrt(area * aspect) / width, 1)
    crop_height = tf.minimum(tf.sqrt(area / aspect) / height, 1)
    top, left = random[:, TOP] * (1 - crop_height), random[:, LEFT] * (1 - crop_width)
    return tf.stack([top, left, top + crop_height, left + crop_width], axis=1)


# --- functions of two images: each image is mixed with the previous one of its batch ---


def mixup(images, labels, random):
    """Blend each image and label with another image and label, with alpha = 0.2.

    Reference:
        Zhang et al. 2017, arXiv:1710.09412.
    """
    share = tf.gather(BETA_QUANTILES, uniform_integer(random[:, MIX], len(BETA_QUANTILES)))
    wide = share[:, tf.newaxis, tf.newaxis, tf.newaxis]
    values = tf.cast(images, tf.float32)
    mixed = blend(tf.roll(values, 1, axis=0), values, wide)
    return mixed, blend(tf.roll(labels, 1, axis=0), labels, share[:, tf.newaxis])


def cutmix(images, labels, random):
    """Paste a rectangle of another image, and mix the labels by its area, with alpha = 1.

    Reference:
        Yun et al. 2019, arXiv:1905.04899.
    """
    height, width = images.shape[1:3]
    side = tf.sqrt(1 - random[:, MIX])
    inside = rectangle_mask(
        random[:, ERASE_TOP], random[:, ERASE_LEFT], side * height, side * width, height, width
    )
    mixed = tf.where(inside[..., tf.newaxis], tf.roll(images, 1, axis=0), images)
    share = 1 - tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2))[:, tf.newaxis]
    return mixed, blend(tf.roll(labels, 1, axis=0), labels, share)


# Quantiles of the beta distribution with alpha = beta = 0.2. A uniform number selects one.
BETA_QUANTILES = tf.constant(beta.ppf((np.arange(1024) + 0.5) / 1024, 0.2, 0.2), tf.float32)


def uniform_integer(uniform, count):
    """Map a uniform number in [0, 1) to an integer from 0 to `count` - 1."""
    return tf.minimum(tf.cast(uniform * count, tf.int32), count - 1)


def log_uniform(uniform, low, high):
    """Map a uniform number to `low`-`high` on a logarithmic scale."""
    return tf.exp(np.log(low) + uniform * (np.log(high) - np.log(low)))


POLICIES = {
    "none": Policy(),
    "flip": Policy(pixels=(flip,)),
    "flip_shift": Policy(pixels=(flip_shift,)),
    "crop": Policy(pixels=(crop,)),
    "flip_crop": Policy(pixels=(flip_crop,)),
    "inception_crop": Policy(box=inception_box, pixels=(flip,)),
    "trivial_augment": Policy(pixels=(flip_crop, trivial_augment)),
    "random_erasing": Policy(pixels=(flip_crop, random_erasing)),
    "mixup": Policy(pixels=(flip_crop,), mix=mixup),
    "cutmix": Policy(pixels=(flip_crop,), mix=cutmix),
    "dihedral": Policy(pixels=(dihedral,), square=True),
}
