"""Resumed runs: processes are killed, and the results are compared bit by bit."""

import csv
import dataclasses
import hashlib
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
import types

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import keras_arch
from keras_arch import files
from keras_arch.data import check
from keras_arch.data.splits import InMemory
from keras_arch.errors import DataWarning
from keras_arch.export.run import open_run
from keras_arch.formats import ExportSettings
from keras_arch.runs.origin import warn_of_changes
from keras_arch.runs.record import read_run, start_run
from keras_arch.training import callbacks
from keras_arch.training.precision import choose_precision

EPOCHS = 3
COMMAND = [ROOT / "scripts" / "train.py", "quickstart", "--epochs", str(EPOCHS), "--ema", "0.99"]


class Killed(BaseException):
    """An exception that the package does not catch."""


@pytest.mark.slow
def test_resumed_state_is_bit_identical(digits, tmp_path, monkeypatch):
    """Weights, optimizer, EMA, random state of dropout and history, with all stateful options."""
    few = InMemory(digits.train.images[:64], digits.train.labels[:64])
    data = dataclasses.replace(digits, train=few, validation=few)
    recipe = keras_arch.Recipe(
        *("nin", "digits"),
        epochs=3,
        learning_rate=1e-3,
        batch_size=16,
        optimizer="adamw",
        ema=0.9,
        augment="mixup",
        class_weights="balanced",
    )

    def train(folder, resume=False):
        keras.utils.set_random_seed(
            3 if resume else 0
        )  # random draws before the kill have no effect
        model = keras_arch.NetworkInNetwork(input_shape=(8, 8, 1))
        folder.mkdir(exist_ok=True)
        keras_arch.fit(model, data, recipe, folder, resume)
        return model

    steps = itertools.count(1)

    def die_within_the_third_epoch(callback, batch, logs=None):
        if next(steps) == 2 * 4 + 2:
            raise Killed

    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(callbacks.SwapAverages, "on_train_batch_end", die_within_the_third_epoch)
        train(tmp_path / "killed")
    resumed = train(tmp_path / "killed", resume=True)
    for mine, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with (
        np.load(tmp_path / "killed" / "checkpoint.npz") as mine,
        np.load(tmp_path / "whole" / "checkpoint.npz") as theirs,
    ):
        assert mine.files == theirs.files
        assert len(mine.files) > 60
        for name in set(mine.files) - {"history"}:
            np.testing.assert_array_equal(mine[name], theirs[name])
        histories = [json.loads(str(file["history"])) for file in (mine, theirs)]
    for history in histories:
        assert len(history.pop("seconds")) == recipe.epochs
    assert histories[0] == histories[1]


def test_damaged_and_foreign_checkpoints_raise(small_digits, tmp_path):
    recipe = dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=1)
    keras_arch.fit(keras_arch.ResNet8(input_shape=(8, 8, 1)), small_digits, recipe, tmp_path)
    with pytest.raises(
        keras_arch.InputError, match="is the checkpoint of another network or optimizer"
    ):
        keras_arch.fit(
            keras_arch.Plain20(input_shape=(8, 8, 1)), small_digits, recipe, tmp_path, resume=True
        )
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        keras_arch.InputError, match=r"checkpoint\.npz is damaged\..* Pass resume=False"
    ):
        keras_arch.fit(
            keras_arch.ResNet8(input_shape=(8, 8, 1)), small_digits, recipe, tmp_path, resume=True
        )


def result(folder):
    """Return what must be equal: hash of the weights, metrics and history, without times."""
    metrics = json.loads((folder / "run.json").read_text())["metrics"]
    del metrics["training_seconds"]
    with (folder / "history.csv").open() as file:
        return metrics, [{**row, "seconds": None} for row in csv.DictReader(file)]


def kill(folder, data_dir, *options, until):
    """Run the command. Kill it as soon as `until(partial directory)` is true."""
    partial = folder.with_name(folder.name + ".partial")
    command = [sys.executable, *COMMAND, "--output", folder, "--data-dir", data_dir, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while process.poll() is None:
        if until(partial):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.0005)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == -signal.SIGKILL, output


def epochs_in(partial):
    try:
        return len((partial / "history.csv").read_text().splitlines()) - 1
    except OSError:
        return 0


def is_trained(partial):
    """Return whether the checkpoint of the last epoch is written, which follows the history."""
    history, checkpoint = partial / "history.csv", partial / "checkpoint.npz"
    return (
        epochs_in(partial) == EPOCHS and checkpoint.stat().st_mtime_ns > history.stat().st_mtime_ns
    )


def replaces_model(partial):
    return epochs_in(partial) >= 1 and any(partial.glob("partial-*-model.keras"))


def replaces_checkpoint(partial):
    return epochs_in(partial) >= 2 and any(partial.glob("partial-*-checkpoint.npz"))


@pytest.mark.parametrize(
    "moments",
    [
        pytest.param([replaces_checkpoint], id="once"),
        pytest.param(
            [replaces_model, replaces_checkpoint, is_trained],  # the last one during evaluation
            id="three times",
            marks=pytest.mark.slow,
        ),
    ],
)
@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_is_not_killed(moments, script, tmp_path, data_dir, capfd):
    whole, killed, folder = tmp_path / "whole", tmp_path / "killed", ("--data-dir", data_dir)
    assert script("train.py", *COMMAND[1:], "--output", whole, *folder) == 0
    for number, moment in enumerate(moments):
        kill(killed, data_dir, *(["--resume"] if number else []), until=moment)
        assert not killed.exists()
    capfd.readouterr()
    assert script("train.py", *COMMAND[1:], "--output", killed, *folder, "--resume") == 0
    output = capfd.readouterr().out
    assert result(killed) == result(whole)
    assert sorted(path.name for path in killed.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("whole", "killed")] == []
    assert "Run saved to" in output


def test_resume_needs_the_same_recipe(script, tmp_path, data_dir, capfd):
    arguments = ("train.py", "quickstart", "--output", tmp_path / "run", "--data-dir", data_dir)
    partial = tmp_path / "run.partial"
    partial.mkdir()
    recipe = dataclasses.asdict(keras_arch.RECIPES["quickstart"])
    run = {
        "recipe": recipe,
        "data_dir": None,
        "precision": "int4",
        "images": {"validation": 144, "test": 360},
    }
    (partial / "run.json").write_text(json.dumps(run))
    (partial / "checkpoint.npz").touch()
    assert script(*arguments, "--resume") == 2
    error = capfd.readouterr().err
    assert "has other data, precision or backend. Received: 1293 train images" in error
    assert " instead of int4. Use" in error
    assert script(*arguments, "--resume", "--learning-rate", "0.3") == 2
    assert "was started with other options" in capfd.readouterr().err
    assert script(*arguments) == 2
    assert "Pass --resume to continue it" in capfd.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"recipe": recipe}))
    assert script(*arguments, "--resume") == 2
    assert "Pass --overwrite to replace it" in capfd.readouterr().err
    assert (partial / "checkpoint.npz").exists()


def save_pictures(folder, seed):
    """Save 24 images of 8x8 pixels in three splits of two classes."""
    for number, image in enumerate(
        np.random.default_rng(seed).integers(0, 256, (24, 8, 8, 3)).astype("uint8")
    ):
        path = (
            folder
            / ("train", "validation", "test")[number // 2 % 3]
            / "ab"[number % 2]
            / f"{number}.bmp"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def rename_a_class(folder):
    for split in folder.iterdir():
        (split / "b").rename(split / "c")


def replace_all_pictures(folder):
    save_pictures(folder, seed=1)


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Return an image folder and the partial directory of an interrupted run on it."""
    monkeypatch.setattr(check, "CACHE", tmp_path / "memory")
    folder, partial = tmp_path / "pictures", tmp_path / "run.partial"
    save_pictures(folder, seed=0)
    recipe = dataclasses.replace(
        keras_arch.RECIPES["quickstart"], dataset=str(folder), batch_size=8
    )
    partial.mkdir()
    start_run(partial, recipe, choose_precision("auto"), None, keras_arch.load_dataset(folder))
    for name in ("checkpoint.npz", "model.keras"):
        (partial / name).touch()
    return folder, partial


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_a_class, "class 1 is 'c' instead of 'b'"),
        (replace_all_pictures, "pictures with the same number of images but other contents"),
    ],
)
def test_resume_with_other_data_raises(change, message, started, script, tmp_path, capfd):
    folder, partial = started
    before = {path.name: path.read_bytes() for path in partial.iterdir()}
    change(folder)
    words = (
        "train.py",
        "quickstart",
        "--dataset",
        folder,
        "--output",
        tmp_path / "run",
        "--batch-size",
        8,
        "--resume",
    )
    assert script(*words) == 2
    line, kept = capfd.readouterr().err.splitlines()
    assert kept == f"  The best checkpoint is kept in {partial / 'model.keras'}"
    assert f"{partial} has other data, precision or backend. Received: " in line
    assert message in line
    assert {path.name: path.read_bytes() for path in partial.iterdir()} == before


def test_resume_with_the_same_data_continues(started):
    folder, partial = started
    recipe = read_run(partial)["recipe"]
    (folder / "train" / "a" / "0.bmp").rename(folder / "train" / "a" / "renamed.bmp")
    before = (partial / "run.json").read_bytes()
    start_run(partial, recipe, choose_precision("auto"), None, keras_arch.load_dataset(folder))
    assert (partial / "run.json").read_bytes() == before


@pytest.mark.parametrize("recorded", ["jax", "tensorflow", None])
def test_resume_needs_the_same_backend(started, recorded):
    folder, partial = started
    run = json.loads((partial / "run.json").read_text())
    assert run.pop("backend") == "tensorflow"
    if recorded is not None:  # runs of earlier versions have no backend
        run["backend"] = recorded
    (partial / "run.json").write_text(json.dumps(run))
    recipe, precision = read_run(partial)["recipe"], choose_precision("auto")
    before = {path.name: path.read_bytes() for path in partial.iterdir()}
    words = (partial, recipe, precision, None, keras_arch.load_dataset(folder))
    if recorded == "jax":
        with pytest.raises(
            keras_arch.InputError, match=r"Received: Keras backend tensorflow instead of jax\. Use"
        ):
            start_run(*words)
    else:
        start_run(*words)
    assert {path.name: path.read_bytes() for path in partial.iterdir()} == before


def test_resume_needs_the_same_functions(started, tmp_path):
    folder, partial = started
    file = tmp_path / "mine.py"
    file.write_text("def keep(images, random): return images\n")
    recipe = dataclasses.replace(read_run(partial)["recipe"], augment=f"{file}:keep")
    words = (recipe, choose_precision("auto"), None, keras_arch.load_dataset(folder))
    (partial / "checkpoint.npz").unlink()
    start_run(partial, *words)
    (partial / "checkpoint.npz").touch()
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert read_run(partial)["functions"] == {f"{file}:keep": sha256}
    start_run(partial, *words)
    file.write_text("def keep(images, random): return 255 - images\n")
    with pytest.raises(keras_arch.InputError, match=r"another content of .*mine\.py:keep\. Use"):
        start_run(partial, *words)


def test_runs_without_a_fingerprint_are_compared_by_class_names_and_sizes(started):
    folder, partial = started
    run = json.loads((partial / "run.json").read_text())
    del run["data_fingerprint"]  # as in earlier versions
    (partial / "run.json").write_text(json.dumps(run))
    recipe, precision = read_run(partial)["recipe"], choose_precision("auto")
    replace_all_pictures(folder)
    start_run(partial, recipe, precision, None, keras_arch.load_dataset(folder))
    (folder / "train" / "a" / "0.bmp").unlink()
    with pytest.raises(keras_arch.InputError, match="7 train images instead of 8"):
        start_run(partial, recipe, precision, None, keras_arch.load_dataset(folder))
    rename_a_class(folder)
    with pytest.raises(keras_arch.InputError, match="class 1 is 'c' instead of 'b'"):
        start_run(partial, recipe, precision, None, keras_arch.load_dataset(folder))


RIGHT = {"images": 8, "top1": 1.0, "balanced_accuracy": 1.0}
METRICS = {"best_epoch": 1, "training_seconds": 1.0, "validation": RIGHT, "test": RIGHT}


@pytest.mark.parametrize("change", [rename_a_class, replace_all_pictures])
def test_export_with_other_data_raises(change, started):
    folder, partial = started
    run = json.loads((partial / "run.json").read_text())
    (partial / "run.json").write_text(json.dumps({**run, "metrics": METRICS}))
    keras_arch.ResNet8(input_shape=(8, 8, 3), classes=2).save(partial / "model.keras")
    assert open_run(partial, ExportSettings())[2].fingerprint == run["data_fingerprint"]
    change(folder)
    with pytest.raises(
        keras_arch.InputError,
        match=r"was trained on other data\. Received: (class 1 is 'c'|pictures with the same number)",
    ):
        open_run(partial, ExportSettings())


def test_evaluation_on_changed_data_gets_a_warning(started):
    folder, partial = started
    artifacts = [
        types.SimpleNamespace(path=partial / name)
        for name in ("model.keras", "export/model_int8.tflite")
    ]
    warn_of_changes(artifacts, str(folder), keras_arch.load_dataset(folder))
    replace_all_pictures(folder)
    warn_of_changes(artifacts, "another folder", keras_arch.load_dataset(folder))
    with pytest.warns(
        DataWarning,
        match=r"run.partial was trained on other data. Received: pictures with .* other contents",
    ) as warned:
        warn_of_changes(artifacts, str(folder), keras_arch.load_dataset(folder))
    assert len(warned) == 1


def test_two_processes_cannot_write_one_directory(tmp_path):
    """A lock through another open file acts like that of another process."""
    with files.atomic_folder(tmp_path / "run", "run.json") as partial:
        (partial / "model.keras").touch()
        with (
            pytest.raises(keras_arch.InputError, match="another process is writing"),
            files.atomic_folder(tmp_path / "run", "run.json"),
        ):
            pass
        assert (partial / "model.keras").exists()
    assert (tmp_path / "run" / "model.keras").exists()


@pytest.mark.skipif(os.name != "posix", reason="limits of processes are POSIX's")
def test_full_disk_is_a_one_line_error(script, digits, tmp_path, data_dir, capfd):
    """With a limit of 200 kB per file, the first checkpoint is too large."""
    command = ("train.py", *COMMAND[1:], "--output", tmp_path / "run", "--data-dir", data_dir)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        assert script(*command) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "File too large" in line
