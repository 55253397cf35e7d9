"""Decode every image of an image folder before the first epoch, in parallel.

Results are stored in the user's cache and reused while the size and times of a file do not change.
Errors are not stored, because their reason may be temporary.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
from rich.console import Console
from rich.progress import track

from ..errors import InputError, first_line
from ..files import read_cache, write_cache
from ..images.decode import decode_jpeg
from ..images.read import decode_file, open_image, orientation

FILES_LISTED = 20  # per kind of problem
# Directory in the cache. Change the name if `keras_arch.images.read` decodes to other results.
CACHE = Path("checked3")


class CheckedImage(NamedTuple):
    """Facts about an image file."""

    error: str | None  # why it cannot be decoded
    digest: str  # SHA-256 of the file
    size: tuple[int, int] = (0, 0)  # (width, height) of the upright image, in pixels
    gray: bool = False
    # An upright JPEG, RGB or grayscale, that TensorFlow decodes to the pixels of Pillow.
    plain_jpeg: bool = False


class Problem(NamedTuple):
    """A kind of problem in a data set, and the files that have it."""

    kind: str
    files: list[str]
    option: str = ""  # command-line option that accepts the data, and what it does


def check_files(folder: str | Path, paths: list[str]) -> dict[str, CheckedImage]:
    """Check image files. New and changed files, and files with errors, are decoded.

    Args:
        folder: the image folder or manifest, which identifies the file in the cache.
        paths: its image files.

    Returns:
        {path: `CheckedImage`}, in the order of `paths`.
    """
    name = hashlib.sha256(os.fsencode(Path(folder).resolve())).hexdigest()[:16]
    cache = CACHE / f"{name}.json"
    stamps, known = {path: file_stamp(path) for path in paths}, read_results(cache)
    checked = {
        path: known[path][1] for path in paths if path in known and known[path][0] == stamps[path]
    }
    new = [path for path in paths if path not in checked]
    if new:
        with ThreadPoolExecutor() as pool:
            checked |= zip(new, track_progress(pool.map(check_image, new), len(new)), strict=True)
        write_cache(
            cache,
            {path: [stamps[path], checked[path]] for path in paths if not checked[path].error},
        )
    return {path: checked[path] for path in paths}


def read_results(cache: Path) -> dict[str, tuple[list[int], CheckedImage]]:
    """Read {path: (stamp, `CheckedImage`)} from the cache. A missing or damaged file gives {}."""
    try:
        return {
            path: (stamp, CheckedImage(error, digest, tuple(size), *rest))
            for path, (stamp, (error, digest, size, *rest)) in read_cache(cache).items()
        }
    except Exception:  # damaged content can raise any exception
        return {}


def file_stamp(path: str) -> list[int]:
    """Return size, modification time and status change time of a file.

    Programs such as `cp -p` keep the modification time. They cannot set the status change time.
    """
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def track_progress(results: Iterable[CheckedImage], total: int) -> Iterable[CheckedImage]:
    """Show a progress bar on stderr if it is a terminal."""
    console = Console(stderr=True)
    return track(
        results,
        "Checking images",
        total=total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def check_image(path: str) -> CheckedImage:
    """Decode all pixels of an image."""
    try:
        content = Path(path).read_bytes()
        image, gray = decode_file(path)
        with open_image(path) as file:
            plain_jpeg = (
                file.format == "JPEG" and file.mode in ("RGB", "L") and orientation(file) == 1
            )
        plain_jpeg = plain_jpeg and can_tensorflow_decode(content)
        return CheckedImage(None, hashlib.sha256(content).hexdigest(), image.size, gray, plain_jpeg)
    except (InputError, OSError) as error:
        return CheckedImage(first_line(error.__cause__ or error), path)


def can_tensorflow_decode(content: bytes) -> bool:
    """Return whether TensorFlow decodes a JPEG. It rejects damage that Pillow accepts."""
    try:
        decode_jpeg(content)
    except tf.errors.OpError:
        return False
    return True


def raise_problems(folder: Path, problems: Iterable[Problem]) -> None:
    """Raise InputError if any problem has files. Its details list the first files of each kind."""
    found = [problem for problem in problems if problem.files]
    if not found:
        return
    details = []
    for kind, files, _ in found:
        details += [f"{kind}: {file}" for file in files[:FILES_LISTED]]
        if len(files) > FILES_LISTED:
            details.append(f"{kind}: {len(files) - FILES_LISTED} more")
    count = sum(len(problem.files) for problem in found)
    options = "".join(f", or pass {problem.option}" for problem in found if problem.option)
    raise InputError(
        f"{folder} cannot be used as a data set. Received: {count} problems. "
        f"Correct them{options}.",
        details=details,
    )
