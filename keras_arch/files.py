"""Files and folders that are written beside their final name and moved into place: a crash leaves the old or the new."""

import errno
import functools
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

from .errors import DataWarning, InputError, first_line

BESIDE = "partial-"  # how names of files begin that are being written
CHECKPOINT = "checkpoint.npz"  # the state of training, in the folder of a run that is not finished


def partial_name(folder):
    """Where a run or an export is written until it is whole."""
    folder = folder.resolve()
    return folder.with_name(folder.name + ".partial")


def real_path(path):
    """Return an absolute path without links.

    Raises:
        InputError (a ValueError): the links on the path lead back to themselves.
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"{path} cannot be used: its links lead back to themselves. Remove the link") from error
    return Path(path).resolve()


def refuse_inside(output, data):
    """Raise InputError if a file or folder that is going to be written is a folder of data or inside one.

    Args:
        output: path of what is going to be written.
        data: names of data, as `keras_arch.load_dataset` takes them. Only folders matter.
    """
    output = real_path(output)
    for folder in (Path(name) for name in data if name != "digits" and Path(name).is_dir()):
        if folder.resolve() in (output, *output.parents):
            raise InputError(f"{output} must not be inside the data in {folder}. Pass another --output or --explain")


def refuse_foreign(folder, marker):
    """Raise InputError where `folder` holds anything without a file called `marker`: it is not ours to replace."""
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / marker).is_file())):
        raise InputError(
            f"expected a new folder, an empty one or one with {marker} in it, got {folder}, which stays as it is"
        )


@contextmanager
def link_with_suffix(path, suffix):
    """Yield a path to the same file that ends in `suffix` alone, for libraries that go by a file's name."""
    if "".join(Path(path).suffixes) == suffix:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"file{suffix}"
        link.symlink_to(Path(path).resolve())
        yield link


@contextmanager
def whole_folder(folder, marker, resume=False):
    """A new folder beside `folder` to fill, which takes its place when the block ends.

    When the block is left by an exception, `folder` stays as it was; of the unfinished one a checkpoint is kept, and
    what a user reads says where. A folder without a file called `marker` is never replaced. With `resume` the
    unfinished folder of before is taken up again, where there is one.
    """
    refuse_foreign(folder, marker)
    folder, partial = folder.resolve(), partial_name(folder)
    partial.mkdir(parents=True, exist_ok=True)
    best = partial / "model.keras"
    with locked(partial):
        for content in partial.glob(f"{BESIDE}*" if resume else "*"):
            shutil.rmtree(content) if content.is_dir() else content.unlink()
        try:
            yield partial
        except BaseException as stop:
            if not best.exists() and not (partial / CHECKPOINT).exists():
                shutil.rmtree(partial, ignore_errors=True)
            elif isinstance(stop, (KeyboardInterrupt, InputError)):
                message = f"{str(stop) or 'stopped'}; the best checkpoint so far is kept in {best}"
                if isinstance(stop, KeyboardInterrupt):
                    message += "; the same command with --resume goes on"
                raise type(stop)(message) from stop
            raise
        replace_folder(folder, partial)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def replace_folder(folder, new):
    """Move the folder `new` to where `folder` is, if it is, which goes only when the other has come."""
    if not folder.exists():
        new.rename(folder)
        return
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.replaced-", dir=folder.parent) as replaced:
        old = folder.rename(Path(replaced) / folder.name)
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)  # or it would go with the temporary folder
            raise


@contextmanager
def locked(folder):
    """Refuse a folder that another process is filling; the lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        raise InputError(f"expected {folder} to be free, got one that another process is writing") from None
    try:
        yield
    finally:
        os.close(opened)


def nearest_folder(path):
    """Return `path` if it exists, else the nearest folder above it that does."""
    return next(place for place in (path, *path.parents) if place.exists())


def is_writable(path):
    """Return whether files can be written into `path`, which exists."""
    return path.is_dir() and os.access(path, os.W_OK)


def existing_folder(folder):
    """Return the path `folder` as a `Path`, or raise InputError if it is no existing folder."""
    if not isinstance(folder, (str, os.PathLike)) or not Path(folder).is_dir():
        raise InputError(f"`folder` must be an existing folder. Received: {folder}. Create it first.")
    return Path(folder)


@contextmanager
def plain_path(path):
    """A path to an existing file or folder that TensorFlow does not take for a pattern, for as long as the block runs.

    TensorFlow looks for the variables of a SavedModel by a pattern (tensorflow#32614): in the folder "run [1]" it finds
    none. A link in a temporary folder leads there.
    """
    path = Path(path).absolute()
    if not set("*?[\\") & set(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        link = Path(scratch) / "link"
        link.symlink_to(path, target_is_directory=path.is_dir())
        yield link


def save_whole(path, write):
    """Let `write(path)` write a file beside `path`, then move it there: a reader sees the old file or the new one."""
    beside = path.with_name(BESIDE + path.name)
    try:
        write(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut could leave the name without the content
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_whole(path, lambda beside: beside.write_text(json.dumps(content, indent=2) + "\n"))


def cache_folder():
    """Return the user's cache folder for this package, by the XDG convention; it may not exist yet.

    Raises:
        OSError: the user has no home directory.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras_arch"
    except RuntimeError as error:
        raise OSError(first_line(error).rstrip(".")) from error


def read_cache(name):
    """Return the dict that `write_cache` wrote under `name`; an empty one if it is missing or damaged."""
    try:
        content = json.loads((cache_folder() / name).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_cache(name, content):
    """Write a dict as JSON under `name` into the user's cache.

    Warns:
        DataWarning: the cache cannot be written. It is issued once in a process.
    """
    try:
        write_json(cache_folder() / name, content)
    except OSError as error:
        warn_without_cache(error.strerror or first_line(error))


@functools.cache  # so that a process says it once for each reason
def warn_without_cache(reason):
    warnings.warn(
        f"The cache cannot be written, so each start measures the precision and checks all pictures again. Received: {reason}. "
        "Set XDG_CACHE_HOME to a folder that can be written.",
        DataWarning,
        stacklevel=3,
    )


def size_of(path):
    """Bytes on disk of a file, or of all that is in a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def hash_of_json(content):
    """SHA-256 of what JSON can hold: equal where the content is."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def hash_of(arrays):
    """SHA-256 of the bytes of arrays, one after the other: equal where every bit is."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.reshape(-1).view("uint8"))  # `tobytes` would copy
    return digest.hexdigest()
