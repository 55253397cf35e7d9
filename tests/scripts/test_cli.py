"""Messages of scripts: warnings and errors are one line on stderr."""

import errno
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib

import pytest
from conftest import ROOT

from keras_arch.cli import run
from keras_arch.errors import DataWarning, first_line, warn_on_failure
from keras_arch.images.read import read_image


def test_a_data_warning_is_one_line(capsys):
    def main():
        for _ in range(2):
            warnings.warn("3 files are left out:\n  a.txt", DataWarning, stacklevel=2)

    run(main)
    assert capsys.readouterr().err.splitlines() == ["warning: 3 files are left out: a.txt"] * 2


class LibraryError(Exception):
    """An exception of another library."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "run.partial/model.keras"),
        OSError(
            "Can't write data (file write failed: errno = 28, error message = 'No space left on device')"
        ),
        LibraryError(
            "{{function_node __wrapped__SaveV2_device_/job:localhost}} checkpoint.index; File too large\n\tEncountered when executing an operation"
        ),
    ],
)
def test_a_full_disk_is_one_line_whatever_the_exception(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {first_line(error)}"
    assert "function_node" not in line


def test_unexpected_exceptions_keep_their_traceback():
    def main():
        raise LibraryError("no kernel")

    with pytest.raises(LibraryError):
        run(main)


def test_a_full_disk_is_an_error_even_when_drawing():
    with pytest.raises(OSError, match="No space left"), warn_on_failure("confusion.png"):
        raise OSError(errno.ENOSPC, "No space left on device")


def write_png(path, side):
    """Write a PNG file with 100 bytes of pixels and a header of `side` x `side` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    content = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))


def write_tiff(path, samples):
    """Write a TIFF file of one pixel and a header of `samples` samples per pixel."""
    tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 8, 277: samples, 278: 1, 279: 1}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    path.write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4))


UNREADABLE = {  # what Pillow reports: (function that writes the file, its argument, error message)
    "a warning": (write_png, 10_000, "image file is truncated"),
    "nothing": (write_png, 50_000, "exceeds limit of"),
    "a line in its log": (write_tiff, 9, "cannot identify image file"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_an_unreadable_image_prints_only_the_error(kind, tmp_path, capsys, caplog):
    write, argument, reason = UNREADABLE[kind]
    write(tmp_path / "image", argument)
    with pytest.raises(SystemExit) as stop:
        run(lambda: read_image(tmp_path / "image", (8, 8, 1)))
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert line.startswith("error: ")
    assert reason in line
    assert not caplog.records


PRINTS = """
import csv, sys, warnings
from keras_arch import cli
from keras_arch.errors import DataWarning, InputError
from keras_arch.evaluation.predictions import ClassProbability, Prediction
from keras_arch.reports.predictions import print_csv

def main():
    cli.say("\u732b: 99%")
    cli.print_table([{"class": "\u732b", "recall %": "99"}])
    print_csv([Prediction("\u732b.png", (ClassProbability("\u732b", 1.0),))])
    print("caf\u00e9")
    warnings.warn("\u732b is left out", DataWarning, stacklevel=2)
    raise InputError("\u732b is not a class")

cli.run(main)
"""


@pytest.mark.parametrize(
    ("encoding", "cat", "cafe"),
    [("cp1252", "\\u732b", "café"), ("ascii", "\\u732b", "caf\\xe9"), ("utf-8", "猫", "café")],
)
def test_characters_outside_the_encoding_are_escaped(encoding, cat, cafe):
    environment = {
        **os.environ,
        "PYTHONIOENCODING": encoding,
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "0",
    }
    found = subprocess.run([sys.executable, "-c", PRINTS], env=environment, capture_output=True)
    out, err = found.stdout.decode(encoding), found.stderr.decode(encoding)
    assert "Traceback" not in err
    assert found.returncode == 2
    assert out.splitlines()[0] == f"{cat}: 99%"
    assert out.count(cat) == 4
    assert out.splitlines()[-1] == cafe
    assert err.splitlines() == [f"warning: {cat} is left out", f"error: {cat} is not a class"]


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_stdout_may_be_missing_or_in_memory(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    run(lambda: print("done"))
    assert stream is None or stream.getvalue() == "done\n"
