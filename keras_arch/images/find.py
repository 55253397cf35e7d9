"""Find image files in directories."""

import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ..errors import DataWarning, InputError
from .read import SUFFIXES

KINDS_IN_WARNING = 5  # kinds of unused files


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Find the images in files and directories.

    Files in directories that are not images are counted in a `DataWarning`.

    Args:
        paths: files and directories. Files are returned unchanged.

    Returns:
        Paths of images, in the order of `paths`. Images of a directory are sorted by name.

    Raises:
        InputError (a ValueError): a directory has no images.
    """
    found: list[Path] = []
    unused: list[Path] = []
    for path in paths:
        images, others = images_in(path) if path.is_dir() else ([path], [])
        if not images:
            raise InputError(
                f"{path} has no images. Pass image files or directories with images, such as .jpg "
                "or .png."
            )
        found += images
        unused += others
    warn_of_unused(unused)
    return found


def images_in(path: Path, parents: Collection[Path] = ()) -> tuple[list[Path], list[Path]]:
    """Return the images that `walk` finds, and the other paths that it finds, both sorted."""
    images: list[Path] = []
    others: list[Path] = []
    for file in sorted(walk(path, parents)):
        (images if is_image(file) else others).append(file)
    return images, others


def walk(path: Path, parents: Collection[Path] = ()) -> Iterator[Path]:
    """Yield the files below a directory. Skip hidden files and follow links to directories.

    Args:
        path: a directory. Any other path is yielded unchanged.
        parents: real paths of the directories that contain `path`. A link to one of them is
            yielded and not followed.
    """
    if not path.is_dir() or (real := path.resolve()) in parents:
        yield path
    else:
        for child in children(path):
            yield from walk(child, (*parents, real))


def children(folder: Path) -> list[Path]:
    """Return the visible files and directories in a directory, sorted."""
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))


def is_hidden(name: str) -> bool:
    """Return whether a name begins with a dot or is a file of an operating system."""
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini", "__macosx")


def is_image(path: Path) -> bool:
    """Return whether a path is a file with the suffix of an image."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def warn_of_unused(files: Iterable[Path]) -> None:
    """Issue one `DataWarning` that counts files by their kind, with an example of each."""
    by_kind: dict[str, list[Path]] = {}
    for file in files:
        by_kind.setdefault(file_kind(file), []).append(file)
    if not by_kind:
        return
    total = sum(map(len, by_kind.values()))
    common = sorted(by_kind.items(), key=lambda item: -len(item[1]))[:KINDS_IN_WARNING]
    counts = [
        f"{kind}: {len(some)}, such as {'/'.join(some[0].parts[-2:])}" for kind, some in common
    ]
    rest = total - sum(len(some) for _, some in common)
    counts += [f"other: {rest}"] if rest else []
    warnings.warn(f"Unused files: {total} ({'; '.join(counts)}).", DataWarning, stacklevel=2)


def file_kind(path: Path) -> str:
    """Describe an unused file."""
    if not path.exists():
        return "broken link"
    if path.is_dir():
        return "circular link"
    if is_image(path):
        return "image outside a class directory"
    return path.suffix.lower() or "no suffix"
