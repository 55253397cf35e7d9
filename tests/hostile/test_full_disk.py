"""Scripts on a full disk: one line, and existing files do not change."""

import shutil
import subprocess
import sys

import pytest
from conftest import ROOT
from harness import DIGIT, LONGEST, tree_of, world  # noqa: F401

SIZE = "96k"  # size of the disk

OUTPUTS = [  # commands whose first file does not fit on the disk
    "train.py quickstart --epochs 1 --output DISK/run",
    "evaluate.py run --output DISK/new",
    "predict.py run digit.png --explain DISK/new",
    "predict.py run digit.png --output DISK/new.csv",
    "compare.py run other --output DISK/new.png",
    "show_data.py digits --output DISK/new.png",
]


@pytest.fixture
def disk(tmp_path):
    """A full file system with one image, if this process may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("this user may not mount a file system")
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
def test_a_full_disk_is_one_line_and_changes_no_file(typed, disk, world, monkeypatch):  # noqa: F811
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
