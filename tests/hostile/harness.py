"""Check that bad input gives one line under 300 characters and status 2, and changes no file."""

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, run_script
from demo_files import RUNTIME, write_export
from PIL import Image
from run_files import make_run

import keras_arch.training.fit  # noqa: F401 - before a test replaces what it imports by name

LONGEST = 300  # characters of a message
SECONDS = 10  # a command that takes longer hangs
NOBODY = 65534  # user ID without permissions
DIGIT = ROOT / "examples" / "digit.png"


class Work(BaseException):
    """The script has started its work."""


class Hangs(BaseException):
    """The script does not end."""


def parameters(cases, ids, is_quick):
    """Return the cases for `pytest.mark.parametrize`. Cases that are not `is_quick` are slow."""
    return [
        pytest.param(*case, id=name, marks=() if is_quick(*case) else pytest.mark.slow)
        for case, name in zip(cases, ids, strict=True)
    ]


def start_working(*arguments, **options):
    raise Work


def options_of(path):
    """Return the class `Options` of a script without running the script."""
    space = {"__name__": path.stem}
    exec(compile(path.read_text(), path, "exec"), space)
    return space["Options"]


def tree_of(folder):
    """Return {path: state} of everything in a directory: mode, and hash of each file."""
    return {path: state_of(path) for path in Path(folder).rglob("*")}


def state_of(path):
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return status.st_mode, os.readlink(path)
    if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
        return status.st_mode, hashlib.sha256(path.read_bytes()).hexdigest()
    return status.st_mode, status.st_size if stat.S_ISREG(status.st_mode) else 0


@contextlib.contextmanager
def without_permissions():
    """Run the block as a user without permissions if this process runs as root."""
    if os.getuid():
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@contextlib.contextmanager
def time_limit():
    """Raise `Hangs` if the block takes longer than `SECONDS`."""

    def stop(*_):
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_refused(typed, world, capfd, names=""):
    """Run a script and assert that it refuses its arguments.

    Args:
        typed: name of the script and its arguments.
        world: directory in which nothing may change.
        capfd: fixture of pytest.
        names: text that the message must contain.
    """
    before = tree_of(world)
    capfd.readouterr()
    with time_limit():
        status = run_script(*typed)
    printed = capfd.readouterr()
    lines = printed.err.splitlines()
    assert status == 2, (status, lines)
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert names in lines[0].replace("_", "-")
    assert lines[0].isprintable()
    assert len(lines[0]) < LONGEST, (len(lines[0]), lines[0])
    assert printed.out == ""
    assert tree_of(world) == before


@pytest.fixture(scope="module")
def world(digits, data_dir):
    """A directory with two runs, the first of them exported, an image and data."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_arch.demo.runtime.load_runtime", lambda: RUNTIME)  # no download
        folder = Path(name)
        make_run(folder / "run", digits)
        shutil.copytree(folder / "run", folder / "other")
        write_export(folder / "run" / "export", data="digits")
        shutil.copy(DIGIT, folder / "digit.png")
        shutil.copytree(data_dir, folder / "data")
        for number, pixels in enumerate(
            np.random.default_rng(0).integers(0, 256, (8, 8, 8), "uint8")
        ):
            path = folder / "images" / f"class{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
        yield folder


def give_away(folder):
    """Make the user of `without_permissions` the owner of a directory and its content."""
    if not os.getuid():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
