"""A picture file as a model wants it: one rule for training, evaluation and prediction, and one piece of code.

Upright by its EXIF tag; grey or red, green and blue by ITU-R 601 luma; transparency is dropped; the largest centre of the
model's aspect is cut out and resized bilinearly, each output pixel the mean of what it covers.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import DataWarning, InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp"}  # of the pictures that are looked for in folders
NAMED_KINDS = 5  # of unused files, in a warning


def find_pictures(paths):
    """Find the pictures among `paths` (pathlib.Path) and in the folders among them.

    Issues a `DataWarning` that counts the files in these folders that are not used.

    Returns:
        The paths in the order given, each folder's sorted by name.

    Raises:
        InputError (a ValueError): a folder without pictures.
    """
    found: list[Path] = []
    unused: list[Path] = []
    for path in paths:
        inside, others = pictures_in(path) if path.is_dir() else ([path], [])
        if not inside:
            raise InputError(f"expected a picture or a folder of pictures, got {path}, which has none")
        found += inside
        unused += others
    warn_of_unused(unused)
    return found


def pictures_in(path, above=()):
    """Return the pictures that `walk` finds, sorted, and all else that it finds."""
    pictures: list[Path] = []
    others: list[Path] = []
    for file in sorted(walk(path, above)):
        (pictures if is_picture(file) else others).append(file)
    return pictures, others


def walk(path, above=()):
    """Yield the files below a folder. Hidden files are skipped, and links to folders are followed.

    Args:
        path: a folder. Anything else is yielded as it is.
        above: real paths of the folders that lead to `path`. A link to one of them is yielded as it is.
    """
    if not path.is_dir() or (real := path.resolve()) in above:
        yield path
    else:
        for child in children(path):
            yield from walk(child, (*above, real))


def children(folder):
    """The files and folders directly in a folder, sorted, without those that are hidden."""
    return sorted(path for path in folder.iterdir() if not hidden(path.name))


def hidden(name):
    """Whether a file or folder of this name is hidden, or one that an operating system adds."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini", "__macosx")


def is_picture(path):
    return path.suffix.lower() in SUFFIXES and path.is_file()


def warn_of_unused(files):
    """Issue one `DataWarning` that counts `files` by their kind and names the first of each."""
    if not files:
        return
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(kind_of(file), []).append(file)
    common = sorted(kinds.items(), key=lambda kind: -len(kind[1]))[:NAMED_KINDS]
    parts = [f"{kind}: {len(some)}, such as {'/'.join(some[0].parts[-2:])}" for kind, some in common]
    rest = len(files) - sum(len(some) for _, some in common)
    parts += [f"other: {rest}"] if rest else []
    warnings.warn(f"Unused files: {len(files)} ({'; '.join(parts)}).", DataWarning, stacklevel=2)


def kind_of(path):
    """What a file is that is not used."""
    if not path.exists():
        return "broken link"
    if path.is_dir():
        return "circular link"
    if is_picture(path):
        return "picture outside a class folder"
    return path.suffix.lower() or "no suffix"


def read_image(path, shape, box=None):
    """Read a picture.

    Args:
        path: a file that Pillow reads (JPEG, PNG, BMP, GIF, WebP, ...), of any size and mode; of an animation the first
            frame.
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
    image = decode(path)[0].convert("L" if channels == 1 else "RGB")
    size = (width or image.width, height or image.height)
    cut = (box or (lambda _: centre(image.size, size)))(image.size)
    if cut != (0, 0, *image.size) or size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR, box=cut)
    return np.asarray(image).reshape(size[1], size[0], channels)


def decode(path):
    """The whole picture, upright, as a Pillow image of mode "L" or "RGB", and whether it is grey."""
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):  # Pillow would cut 16 bits off at 255
                image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
            grey = image.mode in ("1", "L", "LA")
            return image.convert("L" if grey else "RGB"), grey
    except FileNotFoundError:
        raise InputError(f"expected an image file, got {path}, which does not exist") from None
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"expected an image file such as JPEG or PNG, got {path}: {error}") from error


def centre(size, target):
    """The largest box in the middle of a picture of `size` that has the aspect of `target`, both (width, height)."""
    (width, height), (target_width, target_height) = size, target
    cut_width = min(width, round(height * target_width / target_height))
    cut_height = min(height, round(width * target_height / target_width))
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    return left, top, left + cut_width, top + cut_height
