"""Command lines: what a script prints on stderr."""

import errno
import io
import os
import subprocess
import sys
import warnings

import pytest
from conftest import ROOT

from keras_arch import cli
from keras_arch.errors import DataWarning, first_line, warn_on_failure


def test_a_warning_about_data_is_one_line(capsys):
    def main():
        for _ in range(2):
            warnings.warn("3 files are left out:\n  a.txt", DataWarning, stacklevel=2)

    cli.run(main)
    assert capsys.readouterr().err.splitlines() == ["warning: 3 files are left out: a.txt"] * 2


class LibraryError(Exception):
    """Of a library that has exceptions of its own."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "run.partial/model.keras"),
        OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"),
        LibraryError(
            "{{function_node __wrapped__SaveV2_device_/job:localhost}} checkpoint.index; File too large\n\tEncountered when executing an operation"
        ),
    ],
)
def test_a_full_disk_is_one_line_in_the_words_of_any_library(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {first_line(error)}"
    assert "function_node" not in line


def test_other_errors_of_libraries_keep_their_traceback():
    def main():
        raise LibraryError("no kernel")

    with pytest.raises(LibraryError):
        cli.run(main)


def test_a_full_disk_is_no_failure_of_a_drawing():
    with pytest.raises(OSError, match="No space left"), warn_on_failure("confusion.png"):
        raise OSError(errno.ENOSPC, "No space left on device")


PRINTS = """
import csv, sys, warnings
from keras_arch import cli
from keras_arch.errors import DataWarning, InputError
from keras_arch.predictions import write_csv

def main():
    cli.say("\u732b: 99%")
    cli.print_table([{"class": "\u732b", "recall %": "99"}])
    write_csv([{"image": "\u732b.png", "classes": [{"label": "\u732b", "probability": 1.0}]}])
    print("caf\u00e9")
    warnings.warn("\u732b is left out", DataWarning, stacklevel=2)
    raise InputError("\u732b is not a class")

cli.run(main)
"""


@pytest.mark.parametrize(
    ("encoding", "cat", "cafe"),
    [("cp1252", "\\u732b", "café"), ("ascii", "\\u732b", "caf\\xe9"), ("utf-8", "猫", "café")],
)
def test_names_that_the_terminal_cannot_show_are_escaped(encoding, cat, cafe):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0"}
    found = subprocess.run([sys.executable, "-c", PRINTS], env=environment, capture_output=True)
    out, err = found.stdout.decode(encoding), found.stderr.decode(encoding)
    assert "Traceback" not in err
    assert found.returncode == 2
    assert out.splitlines()[0] == f"{cat}: 99%"
    assert out.count(cat) == 4
    assert out.splitlines()[-1] == cafe
    assert err.splitlines() == [f"warning: {cat} is left out", f"error: {cat} is not a class"]


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_output_may_go_to_no_terminal(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    cli.run(lambda: print("done"))
    assert stream is None or stream.getvalue() == "done\n"
