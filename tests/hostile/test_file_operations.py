"""Files and folders take their place at once: a process is killed before each of its file operations in turn."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keras_arch import files
from keras_arch.errors import InputError

if os.name != "posix":
    pytest.skip("locks and pipes are POSIX's", allow_module_level=True)

# Python reports operations on files to an audit hook before it does them.
OPERATIONS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree"}
KILLED = 9
SCRIPT = f"""
import os, sys
from pathlib import Path
from test_file_operations import write_file, write_folder

folder, moment = Path(sys.argv[2]), int(sys.argv[4])

def count(event, arguments):
    global moment
    if event in {OPERATIONS} and str(folder.parent) in str(arguments[0]):
        moment -= 1
        if moment == 0:
            os._exit({KILLED})

write = {{"file": write_file, "folder": write_folder}}[sys.argv[1]]
sys.addaudithook(count)
write(folder, sys.argv[3], "resume" in sys.argv)
"""


def write_folder(folder, content, resume=False):
    with files.atomic_folder(folder, "run.json", resume) as partial:
        for name in ("checkpoint.npz", "model.keras", "run.json"):
            write_file(partial / name, content)


def write_file(path, content, resume=False):
    files.atomic_write(path, lambda beside: beside.write_text(content))


def is_killed(kind, path, content, moment, *options):
    """Write in another process, which dies before its operation number `moment`; return whether it died."""
    command = [sys.executable, "-c", SCRIPT, kind, path, content, str(moment), *options]
    here, package = Path(__file__).parent, Path(files.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{package}"}
    status = subprocess.run(list(map(str, command)), check=False, env=environment).returncode
    assert status in (0, KILLED)
    return status == KILLED


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def whole(content):
    return {"model.keras": content, "run.json": content}


@pytest.mark.parametrize("options", [(), pytest.param(("resume",), marks=pytest.mark.slow)])
def test_a_folder_is_old_or_new_wherever_its_process_is_killed(options, tmp_path):
    folder, moment = tmp_path / "runs" / "run", 1
    folder.parent.mkdir()
    write_folder(folder, "old")
    while is_killed("folder", folder, "new", moment, *options):
        moment += 1
        if folder.exists():
            kept = contents(folder)
            kept.pop("checkpoint.npz", None)
            assert kept in (whole("old"), whole("new"))
        else:  # between the moves of the old folder and of the new one: both are there and the next process goes on
            assert contents(folder.with_name("run.replaced")) == whole("old")
        write_folder(folder, "old", resume=bool(options))
        assert contents(folder) == whole("old")
        assert [path.name for path in folder.parent.iterdir()] == ["run"]
    assert moment > 10
    assert contents(folder) == whole("new")


def test_a_file_is_old_or_new_wherever_its_process_is_killed(tmp_path):
    moment, file = 1, tmp_path / "report.html"
    file.write_text("old")
    while is_killed("file", file, "new", moment):
        moment += 1
        assert file.read_text() in ("old", "new")
        write_file(file, "old")
        assert contents(tmp_path) == {
            "report.html": "old"
        }  # what the kill left is removed by the next process
    assert moment > 3


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    file = tmp_path / "precision.json"

    def write_while_another_does(beside):
        beside.write_text("first, ")
        files.atomic_write(file, lambda other: other.write_text("second"))
        assert file.read_text() == "second"
        with beside.open("a") as opened:
            opened.write("to its end")

    files.atomic_write(file, write_while_another_does)
    assert contents(tmp_path) == {"precision.json": "first, to its end"}


def test_files_of_a_user_are_not_taken_for_leftovers(tmp_path):
    for name in ("partial-data.png", "partial-12345678-other.png", "partial-holiday1-data.png"):
        (tmp_path / name).write_text("mine")
    files.atomic_write(tmp_path / "data.png", lambda beside: beside.write_text("data"))
    assert len(contents(tmp_path)) == 4


def test_a_device_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_long_name_can_be_written(tmp_path):
    file = tmp_path / ("字" * 83 + ".png")  # 253 bytes of the 255 that file systems take
    files.atomic_write(file, lambda beside: beside.write_text("data"))
    assert contents(tmp_path) == {file.name: "data"}


def test_a_folder_is_checked_again_when_it_is_locked(tmp_path):
    """Another process may have finished since the first check."""
    folder = tmp_path / "run"

    def refuse():
        if folder.exists():
            raise InputError("already holds a finished run")

    refuse()
    write_folder(folder, "old")
    with (
        pytest.raises(InputError, match="already holds"),
        files.atomic_folder(folder, "run.json", check=refuse),
    ):
        pass
    assert contents(folder) == whole("old")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_is_replaced_when_nobody_uses_it(tmp_path):
    folder = tmp_path / "run"
    write_folder(folder, "old")
    other = threading.Thread(target=is_killed, args=("folder", folder, "new", 0))
    with files.shared_lock(folder):
        other.start()
        other.join(timeout=1)
        assert other.is_alive()
        assert contents(folder) == whole("old")
    other.join(timeout=30)
    assert contents(folder) == whole("new")
