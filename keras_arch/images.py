"""A picture file as a model wants it."""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import InputError


def read_image(path, shape):
    """Read a picture: upright, in the model's colours, its centre at the model's aspect, resized.

    Args:
        path: a file that Pillow reads (JPEG, PNG, BMP, GIF, WebP, ...), of any size and mode.
        shape: (height, width, channels); 1 channel is grey, 3 are red, green and blue. A height or width of None
            keeps the picture's own.

    Returns:
        uint8 (height, width, channels) of 0-255.

    Raises:
        InputError (a ValueError): not there, or not a picture.
    """
    height, width, channels = shape
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):  # Pillow would cut 16 bits off at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
            image = image.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise InputError(f"expected an image file, got {path}, which does not exist") from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"expected an image file such as JPEG or PNG, got {path}: {error}") from error
    size = (width or image.width, height or image.height)
    image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size[1], size[0], channels)
