"""Files and folders that are written beside their final name and moved into place: a crash leaves the old or the new."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .errors import InputError

BESIDE = "partial-"  # how names of files begin that are being written
CHECKPOINT = "checkpoint.npz"  # the state of training, in the folder of a run that is not finished


def partial_name(folder):
    """Where a run or an export is written until it is whole."""
    folder = folder.resolve()
    return folder.with_name(folder.name + ".partial")


def refuse_foreign(folder, marker):
    """Raise InputError where `folder` holds anything without a file called `marker`: it is not ours to replace."""
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / marker).is_file())):
        raise InputError(
            f"expected a new folder, an empty one or one with {marker} in it, got {folder}, which stays as it is"
        )


@contextmanager
def whole_folder(folder, marker, resume=False):
    """A new folder beside `folder` to fill, which takes its place when the block ends.

    When the block is left by an exception, `folder` stays as it was; of the unfinished one a checkpoint is kept, and
    what a user reads says where. A folder without a file called `marker` is never replaced. With `resume` the
    unfinished folder of before is taken up again, where there is one.
    """
    refuse_foreign(folder, marker)
    folder, partial = folder.resolve(), partial_name(folder)
    if not resume:
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    for half_written in partial.glob(f"{BESIDE}*"):
        half_written.unlink()
    checkpoint = partial / "model.keras"
    try:
        yield partial
    except (KeyboardInterrupt, InputError) as stop:
        if checkpoint.exists():
            message = f"{str(stop) or 'stopped'}; the best checkpoint so far is kept in {checkpoint}"
            if isinstance(stop, KeyboardInterrupt):
                message += "; the same command with --resume goes on"
            raise type(stop)(message) from stop
        raise
    finally:
        if sys.exc_info()[0] is not None and not checkpoint.exists():
            shutil.rmtree(partial, ignore_errors=True)
    if folder.exists():
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.replaced-", dir=folder.parent) as replaced:
            old = folder.rename(Path(replaced) / folder.name)
            try:
                partial.rename(folder)
            except OSError:
                old.rename(folder)  # or it would go with the temporary folder
                raise
    else:
        partial.rename(folder)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def save_whole(path, write):
    """Let `write(path)` write a file beside `path`, then move it there: a reader sees the old file or the new one."""
    beside = path.with_name(BESIDE + path.name)
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_whole(path, lambda beside: beside.write_text(json.dumps(content, indent=2) + "\n"))


def hash_of(arrays):
    """SHA-256 of the bytes of arrays, one after the other: equal where every bit is."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()
