"""Every picture is decoded once before the first epoch, in parallel, and remembered by its size and times.

A picture that cannot be read or decoded is not remembered: the reason may be gone at the next start.
"""

import hashlib
import os
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

NAMED = 20  # files that a report lists of each kind
OPTIONS = {  # what lets a data set with such a problem pass
    "a picture that cannot be decoded": "--skip-unreadable to leave out such files",
    "one picture in two splits": "--allow-duplicates to keep one copy (in test if test has one)",
}
# The name changes whenever `keras_arch.images.read` reads pictures by another rule: what was remembered is then void.
CACHE = Path("checked3")  # in the cache


class CheckedImage(NamedTuple):
    """What is known of a picture."""

    error: str | None  # why it cannot be decoded
    digest: str  # of its bytes
    size: tuple[int, int] = (0, 0)  # width and height, upright
    grey: bool = False
    plain_jpeg: bool = (
        False  # a JPEG that TensorFlow decodes as Pillow does: RGB or grey, not to be turned
    )


def check_files(folder, paths):
    """{path: Checked} of all `paths`; only what is new, has changed or could not be decoded the last time is read."""
    memory = CACHE / f"{hashlib.sha256(os.fsencode(Path(folder).resolve())).hexdigest()[:16]}.json"
    stamps, known = {path: stamp(path) for path in paths}, recall(memory)
    checked = {
        path: known[path][1] for path in paths if path in known and known[path][0] == stamps[path]
    }
    fresh = [path for path in paths if path not in checked]
    if fresh:
        with ThreadPoolExecutor() as pool:
            checked |= zip(fresh, track_progress(pool.map(check, fresh), len(fresh)), strict=True)
        write_cache(
            memory,
            {path: [stamps[path], checked[path]] for path in paths if not checked[path].error},
        )
    return {path: checked[path] for path in paths}


def recall(memory):
    """{path: (stamp, Checked)} from the file that `check_files` wrote, or {} if it is missing or damaged."""
    try:
        return {
            path: (found, CheckedImage(error, digest, tuple(size), *rest))
            for path, (found, (error, digest, size, *rest)) in read_cache(memory).items()
        }
    except Exception:  # a damaged file raises whatever its bytes happen to mean
        return {}


def stamp(path):
    """Size, modification time and status change time of a file. Programs such as `cp -p` cannot set the last one."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def track_progress(results, total):
    console = Console(stderr=True)
    return track(
        results,
        "checking pictures",
        total=total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def check(path):
    """Decode a picture to the last pixel."""
    try:
        content = Path(path).read_bytes()
        image, grey = decode_file(path)
        with open_image(path) as file:
            plain_jpeg = (
                file.format == "JPEG" and file.mode in ("RGB", "L") and orientation(file) == 1
            )
        plain_jpeg = plain_jpeg and tensorflow_decodes(content)
        return CheckedImage(None, hashlib.sha256(content).hexdigest(), image.size, grey, plain_jpeg)
    except (InputError, OSError) as error:
        return CheckedImage(first_line(error.__cause__ or error), path)


def tensorflow_decodes(content):
    """Whether TensorFlow decodes the bytes of a JPEG: it refuses some with damage that Pillow tolerates."""
    try:
        decode_jpeg(content)
    except tf.errors.OpError:
        return False
    return True


def report_problems(folder, problems):
    """Raise InputError where `problems`, {kind: [file]}, has any, with the files as details."""
    details = []
    for kind, files in problems.items():
        if files:
            details += [f"{kind}: {file}" for file in files[:NAMED]]
            details += [f"{kind}: {len(files) - NAMED} more"] if len(files) > NAMED else []
    if details:
        count = sum(map(len, problems.values()))
        options = "".join(
            f", or pass {option}" for kind, option in OPTIONS.items() if problems.get(kind)
        )
        raise InputError(
            f"{folder} cannot be used as it is. Received: {count} problems. Correct them{options}.",
            details=details,
        )
