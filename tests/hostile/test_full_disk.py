"""A disk that is full: one line, and what was there stays."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from harness import DIGIT, LONGEST, tree_of, world  # noqa: F401

SIZE = "96k"  # of the disk

OUTPUTS = [  # what each script writes first is larger than the disk
    "train.py quickstart --epochs 1 --output DISK/run",
    "evaluate.py run --output DISK/new",
    "predict.py run digit.png --explain DISK/new",
    "compare.py run other --output DISK/new.png",
    "show_data.py digits --output DISK/new.png",
]


@pytest.fixture
def disk(tmp_path):
    """A full file system with one file on it, if this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("only a user who may mount file systems can try a full disk")
    shutil.copy(DIGIT, place)
    with (place / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"\0" * 4096)
        except OSError:
            pass
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("typed", OUTPUTS)
def test_a_full_disk_is_one_line(typed, disk, world, monkeypatch):  # noqa: F811
    monkeypatch.setenv("TFDS_DATA_DIR", str(world / "data"))
    script, *words = typed.replace("DISK", str(disk)).split()
    before = tree_of(disk)
    ended = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, *words],
        cwd=world,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("warning: ")]
    assert ended.returncode == 2, ended.stderr
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert len(lines[0]) < LONGEST
    after = tree_of(disk)
    assert {path: after[path] for path in before} == before
