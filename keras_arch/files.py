"""Files and folders that are written beside their final name and moved into place: a crash leaves the old or the new."""

import errno
import functools
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import DataWarning, InputError, first_line, is_disk_full

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PARTIAL_PREFIX = "partial-"  # how names of files begin that are being written
LONGEST_NAME = (
    50  # characters of a file's name that the name beside it repeats: file systems take 255 bytes
)
# Patterns, and the surrogate characters that stand for bytes that are not UTF-8.
NOT_PLAIN = re.compile(r"[*?\[\\\ud800-\udfff]")
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
            raise InputError(
                f"{path} cannot be used: its links lead back to themselves. Remove the link"
            ) from error
    return Path(path).resolve()


def check_writable(path, kind="folder"):
    """Raise InputError unless a file or a folder can be written at `path`. Nothing is written yet.

    Args:
        path: what is going to be written. Missing folders above it can be made.
        kind: "folder" or "file".
    """
    real = real_path(path)
    if real.exists() and not (real.is_dir() if kind == "folder" else real.is_file()):
        raise InputError(
            f"{path} must be a {kind}. Received: something else of this name. Pass another name."
        )
    if not real.exists() and os.path.islink(path):
        raise InputError(
            f"{path} must be a {kind}. Received: a broken link. Remove it, or pass another name."
        )
    place = next(place for place in (real, *real.parents) if place.exists())
    if not (place == real or place.is_dir()) or not os.access(place, os.W_OK):
        raise InputError(
            f"{path} cannot be written. Received: {place}, which is read-only or a file. Pass another name."
        )


def check_image_output(path):
    """Raise InputError unless a PNG file can be written at `path`."""
    if path.suffix != ".png":
        raise InputError(f"expected --output to be a .png file, got {path}")
    check_writable(path, "file")


def refuse_endless(path):
    """Raise InputError if `path` is a pipe or a device. Reading it might never end."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(
            f"{path} must be a file. Received: a pipe or a device. Save its contents to a file first."
        )


def refuse_inside(output, data):
    """Raise InputError if a file or folder that is going to be written is a folder of data or inside one.

    Args:
        output: path of what is going to be written.
        data: names of data, as `keras_arch.load_dataset` takes them. Only folders matter.
    """
    output = real_path(output)
    for folder in (Path(name) for name in data if name != "digits" and Path(name).is_dir()):
        if folder.resolve() in (output, *output.parents):
            raise InputError(
                f"{output} must not be inside the data in {folder}. Pass another --output or --explain"
            )


def refuse_foreign(folder, marker):
    """Raise InputError where `folder` holds anything without a file called `marker`: it is not ours to replace."""
    if folder.exists() and not (
        folder.is_dir() and (not any(folder.iterdir()) or (folder / marker).is_file())
    ):
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
def atomic_folder(folder, marker, resume=False, check=lambda: None):
    """A new folder beside `folder` to fill, which takes its place when the block ends.

    When the block is left by an exception, `folder` stays as it was; of the unfinished one a checkpoint is kept, and
    what a user reads says where. A folder without a file called `marker` is never replaced. With `resume` the
    unfinished folder of before is taken up again, where there is one. `check()` is called as soon as no other process
    can write the folder, before anything is removed; it may raise an exception.
    """
    refuse_foreign(folder, marker)
    folder, partial = folder.resolve(), partial_name(folder)
    partial.mkdir(parents=True, exist_ok=True)
    best = partial / "model.keras"
    with exclusive_lock(partial):
        try:
            undo_replacement(folder, marker)
            check()
        except BaseException:
            with suppress(OSError):
                partial.rmdir()  # if it is empty
            raise
        for content in partial.glob(f"{PARTIAL_PREFIX}*" if resume else "*"):
            shutil.rmtree(content) if content.is_dir() else content.unlink()
        try:
            yield partial
        except BaseException as stop:
            if not best.exists() and not (partial / CHECKPOINT).exists():
                shutil.rmtree(partial, ignore_errors=True)
                raise
            kept = f"the best checkpoint so far is kept in {best}"
            if isinstance(stop, InputError):
                raise InputError(str(stop), [*stop.details, kept]) from stop
            message = f"{str(stop) or 'stopped'}; {kept}; the same command with --resume goes on"
            if isinstance(stop, KeyboardInterrupt):
                raise KeyboardInterrupt(message) from stop
            if is_disk_full(stop):
                raise InputError(message) from stop
            raise
        replace_folder(folder, partial)
        (folder / CHECKPOINT).unlink(missing_ok=True)


def replaced_name(folder):
    """Where a folder is moved while another one takes its place."""
    return folder.with_name(folder.name + ".replaced")


def replace_folder(folder, new):
    """Move the folder `new` to where `folder` is, if it is, which goes only when the other has come.

    If another process uses `folder`, wait for its end.
    """
    if not folder.exists():
        new.rename(folder)
        return
    with lock_path(folder, wait=True):
        old = folder.rename(replaced_name(folder))
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise
    shutil.rmtree(old, ignore_errors=True)


def undo_replacement(folder, marker):
    """Move the old folder back if its process was killed before the new one came; remove it if the new one is there."""
    old = replaced_name(folder)
    if (old / marker).is_file() and not folder.exists():
        old.rename(folder)
    elif old.exists():
        shutil.rmtree(old)


@contextmanager
def lock_path(path, shared=False, wait=False):
    """Lock a file or folder for as long as the block runs; the lock goes with the process, however it ends.

    Args:
        path: an existing file or folder.
        shared: let other processes have a shared lock at the same time.
        wait: wait for other processes instead of yielding False.

    Yields:
        True, or False if another process has a lock, or has moved or removed `path`. None where nothing can be locked:
        on Windows and on some network file systems.
    """
    opened, mine = None, None
    try:
        if fcntl is not None:
            opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # or a named pipe would block
            fcntl.flock(
                opened,
                (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB),
            )
            mine = os.path.samestat(os.fstat(opened), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        mine = False
    except OSError:
        mine = None
    try:
        yield mine
    finally:
        if opened is not None:
            os.close(opened)


@contextmanager
def exclusive_lock(folder):
    """Refuse a folder that another process is filling."""
    with lock_path(folder) as mine:
        if mine is False:
            raise InputError(
                f"expected {folder} to be free, got one that another process is writing"
            )
        yield


@contextmanager
def shared_lock(folder):
    """Keep other processes from replacing `folder`, or wait for the one that does; two may use it at the same time."""
    while True:
        with lock_path(folder, shared=True, wait=True) as mine:
            if mine is not False or not folder.exists():
                yield
                return


def is_path(value):
    """Whether a file could have the name `value`: text or a path, not empty, not too long, without a zero byte."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        return False
    try:
        os.lstat(value)
    except ValueError:
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def nearest_folder(path):
    """Return `path` if it exists, else the nearest folder above it that does."""
    return next(place for place in (path, *path.parents) if place.exists())


def is_writable(path):
    """Return whether files can be written into `path`, which exists."""
    return path.is_dir() and os.access(path, os.W_OK)


def check_folder(folder):
    """Return the path `folder` as a `Path`, or raise InputError if it is no existing folder."""
    if not is_path(folder) or not Path(folder).is_dir():
        raise InputError(
            f"`folder` must be an existing folder. Received: {folder}. Create it first."
        )
    return Path(folder)


@contextmanager
def plain_path(path):
    """A path to an existing file or folder that TensorFlow can open, for as long as the block runs.

    TensorFlow looks for the variables of a SavedModel by a pattern (tensorflow#32614): in the folder "run [1]" it finds
    none. It takes no paths whose bytes are not UTF-8. A link in a temporary folder leads there.
    """
    path = Path(path).absolute()
    if not NOT_PLAIN.search(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        link = Path(scratch) / ("link" if NOT_PLAIN.search(path.name) else path.name)
        link.symlink_to(path, target_is_directory=path.is_dir())
        yield link


def atomic_write(path, write):
    """Let `write(path)` write a file beside `path`, then move it there: a reader sees the old file or the new one.

    Processes may write the same file at once: each has a file of its own, and the last one stays. What a process left
    that was killed is removed. A device, such as /dev/stdout, is written directly.
    """
    if path.exists() and not path.is_file():
        return write(path)
    name = path.name[-LONGEST_NAME:]
    for leftover in path.parent.glob(f"{PARTIAL_PREFIX}{'[0-9a-f]' * 8}-{glob.escape(name)}"):
        with lock_path(leftover) as mine:
            if mine:
                leftover.unlink(missing_ok=True)
    beside = path.with_name(f"{PARTIAL_PREFIX}{secrets.token_hex(4)}-{name}")
    beside.touch(exist_ok=False)
    with lock_path(beside) as mine:
        if mine is not False:
            try:
                write(beside)
                with beside.open("rb") as file:
                    os.fsync(
                        file.fileno()
                    )  # or a power cut could leave the name without the content
                os.replace(beside, path)
            finally:
                beside.unlink(missing_ok=True)
            return None
    return atomic_write(
        path, write
    )  # another process took the file for a leftover before it was locked


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda beside: beside.write_text(json.dumps(content, indent=2) + "\n"))


def without_none(pairs):
    """Return a dict of the (name, value) pairs except None: a `dict_factory` for `dataclasses.asdict`."""
    return {name: value for name, value in pairs if value is not None}


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


def find_in_run(artifact, name):
    """The file called `name` of the run that `artifact` lies in: beside it or up to two folders above; or None."""
    folders = Path(artifact).resolve().parents[:3]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def resolve_existing(name):
    """The absolute path of a file or folder that is there; any other name as it is."""
    return (
        name
        if name in ("digits", "imagenet", None) or not Path(name).exists()
        else str(Path(name).resolve())
    )
