"""Find the pictures in folders."""

import warnings
from pathlib import Path

from ..errors import DataWarning, InputError
from .read import SUFFIXES

NAMED_KINDS = 5  # of unused files, in a warning


def find_images(paths):
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
        inside, others = images_in(path) if path.is_dir() else ([path], [])
        if not inside:
            raise InputError(
                f"expected a picture or a folder of pictures, got {path}, which has none"
            )
        found += inside
        unused += others
    warn_of_unused(unused)
    return found


def images_in(path, above=()):
    """Return the pictures that `walk` finds, sorted, and all else that it finds."""
    pictures: list[Path] = []
    others: list[Path] = []
    for file in sorted(walk(path, above)):
        (pictures if is_image(file) else others).append(file)
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


def is_image(path):
    return path.suffix.lower() in SUFFIXES and path.is_file()


def warn_of_unused(files):
    """Issue one `DataWarning` that counts `files` by their kind and names the first of each."""
    if not files:
        return
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(file_kind(file), []).append(file)
    common = sorted(kinds.items(), key=lambda kind: -len(kind[1]))[:NAMED_KINDS]
    parts = [
        f"{kind}: {len(some)}, such as {'/'.join(some[0].parts[-2:])}" for kind, some in common
    ]
    rest = len(files) - sum(len(some) for _, some in common)
    parts += [f"other: {rest}"] if rest else []
    warnings.warn(f"Unused files: {len(files)} ({'; '.join(parts)}).", DataWarning, stacklevel=2)


def file_kind(path):
    """What a file is that is not used."""
    if not path.exists():
        return "broken link"
    if path.is_dir():
        return "circular link"
    if is_image(path):
        return "picture outside a class folder"
    return path.suffix.lower() or "no suffix"
