"""Crop and resize images in TensorFlow by the rule of `keras_arch.images.read`."""

import tensorflow as tf


def read_window(path, shape, box, random):
    """Decode a random window of a JPEG file and resize it.

    Only the window is decoded. Pixels are averaged if the window has more than twice the height or
    width of the result.

    Args:
        path: path of the file, a string scalar.
        shape: (height, width, channels) of the result.
        box: function from (random, height, width) to boxes, such as `augment.inception_box`.
        random: (RANDOM_NUMBERS,) uniform numbers of the example.

    Returns:
        uint8 (height, width, channels) of 0-255.
    """
    height, width, channels = shape
    content = tf.io.read_file(path)
    size = tf.image.extract_jpeg_shape(content)
    window = box_in_pixels(box(random[tf.newaxis], size[0], size[1])[0], size)
    image = tf.image.decode_and_crop_jpeg(content, window, channels, dct_method="INTEGER_ACCURATE")
    coarse = (window[2] > 2 * height) | (window[3] > 2 * width)
    image = tf.cond(
        coarse,
        lambda: tf.image.resize(image, (height, width), antialias=True),
        lambda: tf.image.resize(image, (height, width)),
    )
    return tf.cast(tf.round(image), tf.uint8)


def box_in_pixels(box, size):
    """Convert (top, left, bottom, right) of 0-1 to (top, left, height, width) in pixels.

    Args:
        box: float32 (4,).
        size: (height, width, ...) of the image in pixels.

    Returns:
        int32 (4,).
    """
    height, width = tf.unstack(tf.cast(size[:2], tf.float32))
    top, left = tf.floor(box[0] * height), tf.floor(box[1] * width)
    cut_height, cut_width = (
        tf.round((box[2] - box[0]) * height),
        tf.round((box[3] - box[1]) * width),
    )
    cut_height, cut_width = tf.maximum(1.0, cut_height), tf.maximum(1.0, cut_width)
    # After rounding, the box must still be inside the image.
    top, left = tf.minimum(top, height - cut_height), tf.minimum(left, width - cut_width)
    return tf.cast(tf.stack([top, left, cut_height, cut_width]), tf.int32)


def resize(image, shape, box=None):
    """Crop and resize an image by the rule of `keras_arch.images.read`.

    Args:
        image: uint8 (height, width, 1 or 3) of any size.
        shape: (height, width, channels) of the result.
        box: (top, left, bottom, right) of 0-1. Default: the largest center crop with the aspect
            ratio of `shape`.

    Returns:
        uint8 (height, width, channels) of 0-255.
    """
    height, width, channels = shape
    if image.shape[-1] == 1 and channels == 3:
        image = tf.image.grayscale_to_rgb(image)
    elif image.shape[-1] == 3 and channels == 1:
        image = tf.image.rgb_to_grayscale(image)
    if box is None and tuple(image.shape[:2]) == (height, width):
        return image
    if box is None:
        old_height, old_width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
        cut_height = tf.minimum(old_height, tf.round(old_width * height / width))
        cut_width = tf.minimum(old_width, tf.round(old_height * width / height))
        top, left = (old_height - cut_height) // 2, (old_width - cut_width) // 2
        cut = tf.cast(tf.stack([top, left, cut_height, cut_width]), tf.int32)
    else:
        cut = box_in_pixels(box, tf.shape(image))
    image = tf.image.resize(
        tf.image.crop_to_bounding_box(image, *tf.unstack(cut)), (height, width), antialias=True
    )
    return tf.ensure_shape(tf.cast(tf.round(image), tf.uint8), shape)
