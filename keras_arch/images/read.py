"""Read image files with Pillow, by one rule for training, evaluation and prediction.

1. Rotate the image by its EXIF orientation.
2. Composite transparent pixels on white.
3. Convert to grayscale (ITU-R 601 luma) or RGB.
4. Crop the largest center with the aspect ratio of the image shape.
5. Resize with antialiased bilinear interpolation.
"""

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ..errors import InputError, first_line
from ..files import refuse_pipe

# Raster formats that Pillow decodes itself. For others, such as EPS, it starts a program from PATH.
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
# AVIF requires Pillow 11.3.
PILLOW_FORMATS = tuple(name for name in RASTER if name in Image.registered_extensions().values())
SUFFIXES = {suffix for name in PILLOW_FORMATS for suffix in RASTER[name]}
GRAY_MODES = ("1", "L", "LA")
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # TIFF tags and a value
ORIENTATION, SHORT = 0x0112, 3  # EXIF tag and type
TRANSPOSE = {  # {orientation: operation that gives the upright image}
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(
    path: str | Path | BinaryIO,
    shape: tuple[int | None, int | None, int],
    box: Callable[[tuple[int, int]], tuple[float, float, float, float]] | None = None,
) -> np.ndarray:
    """Read, crop and resize an image.

    Args:
        path: file in one of the `PILLOW_FORMATS`, of any size and mode, or an open file with its
            bytes. The first frame of an animation and the first page of a TIFF are read.
        shape: (height, width, channels) of the result. 1 channel is grayscale, 3 channels are RGB.
            None keeps the height or width of the image.
        box: function from (width, height) of the image to the crop (left, top, right, bottom), in
            pixels. Default: the center crop.

    Returns:
        uint8 (height, width, channels) of 0-255.

    Raises:
        InputError (a ValueError): the file does not exist or cannot be decoded.
    """
    height, width, channels = shape
    image = decode_file(path)[0].convert("L" if channels == 1 else "RGB")
    size = (width or image.width, height or image.height)
    crop = box(image.size) if box else center_box(image.size, size)
    if crop != (0, 0, *image.size) or size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR, box=crop)
    return np.asarray(image).reshape(size[1], size[0], channels)


def open_image(path: str | Path | BinaryIO) -> Image.Image:
    """Open an image with Pillow as one of the `PILLOW_FORMATS`, so that Pillow starts no other program."""
    return Image.open(path, formats=PILLOW_FORMATS)


def decode_file(path: str | Path | BinaryIO) -> tuple[Image.Image, bool]:
    """Decode an image, rotate it upright and remove transparency.

    Returns:
        The image with mode "L" or "RGB", and whether it is grayscale.
    """
    name = "An open file"
    if isinstance(path, (str, os.PathLike)):
        name = str(path)
        refuse_pipe(path)
    try:
        with open_image(path) as file:
            image = composite_on_white(convert_to_8_bits(rotate_upright(file), file))
            gray = image.mode in GRAY_MODES
            return image.convert("L" if gray else "RGB"), gray
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Pass an existing image file.") from None
    except MemoryError:
        raise
    except Exception as error:  # a damaged file can raise any exception
        raise InputError(
            f"{name} cannot be decoded as an image. Received: {first_line(error)}. "
            "Pass an image file such as JPEG or PNG."
        ) from error


def rotate_upright(file: Image.Image) -> Image.Image:
    """Rotate and mirror an image by its EXIF orientation."""
    file.load()  # Pillow rotates a TIFF here
    operation = TRANSPOSE.get(orientation(file))
    return file if operation is None else file.transpose(operation)


def orientation(file: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8. The default is 1.

    No other tag is read, so damage in other parts of the EXIF block has no effect.
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
                return value if (kind, numbers) == (SHORT, 1) and value in TRANSPOSE else 1
    except struct.error:  # the offset is after the end of the block
        pass
    return 1


def convert_to_8_bits(image: Image.Image, file: Image.Image) -> Image.Image:
    """Convert 16-bit grayscale images to 8 bits. Return other images unchanged.

    Args:
        image: the upright image.
        file: the opened file, with format and tags.

    Raises:
        ValueError: the pixels have 32 bits or are floating point. Files do not state their range.
    """
    scaled_by_pillow = image.mode == "I" and file.format == "PPM"  # to 16 bits
    if image.mode in ("I", "F") and not scaled_by_pillow:
        raise ValueError(
            f"the pixel range is unknown in mode {image.mode}, so save the image with 8 or 16 bits"
        )
    if not image.mode.startswith("I"):
        return image
    tags = getattr(file, "tag_v2", {})
    (bits,) = tags.get(BITS_PER_SAMPLE, (16,))
    values = np.asarray(image)
    gray = (values >> (bits - 8)).astype("uint8")
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        gray = 255 - gray
    if "transparency" not in image.info:
        return Image.fromarray(gray)
    alpha = np.where(values == image.info["transparency"], 0, 255).astype("uint8")
    return Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])


def composite_on_white(image: Image.Image) -> Image.Image:
    """Composite transparent pixels on white. Grayscale images stay grayscale."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return opaque.convert("L" if image.mode in GRAY_MODES else "RGB")


def center_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the largest centered box with the aspect ratio of `target`.

    Args:
        size: (width, height) of the image in pixels.
        target: (width, height) with the aspect ratio of the box.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    (width, height), (target_width, target_height) = size, target
    cut_width = min(width, round(height * target_width / target_height))
    cut_height = min(height, round(width * target_height / target_width))
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    return left, top, left + cut_width, top + cut_height
