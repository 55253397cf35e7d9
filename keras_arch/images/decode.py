"""Decode pictures in TensorFlow, to the pixels of `keras_arch.images.read`."""

import tensorflow as tf

from .read import ORIENTATION, SHORT

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"  # how such files begin
JPEG_EXIF, PNG_EXIF = b"Exif\0\0", b"eXIf"  # what stands before the EXIF block in them
EXIF_BYTES = 2**16  # of a file, from where its EXIF block begins, in which the orientation must be
PNG_BITS = 24  # place of the byte that holds the bits per channel


def decode_image(content):
    """Decode the bytes of a JPEG, PNG, GIF or BMP file to what `keras_arch.images.read.decode_file` gives.

    A JPEG or PNG is turned upright by its EXIF orientation, and the transparency of a PNG is composed on white. TensorFlow
    decodes no other transparency: the transparent pixels of a GIF are black, and a BMP loses its alpha channel.

    Returns:
        uint8 (height, width, 3); of an animation the first frame.
    """
    jpeg, png = begins_with(content, JPEG), begins_with(content, PNG)
    image = tf.case(
        [(jpeg, lambda: decode_jpeg(content)), (png, lambda: decode_png(content))],
        lambda: tf.io.decode_image(content, channels=3, expand_animations=False),
    )
    before_exif = tf.where(jpeg, JPEG_EXIF, PNG_EXIF)
    parts = tf.strings.split(content, before_exif, maxsplit=1)
    has_exif = (jpeg | png) & (tf.size(parts) == 2)
    image = tf.cond(has_exif, lambda: rotate_upright(image, orientation(parts[1])), lambda: image)
    return tf.ensure_shape(image, (None, None, 3))


def begins_with(content, head):
    return tf.strings.substr(content, 0, len(head)) == head


def decode_jpeg(content):
    """Decode the bytes of a JPEG file to the pixels that Pillow gives, as it is stored: uint8 (height, width, 3)."""
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def decode_png(content):
    """Decode the bytes of a PNG file and compose it on white, rounded as Pillow does: uint8 (height, width, 3)."""
    image = tf.cast(tf.io.decode_png(content, channels=4), tf.int32)
    color, alpha = image[..., :3], image[..., 3:]
    # Where a file of 1, 2 or 4 bits is opaque, TensorFlow sets alpha to the largest number of so many bits instead of 255.
    bits = tf.cast(tf.io.decode_raw(tf.strings.substr(content, PNG_BITS, 1), tf.uint8)[0], tf.int32)
    largest = 2 ** tf.minimum(bits, 8) - 1
    alpha = tf.where(tf.reduce_all(alpha == largest), 255, alpha)
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def rotate_upright(image, orientation):
    """Turn an image (height, width, channels) upright that has this EXIF orientation, 1 to 8."""
    image = tf.transpose(image, tf.where(orientation > 4, [1, 0, 2], [0, 1, 2]))
    axes = tf.where(
        tf.reduce_any(orientation == [[3, 4, 7, 8], [2, 3, 6, 7]], axis=1)
    )  # rows, columns
    return tf.reverse(image, axes[:, 0])


# A call that is not inlined takes hardly any time where it is not needed.
@tf.function(
    input_signature=[tf.TensorSpec((), tf.string)], experimental_attributes={"_noinline": True}
)
def orientation(block):
    """The rule of `keras_arch.images.read.orientation` in TensorFlow, for bytes that begin with an EXIF block: int64."""
    data = tf.cast(tf.io.decode_raw(tf.strings.substr(block, 0, EXIF_BYTES), tf.uint8), tf.int64)
    little_endian = begins_with(block, b"II")

    def number(digits):
        digits = tf.cond(little_endian, lambda: digits, lambda: tf.reverse(digits, [-1]))
        return tf.reduce_sum(digits * 256 ** tf.range(tf.shape(digits, tf.int64)[-1]), axis=-1)

    start = number(data[4:8])
    entries = data[start + 2 : start + 2 + 12 * number(data[start : start + 2])]
    entries = tf.reshape(entries[: tf.size(entries) // 12 * 12], (-1, 12))
    tags, kinds, counts, values = (
        number(entries[:, a:b]) for a, b in ((0, 2), (2, 4), (4, 8), (8, 10))
    )
    first = tf.stack([kinds, counts, values], axis=-1)[tags == ORIENTATION][:1]
    valid = (
        (first[:, 0] == SHORT)
        & (first[:, 1] == 1)
        & (first[:, 2] <= 8)
        & (begins_with(block, b"MM") | little_endian)
    )
    return tf.reduce_max(tf.concat([tf.ones(1, tf.int64), first[:, 2][valid]], axis=0))
