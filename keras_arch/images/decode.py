"""Decode images in TensorFlow to the same pixels as `keras_arch.images.read`."""

import tensorflow as tf

from .read import ORIENTATION, SHORT

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"  # first bytes of a file
JPEG_EXIF, PNG_EXIF = b"Exif\0\0", b"eXIf"  # bytes before the EXIF block
EXIF_BYTES = 2**16  # of an EXIF block that are searched for the orientation
PNG_BITS = 24  # offset of the byte with the bits per channel


def decode_image(content: tf.Tensor) -> tf.Tensor:
    """Decode a JPEG, PNG, GIF or BMP file to the pixels of `keras_arch.images.read.decode_file`.

    JPEG and PNG files are rotated by their EXIF orientation. Transparent pixels of a PNG are
    composited on white. TensorFlow decodes no other transparency: transparent pixels of a GIF are
    black, and the alpha channel of a BMP is dropped.

    Args:
        content: the bytes of the file, a string scalar.

    Returns:
        uint8 (height, width, 3) of 0-255. For an animation, the first frame.
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
    """Return whether a string tensor begins with the bytes `head`."""
    return tf.strings.substr(content, 0, len(head)) == head


def decode_jpeg(content):
    """Decode a JPEG file to Pillow's pixels, without rotation: uint8 (height, width, 3)."""
    return tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE")


def decode_png(content):
    """Decode a PNG file, composited on white with Pillow's rounding: uint8 (height, width, 3)."""
    image = tf.cast(tf.io.decode_png(content, channels=4), tf.int32)
    color, alpha = image[..., :3], image[..., 3:]
    # In opaque files of 1, 2 or 4 bits, TensorFlow sets alpha to 1, 3 or 15 instead of 255.
    bits = tf.cast(tf.io.decode_raw(tf.strings.substr(content, PNG_BITS, 1), tf.uint8)[0], tf.int32)
    largest = 2 ** tf.minimum(bits, 8) - 1
    alpha = tf.where(tf.reduce_all(alpha == largest), 255, alpha)
    return tf.cast((color * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def rotate_upright(image, orientation):
    """Rotate and mirror an image (height, width, channels) by its EXIF orientation, 1 to 8."""
    image = tf.transpose(image, tf.where(orientation > 4, [1, 0, 2], [0, 1, 2]))
    # Orientations in which rows (axis 0) and columns (axis 1) are reversed.
    axes = tf.where(tf.reduce_any(orientation == [[3, 4, 7, 8], [2, 3, 6, 7]], axis=1))
    return tf.reverse(image, axes[:, 0])


# Without inlining, images that have no EXIF block skip this function at almost no cost.
@tf.function(
    input_signature=[tf.TensorSpec((), tf.string)], experimental_attributes={"_noinline": True}
)
def orientation(block):
    """Return the orientation in an EXIF block, by the rule of `keras_arch.images.read.orientation`.

    Args:
        block: bytes that begin with an EXIF block, a string scalar.

    Returns:
        int64 scalar, 1 to 8.
    """
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
