"""Killed processes, full disks and concurrent processes: no file is lost or damaged.

The summary of pytest lists the outcomes.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="kills, locks and mounts need POSIX"),
]

SEED = 20
TRAINING_KILLS, EXPORT_KILLS = 14, 6
CHAIN = 4  # kills of one run before it may finish
EPOCHS = 3
TRAIN = ("train.py", "quickstart", "--epochs", EPOCHS, "--precision", "float32", "--ema", "0.99")
# Two formats of two converters take a third of the time of all six.
EXPORT = (
    "--formats",
    "saved_model",
    "int8",
    "--verification-images",
    50,
    "--calibration-images",
    10,
)
LONGEST_LINE = 300
KB = 1024


def start(name, *arguments, **environment):
    command = [sys.executable, ROOT / "scripts" / name, *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, command)), env={**os.environ, **environment}, **pipes)


def finish(process):
    """Return exit status and stderr of a process."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def run(name, *arguments, **environment):
    """Run a script and assert that it succeeds."""
    status, errors = finish(start(name, *arguments, **environment))
    assert status == 0, errors


def assert_one_line(status, errors, *parts):
    assert status == 2, errors
    assert errors.count("\n") == 1, errors
    assert errors.startswith("error: ")
    assert len(errors) < LONGEST_LINE + len("error: "), errors
    for part in parts:
        assert part in errors


def die(seconds, name, *arguments):
    """Kill a script after `seconds`. Return False if it had already succeeded."""
    process = start(name, *arguments)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    status, errors = finish(process)
    assert status in (0, -signal.SIGKILL), errors
    return status != 0


def weights_of(path):
    import keras

    return keras.models.load_model(path, compile=False).get_weights()


def same_weights(path, expected):
    found = weights_of(path)
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def assert_finished_run(folder, files):
    """Assert that a run has all files, that they can be read and that run.json has their hash."""
    digest = hashlib.sha256()
    for array in weights_of(folder / "model.keras"):
        digest.update(array.tobytes())
    run = json.loads((folder / "run.json").read_text())
    assert run["metrics"]["weights_sha256"] == digest.hexdigest()
    assert len((folder / "history.csv").read_text().splitlines()) == EPOCHS + 1
    assert (folder / "report.html").read_text().rstrip().endswith("</html>")
    with Image.open(folder / "curves.png") as image:
        image.load()
    assert names_in(folder) - {"checkpoint.npz"} == files


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def contents(folder):
    """Return {name: SHA-256} of the files in a directory."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names_in(folder)
    }


@pytest.fixture
def outcome(record_property):
    """A function that adds a line to the summary of pytest."""
    return lambda line: record_property("outcome", line)


@pytest.fixture(scope="module")
def made(tmp_path_factory, data_dir):
    """Directory of two uninterrupted runs, of seeds 0 and 1, and the seconds of a training.

    Tests must not change it.
    """
    folder = tmp_path_factory.mktemp("made")
    run(*TRAIN, "--output", folder / "seed0", "--data-dir", data_dir)
    started = time.monotonic()
    run(*TRAIN, "--output", folder / "seed1", "--data-dir", data_dir, "--seed", 1)
    return folder, time.monotonic() - started


def test_killed_and_resumed_trainings_end_with_the_same_weights(made, tmp_path, data_dir, outcome):
    """In a chain of kills, each process resumes the previous one, until one finishes.

    Chains alternate between two seeds, so old and new runs have different weights.
    """
    reference, seconds = made
    folder, moments, counts = tmp_path / "run", random.Random(SEED), Counter()
    expected = [weights_of(reference / f"seed{seed}" / "model.keras") for seed in (0, 1)]
    assert not all(map(np.array_equal, *expected))
    files = names_in(reference / "seed0")

    def resume_training(chain, resume, overwrite, kill=True):
        options = ("--output", folder, "--data-dir", data_dir, "--seed", chain % 2)
        options += ("--resume",) * resume + ("--overwrite",) * overwrite
        return die(moments.uniform(0, seconds) if kill else 300, *TRAIN, *options)

    chain, kills, in_chain, resume = 0, 0, 0, False
    while kills < TRAINING_KILLS or resume:
        killed = resume_training(
            chain, resume, chain > 0, kills < TRAINING_KILLS and in_chain < CHAIN
        )
        kills, in_chain = kills + killed, in_chain + killed
        finished = folder.exists() and same_weights(folder / "model.keras", expected[chain % 2])
        if folder.exists():
            assert_finished_run(folder, files)
            assert finished or same_weights(folder / "model.keras", expected[(chain - 1) % 2])
        else:
            assert chain == 0  # an old run stays until the new one is finished
        partial = tmp_path / "run.partial"
        if not killed:
            assert finished
            assert [path.name for path in tmp_path.iterdir()] == ["run"]
            counts["chains that ended"] += 1
            chain, in_chain, resume = chain + 1, 0, False
        elif finished and not partial.exists():
            counts["killed after the end"] += 1
            chain, in_chain, resume = chain + 1, 0, False
        else:
            done = epochs_in(partial / "checkpoint.npz")
            counts[f"resumed after epoch {done}" if done else "started over"] += 1
            resume = True
    outcome(f"{kills} kills of trainings within {seconds:.0f} s: {dict(counts)}; all weights equal")


def epochs_in(checkpoint):
    if not checkpoint.exists():
        return 0
    with np.load(checkpoint) as file:
        return len(json.loads(str(file["history"]))["loss"])


def exported(folder):
    """Return what two exports must have in common.

    These are the names of all files, and the contents of those without measurements and without
    identifiers of TensorFlow.
    """
    return {
        name: digest
        for name, digest in contents(folder).items()
        if name.endswith((".tflite", ".txt")) or "variables.data" in name
    }, names_in(folder)


@pytest.fixture
def copied(made, tmp_path):
    """A finished run that a test may change."""
    return Path(shutil.copytree(made[0] / "seed0", tmp_path / "run"))


def test_a_killed_export_is_old_or_new_or_absent(copied, tmp_path, outcome):
    folder, moments, counts = copied / "export", random.Random(SEED + 1), Counter()
    files = names_in(copied)
    started = time.monotonic()
    run("export.py", copied, *EXPORT)
    seconds, new = time.monotonic() - started, exported(folder)
    folder.rename(tmp_path / "reference")
    old = None
    for number in range(EXPORT_KILLS):
        if number == EXPORT_KILLS // 2:
            run("export.py", copied, *EXPORT, "--formats", "float16")
            old = exported(folder)
            assert old != new
        killed = die(moments.uniform(0, seconds), "export.py", copied, *EXPORT)
        found = exported(folder) if folder.exists() else None
        assert found in (old, new)
        state = {None: "absent", "old": "old", "new": "new"}[
            found and ("new" if found == new else "old")
        ]
        counts[state if killed else "came to its end"] += 1
        old = found
        assert (copied / "report.html").read_text().rstrip().endswith("</html>")
    run("export.py", copied, *EXPORT)
    assert exported(folder) == new
    assert names_in(copied) == files | {f"export/{name}" for name in new[1]}
    assert {path.name for path in copied.iterdir() if path.is_dir()} == {"export"}
    outcome(
        f"{EXPORT_KILLS} kills of exports within {seconds:.0f} s: {dict(counts)}; the rerun wrote the same files"
    )


@pytest.fixture
def disk(tmp_path):
    """A file system of 16 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = [*root, "mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("the mount command is not installed")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run([*root, "umount", "--lazy", str(folder)], check=False)


@contextmanager
def nearly_full(disk, room):
    """Fill a disk until `room` bytes are free."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        found = os.statvfs(disk)
        file.write(bytes(found.f_bavail * found.f_frsize - room))
    yield
    filler.unlink()


def size_of(path):
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def full_size(path):
    """Return the bytes that a file uses on a disk with pages of 4 KB."""
    return -(-path.stat().st_size // (4 * KB)) * 4 * KB


def test_training_on_a_full_disk_can_be_resumed(made, disk, data_dir, outcome):
    reference, _ = made
    command = (*TRAIN, "--output", disk / "run", "--data-dir", data_dir)
    model = full_size(reference / "seed0" / "model.keras")
    weights = sum(array.nbytes for array in weights_of(reference / "seed0" / "model.keras"))
    # A checkpoint is three times as large as the weights: momentum and averages. The old one is
    # removed after the new one is written.
    rooms = {"first checkpoint": model + 40 * KB, "a later epoch": 11 * weights // 2}
    counts = {}
    for moment, room in rooms.items():
        with nearly_full(disk, room):
            assert_one_line(*finish(start(*command)), "No space left on device")
            left = names_in(disk) - {"filler"}
        assert not any("partial-" in name for name in left), left
        assert not (disk / "run").exists()
        kept = "run.partial/model.keras" in left
        counts[moment] = (
            "checkpoint" if "run.partial/checkpoint.npz" in left else "model" if kept else "nothing"
        )
        run(*command, *(("--resume",) if kept else ()))
        assert same_weights(
            disk / "run" / "model.keras", weights_of(reference / "seed0" / "model.keras")
        )
        assert {path.name for path in disk.iterdir()} == {"run"}
        for path in sorted((disk / "run").rglob("*")):
            path.unlink()
        (disk / "run").rmdir()
    assert counts == {"first checkpoint": "model", "a later epoch": "checkpoint"}
    outcome(f"a full disk in training: {counts} kept; all resumed to the same weights")


def test_export_and_evaluation_on_a_full_disk_keep_the_old_files(made, disk, outcome):
    source = shutil.copytree(made[0] / "seed0", disk / "run")
    run("export.py", source, *EXPORT)
    before, counts = contents(source), Counter()
    for room in (0, 30 * KB, size_of(source / "export") // 2):
        with nearly_full(disk, room):
            assert_one_line(*finish(start("export.py", source, *EXPORT)), "No space left on device")
        assert contents(source) == before
        counts["exports refused"] += 1
    before = exported(source / "export")
    run("export.py", source, *EXPORT)
    assert exported(source / "export") == before

    command = ("evaluate.py", source / "model.keras", "--output", disk / "evaluation")
    run(*command)
    before = contents(disk / "evaluation")
    largest = max(full_size(path) for path in (disk / "evaluation").glob("*.png"))
    for room in (0, largest - 4 * KB):  # no space for metrics.json, or for a figure
        with nearly_full(disk, room):
            assert_one_line(*finish(start(*command)), "No space left on device")
        after = contents(disk / "evaluation")
        assert after.keys() == before.keys()
        json.loads((disk / "evaluation" / "metrics.json").read_text())
        for figure in (disk / "evaluation").glob("*.png"):
            with Image.open(figure) as image:
                image.load()
        counts["evaluations refused"] += 1
    run(*command)
    assert contents(disk / "evaluation").keys() == before.keys()
    outcome(
        f"a full disk in export and evaluation: {dict(counts)}; old files stayed, and reruns worked"
    )


def save_images(folder):
    for number, image in enumerate(
        np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3)).astype("uint8")
    ):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def caches(folder):
    """Return the files of keras_arch in a cache directory, without those of matplotlib."""
    return [path for path in (folder / "keras_arch").rglob("*") if path.is_file()]


def test_a_full_disk_for_caches_data_and_temporary_files(copied, disk, tmp_path, outcome):
    """Scripts work without a cache, but not without data and temporary files."""
    save_images(tmp_path / "images")
    (disk / "temporary").mkdir()
    show = ("show_data.py", tmp_path / "images", "--output", tmp_path / "data.png")
    digits = (
        "show_data.py",
        "digits",
        "--data-dir",
        disk / "data",
        "--output",
        tmp_path / "digits.png",
    )
    with nearly_full(disk, 0):
        run(*show, XDG_CACHE_HOME=str(disk / "cache"))
        assert caches(disk / "cache") == []
        assert_one_line(*finish(start(*digits)), "No space left on device")
        assert not (tmp_path / "digits.png").exists()
    with nearly_full(disk, 8 * KB):  # with less, Python uses another temporary directory
        export = start("export.py", copied, *EXPORT, TMPDIR=str(disk / "temporary"))
        status, errors = finish(export)
        # The lines before the last are warnings of TensorFlow about its own files.
        *_, last = errors.splitlines(keepends=True)
        assert_one_line(status, last, "No space left on device")
        assert "Traceback" not in errors
        assert not (copied / "export").exists()
    run(*show, XDG_CACHE_HOME=str(disk / "cache"))
    assert len(caches(disk / "cache")) == 1
    run(*digits)
    assert (tmp_path / "digits.png").exists()
    outcome(
        "a full disk for caches: ignored; for data and temporary files: refused, and reruns worked"
    )


def both(first, second, **environment):
    """Start two scripts at once. Return the exit status and stderr of each."""
    processes = [start(*first, **environment), start(*second, **environment)]
    return [finish(process) for process in processes]


def assert_one_wins(results, *parts):
    assert sorted(status for status, _ in results) == [0, 2], results
    for status, errors in results:
        if status:
            assert_one_line(status, errors, *parts)


def test_of_two_trainings_into_one_directory_one_is_refused(made, tmp_path, data_dir, outcome):
    command = (*TRAIN, "--output", tmp_path / "run", "--data-dir", data_dir)
    results = both(command, command)
    assert_one_wins(results, str(tmp_path / "run"))
    assert_finished_run(tmp_path / "run", names_in(made[0] / "seed0"))
    assert same_weights(
        tmp_path / "run" / "model.keras", weights_of(made[0] / "seed0" / "model.keras")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    outcome("two trainings into one directory: one finished, one was refused")


def test_of_two_exports_of_one_run_one_is_refused(copied, outcome):
    files = names_in(copied)
    results = both(*[("export.py", copied, *EXPORT)] * 2)
    assert_one_wins(results, "another process is writing")
    found = names_in(copied)
    assert {name for name in found if not name.startswith("export/")} == files
    assert {"export/export.json", "export/model_int8.tflite", "export/labels.txt"} <= found
    outcome("two exports of one run: one finished, one was refused")


def test_an_export_of_a_replaced_run_is_removed_or_of_the_new_run(
    copied, tmp_path, data_dir, outcome
):
    files = names_in(copied)
    train = (
        *TRAIN,
        "--epochs",
        1,
        "--seed",
        1,
        "--overwrite",
        "--output",
        copied,
        "--data-dir",
        data_dir,
    )
    results = both(train, ("export.py", copied, *EXPORT))
    assert [status for status, _ in results] == [0, 0], results
    assert json.loads((copied / "run.json").read_text())["recipe"]["seed"] == 1
    found = names_in(copied)
    assert {name for name in found if not name.startswith("export/")} == files
    fate = "was removed with the old run"
    if (copied / "export").exists():
        report = json.loads((copied / "export" / "export.json").read_text())
        digest = json.loads((copied / "run.json").read_text())["metrics"]["weights_sha256"]
        assert digest[:12] in json.dumps(report)
        fate = "is of the new run"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    outcome(f"an export of a replaced run: both finished, and the export {fate}")


def test_two_evaluations_into_one_directory_do_not_mix(made, tmp_path, outcome):
    models = [made[0] / f"seed{seed}" / "model.keras" for seed in (0, 1)]
    for number, model in enumerate(models):
        run("evaluate.py", model, "--output", tmp_path / str(number))
    results = both(*(("evaluate.py", model, "--output", tmp_path / "both") for model in models))
    assert [status for status, _ in results] == [0, 0], results
    figures = [
        {
            name: digest
            for name, digest in contents(tmp_path / folder).items()
            if name.endswith(".png")
        }
        for folder in ("0", "1", "both")
    ]
    assert figures[2] in figures[:2]
    (row,) = json.loads((tmp_path / "both" / "metrics.json").read_text())["artifacts"]
    (same,) = json.loads((tmp_path / str(figures.index(figures[2])) / "metrics.json").read_text())[
        "artifacts"
    ]
    assert row["metrics"]["confusion"] == same["metrics"]["confusion"]
    assert names_in(tmp_path / "both") == names_in(tmp_path / "0")
    outcome("two evaluations into one directory: both finished; all files are of the later one")


def test_two_processes_write_one_valid_image_cache(tmp_path, outcome):
    save_images(tmp_path / "images")
    command = ("show_data.py", tmp_path / "images", "--output", tmp_path / "data.png")
    results = both(command, command, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert results == [(0, ""), (0, "")]
    (cache,) = caches(tmp_path / "cache")
    assert len(json.loads(cache.read_text())) == 60
    assert {path.name for path in tmp_path.iterdir()} == {"images", "cache", "data.png"}
    outcome("two processes with an empty image cache: both finished, one valid cache file")


def test_two_processes_write_one_valid_precision_cache(tmp_path, data_dir, outcome):
    command = ("train.py", "quickstart", "--epochs", 1, "--data-dir", data_dir, "--output")
    results = both(
        (*command, tmp_path / "one"),
        (*command, tmp_path / "two"),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )
    assert [status for status, _ in results] == [0, 0], results
    (cache,) = caches(tmp_path / "cache")
    (speeds,) = json.loads(cache.read_text()).values()
    assert set(speeds) == {"float32", "bfloat16"}
    outcome("two processes with an empty precision cache: both finished, one valid cache file")
