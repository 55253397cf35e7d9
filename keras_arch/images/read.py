"""A picture file as a model wants it: one rule for training, evaluation and prediction, and one piece of code.

Upright by its EXIF tag; grey or red, green and blue by ITU-R 601 luma; transparency is composed on white; the largest
centre of the model's aspect is cut out and resized bilinearly, each output pixel the mean of what it covers.
"""

import re
import struct

import numpy as np
from PIL import Image

from ..errors import InputError, first_line
from ..files import refuse_endless

# The raster formats that Pillow decodes itself. It passes others, such as EPS, to a program that it finds on the PATH.
RASTER = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
FORMATS = tuple(
    name for name in RASTER if name in Image.registered_extensions().values()
)  # AVIF came with Pillow 11.3
SUFFIXES = {
    suffix for name in FORMATS for suffix in RASTER[name]
}  # of the pictures that are looked for in folders
GRAY_MODES = ("1", "L", "LA")
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF
ORIENTATION, SHORT = 0x0112, 3  # tag and kind of number in EXIF
TURNS = {  # from each orientation to the upright picture, which is orientation 1
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path, shape, box=None):
    """Read a picture.

    Args:
        path: a file of one of the `FORMATS`, of any size and mode; of an animation the first frame, of a TIFF the first
            page.
        shape: (height, width, channels); 1 channel is grey, 3 are red, green and blue. A height or width of None
            keeps the picture's own.
        box: what to cut out instead of the centre: a function from the picture's (width, height) to (left, top,
            right, bottom) in its pixels.

    Returns:
        uint8 (height, width, channels) of 0-255.

    Raises:
        InputError (a ValueError): not there, or not a picture.
    """
    height, width, channels = shape
    image = decode_file(path)[0].convert("L" if channels == 1 else "RGB")
    size = (width or image.width, height or image.height)
    cut = (box or (lambda _: center_box(image.size, size)))(image.size)
    if cut != (0, 0, *image.size) or size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR, box=cut)
    return np.asarray(image).reshape(size[1], size[0], channels)


def open_image(path):
    """Open a picture with Pillow, whatever its suffix, as one of `FORMATS` only; no other program is started."""
    return Image.open(path, formats=FORMATS)


def decode_file(path):
    """The whole picture, upright and opaque, as a Pillow image of mode "L" or "RGB", and whether it is grey."""
    refuse_endless(path)
    try:
        with open_image(path) as file:
            image = on_white(in_8_bits(upright(file), file))
            grey = image.mode in GRAY_MODES
            return image.convert("L" if grey else "RGB"), grey
    except FileNotFoundError:
        raise InputError(f"expected an image file, got {path}, which does not exist") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises whatever its bytes happen to mean
        raise InputError(
            f"expected an image file such as JPEG or PNG, got {path}: {first_line(error)}"
        ) from error


def upright(file):
    """Return the picture that Pillow opened as `file`, turned by its EXIF orientation."""
    file.load()  # Pillow turns a TIFF here
    turn = TURNS.get(orientation(file))
    return file if turn is None else file.transpose(turn)


def orientation(file):
    """Return the EXIF orientation of a picture that Pillow opened: 1 to 8, and 1 if it has none.

    Only this tag is read, so damage elsewhere in the EXIF block does not matter.
    """
    block = re.sub(b"^(Exif\0\0)+", b"", file.info.get("exif", b""))
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, numbers, value = struct.unpack_from(f"{order}HHIH2x", block, entry)
            if tag == ORIENTATION:
                return value if (kind, numbers) == (SHORT, 1) and value in TURNS else 1
    except struct.error:  # behind the end of the block
        pass
    return 1


def in_8_bits(image, file):
    """Return a gray picture of 16 bits as one of 8, and any other as it is.

    Args:
        image: the picture, upright.
        file: the same as Pillow opened it, with its format and tags.

    Raises:
        ValueError: 32 bits or floating point, whose range no file states.
    """
    if image.mode in ("I", "F") and not (
        image.mode == "I" and file.format == "PPM"
    ):  # Pillow scales PPM to 16 bits
        raise ValueError(
            f"The range of its pixels is unknown. Received: mode {image.mode}. Save it with 8 or 16 bits."
        )
    if not image.mode.startswith("I"):
        return image
    tags = getattr(file, "tag_v2", {})
    (bits,) = tags.get(BITS_PER_SAMPLE, (16,))
    values = np.asarray(image)
    found = (values >> (bits - 8)).astype("uint8")
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        found = 255 - found
    if "transparency" not in image.info:
        return Image.fromarray(found)
    opaque = np.where(values == image.info["transparency"], 0, 255).astype("uint8")
    return Image.merge("LA", [Image.fromarray(found), Image.fromarray(opaque)])


def on_white(image):
    """Compose the transparency of a picture on white; what is gray stays gray."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return opaque.convert("L" if image.mode in GRAY_MODES else "RGB")


def center_box(size, target):
    """The largest box in the middle of a picture of `size` that has the aspect of `target`, both (width, height)."""
    (width, height), (target_width, target_height) = size, target
    cut_width = min(width, round(height * target_width / target_height))
    cut_height = min(height, round(width * target_height / target_width))
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    return left, top, left + cut_width, top + cut_height
