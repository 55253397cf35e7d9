"""Check paths, lock them, and write files and directories atomically.

Atomic writes go to a temporary name in the same directory and are moved into place. After a crash,
either the old or the new content exists.
"""

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .datasets import DATASETS, is_folder
from .errors import DataWarning, InputError, first_line, is_disk_full
from .published import PACKAGED, PUBLISHED

if TYPE_CHECKING:
    import numpy as np

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PARTIAL_PREFIX = "partial-"  # of temporary files
NAME_IN_PARTIAL = (
    50  # last characters of a name that its temporary name repeats; the limit is 255 bytes
)
# Glob patterns, and the surrogate characters that represent bytes that are not UTF-8.
SPECIAL_CHARACTERS = re.compile(r"[*?\[\\\ud800-\udfff]")
CHECKPOINT = "checkpoint.npz"  # training state, in the directory of an unfinished run
KEPT = "The best checkpoint is kept in"


def partial_name(folder: Path) -> Path:
    """Return the temporary directory of a run or an export that is not finished."""
    folder = folder.resolve()
    return folder.with_name(folder.name + ".partial")


def real_path(path: str | Path) -> Path:
    """Return an absolute path without links.

    Raises:
        InputError (a ValueError): the links are circular.
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(
                f"{path} cannot be used: its links lead back to themselves. Remove the link."
            ) from error
    return Path(path).resolve()


def check_writable(path: Path, kind: Literal["directory", "file"] = "directory") -> None:
    """Raise InputError if a file or directory cannot be written at `path`. Nothing is written.

    Args:
        path: output path. Its parents need not exist.
        kind: "directory" or "file".
    """
    real = real_path(path)
    if real.exists() and not (real.is_dir() if kind == "directory" else real.is_file()):
        received = "a directory" if real.is_dir() else "a file or device"
        raise InputError(f"{path} must be a {kind}. Received: {received}. Pass another path.")
    if not real.exists() and os.path.islink(path):
        raise InputError(
            f"{path} must be a {kind}. Received: a broken link. Remove it or pass another path."
        )
    existing = nearest_folder(real)
    if not (existing == real or existing.is_dir()) or not os.access(existing, os.W_OK):
        raise InputError(
            f"{path} cannot be written. Received: {existing}, which is read-only or a file. "
            "Pass another path."
        )


def check_image_output(path: Path) -> None:
    """Raise InputError if a PNG file cannot be written at `path`."""
    if path.suffix != ".png":
        raise InputError(f"--output must be a .png file. Received: {path}.")
    check_writable(path, "file")


def refuse_pipe(path: str | Path) -> None:
    """Raise InputError if `path` is a pipe or a device, which may be endless."""
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(
            f"{path} must be a file. Received: a pipe or a device. Save its contents to a file."
        )


def refuse_inside(output: Path, data: Iterable[str | Path]) -> None:
    """Raise InputError if an output path is a data directory or inside one.

    Args:
        output: path of a file or directory to write.
        data: data set names, as in `keras_arch.load_dataset`. Only directories are compared.
    """
    output = real_path(output)
    for folder in map(Path, filter(is_folder, data)):
        if folder.resolve() in (output, *output.parents):
            raise InputError(
                f"{output} must not be inside the data in {folder}. "
                "Pass another --output or --explain."
            )


def refuse_foreign(folder: Path, marker: str) -> None:
    """Raise InputError if `folder` has content but no file called `marker`.

    This package did not write such a directory and must not replace it.
    """
    if folder.exists() and not (
        folder.is_dir() and (not any(folder.iterdir()) or (folder / marker).is_file())
    ):
        raise InputError(
            f"{folder} has no {marker}, so it is not replaced. Pass a new or an empty directory."
        )


@contextmanager
def link_with_suffix(path: str | Path, suffix: str) -> Iterator[Path]:
    """Yield a path to the same file that has only `suffix`, for libraries that read the suffix."""
    if "".join(Path(path).suffixes) == suffix:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"file{suffix}"
        link.symlink_to(Path(path).resolve())
        yield link


@contextmanager
def atomic_folder(
    folder: Path,
    marker: str,
    resume: bool = False,
    check: Callable[[], object] = lambda: None,
) -> Iterator[Path]:
    """Yield a temporary directory that replaces `folder` when the block ends.

    If the block raises an exception, `folder` is not changed. A checkpoint in the temporary
    directory is kept, and the message gives its path.

    Args:
        folder: directory to write. It is not replaced if it has content but no file `marker`.
        marker: name of a file that identifies a directory of this kind, such as "run.json".
        resume: continue in the temporary directory of an interrupted run, if there is one.
        check: function that may raise an exception. It is called after the directory is locked and
            before any file is removed.
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
                partial.rmdir()  # only if it is empty
            raise
        for content in partial.glob(f"{PARTIAL_PREFIX}*" if resume else "*"):
            shutil.rmtree(content) if content.is_dir() else content.unlink()
        try:
            yield partial
        except BaseException as stop:
            if not best.exists() and not (partial / CHECKPOINT).exists():
                shutil.rmtree(partial, ignore_errors=True)
                raise
            if isinstance(stop, InputError):
                raise InputError(str(stop), [*stop.details, f"{KEPT} {best}"]) from stop
            reason = (str(stop) or "Stopped").removesuffix(".")
            message = f"{reason}. {KEPT} {best}. Add --resume to the command to continue."
            if isinstance(stop, KeyboardInterrupt):
                raise KeyboardInterrupt(message) from stop
            if is_disk_full(stop):
                raise InputError(message) from stop
            raise
        replace_folder(folder, partial)
        (folder / CHECKPOINT).unlink(missing_ok=True)


def backup_path(folder: Path) -> Path:
    """Return the path of a directory while another directory replaces it."""
    return folder.with_name(folder.name + ".replaced")


def replace_folder(folder: Path, new: Path) -> None:
    """Move the directory `new` to `folder`, then remove the old `folder` if there was one.

    Wait while another process uses `folder`.
    """
    if not folder.exists():
        new.rename(folder)
        return
    with lock_path(folder, wait=True):
        old = folder.rename(backup_path(folder))
        try:
            new.rename(folder)
        except OSError:
            old.rename(folder)
            raise
    shutil.rmtree(old, ignore_errors=True)


def undo_replacement(folder: Path, marker: str) -> None:
    """Clean up after a process that was killed while it replaced `folder`.

    Move the old directory back if the new one is missing. Remove the old one otherwise.
    """
    old = backup_path(folder)
    if (old / marker).is_file() and not folder.exists():
        old.rename(folder)
    elif old.exists():
        shutil.rmtree(old)


@contextmanager
def lock_path(path: Path, shared: bool = False, wait: bool = False) -> Iterator[bool | None]:
    """Lock a file or directory while the block runs. The lock ends with the process.

    Args:
        path: an existing file or directory.
        shared: allow shared locks of other processes.
        wait: wait for other processes instead of yielding False.

    Yields:
        True if the lock is held. False if another process holds a lock, or moved or removed `path`.
        None if locks are not supported, as on Windows and some network file systems.
    """
    opened: int | None = None
    held: bool | None = None
    try:
        if fcntl is not None:
            # Without O_NONBLOCK, a named pipe would block.
            opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            fcntl.flock(
                opened,
                (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB),
            )
            held = os.path.samestat(os.fstat(opened), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        held = False
    except OSError:
        held = None
    try:
        yield held
    finally:
        if opened is not None:
            os.close(opened)


@contextmanager
def exclusive_lock(folder: Path) -> Iterator[None]:
    """Lock a directory, or raise InputError if another process is writing it."""
    with lock_path(folder) as held:
        if held is False:
            raise InputError(
                f"{folder} cannot be used: another process is writing it. "
                "Wait for it to end or pass another path."
            )
        yield


@contextmanager
def shared_lock(folder: Path) -> Iterator[None]:
    """Prevent other processes from replacing `folder` while the block reads it."""
    while True:
        with lock_path(folder, shared=True, wait=True) as held:
            if held is not False or not folder.exists():
                yield
                return


def is_path(value) -> bool:
    """Return whether `value` can be a path: text or `Path`, not empty or too long, no zero byte."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        return False
    try:
        os.lstat(value)
    except ValueError:
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def is_url(path: str | Path | None) -> bool:
    """Return whether `path` is a URL such as gs://bucket/data, not a path of this machine."""
    return path is not None and re.match(r"[a-z][a-z0-9]*://", os.fspath(path)) is not None


def nearest_folder(path: Path) -> Path:
    """Return `path` if it exists, else its nearest existing parent."""
    return next(place for place in (path, *path.parents) if place.exists())


def is_writable(path: Path) -> bool:
    """Return whether `path` is a directory in which files can be written."""
    return path.is_dir() and os.access(path, os.W_OK)


def check_folder(folder: str | Path) -> Path:
    """Return `folder` as a `Path`. Raise InputError if it is not an existing directory."""
    if not is_path(folder) or not Path(folder).is_dir():
        raise InputError(
            f"`folder` must be an existing directory. Received: {folder}. Create it first."
        )
    return Path(folder)


@contextmanager
def plain_path(path: str | Path) -> Iterator[Path]:
    """Yield a path to an existing file or directory that TensorFlow can open.

    TensorFlow finds the variables of a SavedModel by a glob pattern (tensorflow#32614), and finds
    none in the directory "run [1]". It does not accept paths that are not UTF-8. For such paths,
    the yielded path is a link in a temporary directory.
    """
    path = Path(path).absolute()
    if not SPECIAL_CHARACTERS.search(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory() as scratch:
        link = Path(scratch) / ("link" if SPECIAL_CHARACTERS.search(path.name) else path.name)
        link.symlink_to(path, target_is_directory=path.is_dir())
        yield link


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary path in the same directory, then move the file to `path`.

    Readers see either the old or the new file. If several processes write the same file, the last
    one wins. Temporary files of killed processes are removed. A device, such as /dev/stdout, is
    written directly.
    """
    if path.exists() and not path.is_file():
        write(path)
        return
    name = path.name[-NAME_IN_PARTIAL:]
    for leftover in path.parent.glob(f"{PARTIAL_PREFIX}{'[0-9a-f]' * 8}-{glob.escape(name)}"):
        with lock_path(leftover) as held:
            if held:
                leftover.unlink(missing_ok=True)
    partial = path.with_name(f"{PARTIAL_PREFIX}{secrets.token_hex(4)}-{name}")
    partial.touch(exist_ok=False)
    with lock_path(partial) as held:
        if held is not False:
            try:
                write(partial)
                with partial.open("rb") as file:
                    # Without this, a power failure could leave the name without the content.
                    os.fsync(file.fileno())
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
            return
    # Another process removed the temporary file before it was locked.
    atomic_write(path, write)


def write_json(path: Path, content) -> None:
    """Write `content` as indented JSON, atomically. Missing parent directories are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda partial: partial.write_text(json.dumps(content, indent=2) + "\n"))


def without_none(pairs):
    """Return a dict of the (name, value) pairs except None: a `dict_factory` for `dataclasses.asdict`."""
    return {name: value for name, value in pairs if value is not None}


def cache_folder() -> Path:
    """Return the user's cache directory for this package (XDG convention). It may not exist.

    Raises:
        OSError: the user has no home directory.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras_arch"
    except RuntimeError as error:
        raise OSError(first_line(error)) from error


def read_cache(name: str | Path) -> dict:
    """Return the dict that `write_cache` wrote, or an empty dict if it is missing or damaged."""
    try:
        content = json.loads((cache_folder() / name).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_cache(name: str | Path, content: dict) -> None:
    """Write a dict as JSON to the file `name` in the user's cache.

    Warns:
        DataWarning: the cache cannot be written. It is issued once per process.
    """
    try:
        write_json(cache_folder() / name, content)
    except OSError as error:
        warn_without_cache(error.strerror or first_line(error))


@functools.cache  # one warning per process and reason
def warn_without_cache(reason: str) -> None:
    """Issue a `DataWarning` that the cache cannot be written."""
    warnings.warn(
        "The cache cannot be written, so each start measures the precision and checks all images "
        f"again. Received: {reason}. Set XDG_CACHE_HOME to a writable directory.",
        DataWarning,
        stacklevel=3,
    )


def size_of(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a directory."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def hash_of_json(content) -> str:
    """Return the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def hash_of(arrays: Iterable["np.ndarray"]) -> str:
    """Return the SHA-256 of the bytes of arrays, in their order."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.reshape(-1).view("uint8"))  # type: ignore[arg-type]  # no copy
    return digest.hexdigest()


def hash_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of_path(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a directory."""
    if path.is_file():
        return hash_of_file(path)
    inside = sorted(file for file in path.rglob("*") if file.is_file())
    return hash_of_json([[str(file.relative_to(path)), hash_of_file(file)] for file in inside])


def find_in_run(artifact: str | Path, name: str) -> Path | None:
    """Return the file `name` of the run directory that contains `artifact`, or None.

    The file is in the same directory as `artifact` or in one of the two directories above.
    """
    folders = Path(artifact).resolve().parents[:3]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def resolve_existing(name: str | None) -> str | None:
    """Return the absolute path of an existing file or directory. Return other names unchanged."""
    if name is None or name in (*DATASETS, *PUBLISHED, *PACKAGED) or not Path(name).exists():
        return name
    return str(Path(name).resolve())
