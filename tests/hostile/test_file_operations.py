"""Files and directories are written atomically, even if the process is killed at any operation."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keras_arch import files
from keras_arch.errors import InputError

if os.name != "posix":
    pytest.skip("locks and pipes need POSIX", allow_module_level=True)

# Python calls audit hooks before these file operations.
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
    files.atomic_write(path, lambda partial: partial.write_text(content))


def is_killed(kind, path, content, moment, *options):
    """Write in a process that exits before operation number `moment`; return whether it exited."""
    command = [sys.executable, "-c", SCRIPT, kind, path, content, str(moment), *options]
    here, package = Path(__file__).parent, Path(files.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{package}"}
    status = subprocess.run(list(map(str, command)), check=False, env=environment).returncode
    assert status in (0, KILLED)
    return status == KILLED


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def files_with(content):
    return {"model.keras": content, "run.json": content}


@pytest.mark.parametrize("options", [(), pytest.param(("resume",), marks=pytest.mark.slow)])
def test_a_directory_is_old_or_new_after_a_kill_at_any_operation(options, tmp_path):
    folder, moment = tmp_path / "runs" / "run", 1
    folder.parent.mkdir()
    write_folder(folder, "old")
    while is_killed("folder", folder, "new", moment, *options):
        moment += 1
        if folder.exists():
            kept = contents(folder)
            kept.pop("checkpoint.npz", None)
            assert kept in (files_with("old"), files_with("new"))
        else:  # killed between two renames: the next process finishes
            assert contents(folder.with_name("run.replaced")) == files_with("old")
        write_folder(folder, "old", resume=bool(options))
        assert contents(folder) == files_with("old")
        assert [path.name for path in folder.parent.iterdir()] == ["run"]
    assert moment > 10
    assert contents(folder) == files_with("new")


def test_a_file_is_old_or_new_after_a_kill_at_any_operation(tmp_path):
    moment, file = 1, tmp_path / "report.html"
    file.write_text("old")
    while is_killed("file", file, "new", moment):
        moment += 1
        assert file.read_text() in ("old", "new")
        write_file(file, "old")
        # The next process removes temporary files that a kill left.
        assert contents(tmp_path) == {"report.html": "old"}
    assert moment > 3


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    file = tmp_path / "precision.json"

    def write_during_another_write(partial):
        partial.write_text("first, ")
        files.atomic_write(file, lambda other: other.write_text("second"))
        assert file.read_text() == "second"
        with partial.open("a") as opened:
            opened.write("to its end")

    files.atomic_write(file, write_during_another_write)
    assert contents(tmp_path) == {"precision.json": "first, to its end"}


def test_files_of_a_user_are_not_removed(tmp_path):
    for name in ("partial-data.png", "partial-12345678-other.png", "partial-holiday1-data.png"):
        (tmp_path / name).write_text("mine")
    files.atomic_write(tmp_path / "data.png", lambda partial: partial.write_text("data"))
    assert len(contents(tmp_path)) == 4


def test_a_pipe_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_file_with_a_long_name_can_be_written(tmp_path):
    file = tmp_path / ("字" * 83 + ".png")  # 253 bytes; file systems allow 255
    files.atomic_write(file, lambda partial: partial.write_text("data"))
    assert contents(tmp_path) == {file.name: "data"}


def test_a_directory_is_checked_again_after_it_is_locked(tmp_path):
    """Another process may have written it since the first check."""
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
    assert contents(folder) == files_with("old")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_directory_is_replaced_after_its_readers_release_it(tmp_path):
    folder = tmp_path / "run"
    write_folder(folder, "old")
    other = threading.Thread(target=is_killed, args=("folder", folder, "new", 0))
    with files.shared_lock(folder):
        other.start()
        other.join(timeout=1)
        assert other.is_alive()
        assert contents(folder) == files_with("old")
    other.join(timeout=30)
    assert contents(folder) == files_with("new")
