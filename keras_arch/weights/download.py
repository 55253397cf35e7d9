"""Download of published checkpoints into the user's cache. Their SHA-256 is checked."""

from pathlib import Path

from ..downloads import fetch
from ..errors import InputError, first_line
from ..files import atomic_write, cache_folder, hash_of_file
from ..published import PUBLISHED


def download(name: str, architecture: str) -> Path:
    """Return the path of a published checkpoint in the user's cache. Download it if necessary.

    Args:
        name: Name of the collection, a key of `PUBLISHED`.
        architecture: Name of the builder in `keras_arch.available()`.

    Raises:
        InputError: There is no network or no disk space, the download stops early, or the file has
            another SHA-256. The cache is unchanged.
    """
    url, file = PUBLISHED[name].url, PUBLISHED[name].checkpoints[architecture].file
    path = cache_folder() / "weights" / file
    if path.is_file() and has_published_hash(path, file):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, lambda partial: fetch_checkpoint(url + file, partial, file))
    except OSError as error:
        raise InputError(
            f"{url + file} cannot be downloaded. Received: {first_line(error)}. "
            "Check the network and the cache directory, or pass a copy of the file as `weights`."
        ) from error
    return path


def fetch_checkpoint(url: str, path: Path, file: str) -> None:
    """Download a checkpoint to a path.

    Raises:
        InputError: The disk is too small, or the bytes are not those of the checkpoint.
        OSError: The server does not respond as it should.
    """
    fetch(url, path)
    if not has_published_hash(path, file):
        raise InputError(
            f"{file} must have a SHA-256 that begins with {published_hash(file)}. "
            f"Received: a damaged download of {path.stat().st_size:,} bytes. Try again."
        )


def published_hash(file: str) -> str:
    """Return the first digits of the SHA-256 in the name of a checkpoint."""
    return Path(file).stem.rpartition("-")[2]


def has_published_hash(path: Path, file: str) -> bool:
    """Return whether a file has the SHA-256 in the name of a checkpoint."""
    return hash_of_file(path).startswith(published_hash(file))
