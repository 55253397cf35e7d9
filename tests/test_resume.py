"""A run that was killed goes on as if it had not been: real kills of a real process, and every bit compared."""

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
from conftest import ROOT

import keras_arch
from keras_arch import files
from keras_arch.data.splits import InMemory
from keras_arch.training import callbacks

COMMAND = [ROOT / "scripts" / "train.py", "quickstart", "--epochs", "5", "--ema", "0.99"]


class Killed(BaseException):
    """Nothing of ours catches it."""


def test_state_is_the_same_to_the_bit(digits, tmp_path, monkeypatch):
    """Weights, what the optimizer keeps, averages, dropout's random state and history, with all that has a state on."""
    data = dataclasses.replace(digits, train=InMemory(digits.train.images[:128], digits.train.labels[:128]))
    recipe = keras_arch.Recipe(
        *("nin", "digits"),
        epochs=4,
        learning_rate=1e-3,
        batch_size=32,
        optimizer="adamw",
        ema=0.9,
        augment="mixup",
        class_weights="balanced",
    )

    def train(folder, resume=False):
        keras.utils.set_random_seed(3 if resume else 0)  # what was drawn before the kill does not matter
        model = keras_arch.NetworkInNetwork(input_shape=(8, 8, 1))
        folder.mkdir(exist_ok=True)
        keras_arch.fit(model, data, recipe, folder, resume)
        return model

    def die_within_the_third_epoch(callback, batch, logs=None):
        if callback.model.optimizer.iterations == 2 * 4 + 2:
            raise Killed

    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(callbacks.Averages, "on_train_batch_end", die_within_the_third_epoch)
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
        assert len(history.pop("seconds")) == 4
    assert histories[0] == histories[1]


def test_damaged_and_foreign_checkpoints_are_refused(digits, tmp_path):
    recipe = dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=1)
    keras_arch.fit(keras_arch.ResNet8(input_shape=(8, 8, 1)), digits, recipe, tmp_path)
    with pytest.raises(keras_arch.InputError, match="expected the checkpoint of this network and optimizer"):
        keras_arch.fit(keras_arch.Plain20(input_shape=(8, 8, 1)), digits, recipe, tmp_path, resume=True)
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(keras_arch.InputError, match="expected a whole checkpoint"):
        keras_arch.fit(keras_arch.ResNet8(input_shape=(8, 8, 1)), digits, recipe, tmp_path, resume=True)


def result(folder):
    """What must be the same: the hash of the weights, the metrics and the history, without the times."""
    metrics = json.loads((folder / "run.json").read_text())["metrics"]
    del metrics["training_seconds"]
    with (folder / "history.csv").open() as file:
        return metrics, [{**row, "seconds": None} for row in csv.DictReader(file)]


def run(folder, data_dir, *options, until=None):
    """Run the command; kill it the moment that `until(its folder of work)` holds."""
    partial = folder.with_name(folder.name + ".partial")
    command = [sys.executable, *COMMAND, "--output", folder, "--data-dir", data_dir, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while until and process.poll() is None:
        if until(partial):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.0005)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == (-signal.SIGKILL if until else 0), output
    return output


def epochs_in(partial):
    try:
        return len((partial / "history.csv").read_text().splitlines()) - 1
    except OSError:
        return 0


def is_trained(partial):
    """Whether the state behind the last epoch is written, which comes after the history."""
    history, checkpoint = partial / "history.csv", partial / "checkpoint.npz"
    return epochs_in(partial) == 5 and checkpoint.stat().st_mtime_ns > history.stat().st_mtime_ns


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(script, tmp_path, data_dir):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert script("train.py", *COMMAND[1:], "--output", whole, "--data-dir", data_dir) == 0
    moments = [
        # While a file takes the place of one before.
        lambda partial: epochs_in(partial) >= 1 and (partial / "partial-model.keras").exists(),
        lambda partial: epochs_in(partial) >= 2 and (partial / "partial-checkpoint.npz").exists(),
        is_trained,  # while the test split is evaluated
    ]
    for number, moment in enumerate(moments):
        run(killed, data_dir, *(["--resume"] if number else []), until=moment)
        assert not killed.exists()
    output = run(killed, data_dir, "--resume")
    assert result(killed) == result(whole)
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in whole.iterdir())
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("whole", "killed")] == []
    assert "Everything about the run is in" in output


def test_resume_wants_the_same_recipe(script, tmp_path, data_dir, capfd):
    arguments = ("train.py", "quickstart", "--output", tmp_path / "run", "--data-dir", data_dir)
    partial = tmp_path / "run.partial"
    partial.mkdir()
    recipe = dataclasses.asdict(keras_arch.RECIPES["quickstart"])
    (partial / "run.json").write_text(json.dumps({"recipe": recipe, "precision": "int4", "images": {}}))
    (partial / "checkpoint.npz").touch()
    assert script(*arguments, "--resume") == 2
    assert "was begun with: precision int4 and not" in capfd.readouterr().err
    assert script(*arguments, "--resume", "--learning-rate", "0.3") == 2
    assert "expected the options that" in capfd.readouterr().err
    assert script(*arguments) == 2
    assert "--resume would go on with it" in capfd.readouterr().err
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"recipe": recipe}))
    assert script(*arguments, "--resume") == 2
    assert "--overwrite would replace it" in capfd.readouterr().err
    assert (partial / "checkpoint.npz").exists()


def test_two_processes_do_not_share_a_folder(tmp_path):
    """A lock of another open file is as one of another process."""
    with files.whole_folder(tmp_path / "run", "run.json") as partial:
        (partial / "model.keras").touch()
        with (
            pytest.raises(keras_arch.InputError, match="another process is writing"),
            files.whole_folder(tmp_path / "run", "run.json"),
        ):
            pass
        assert (partial / "model.keras").exists()
    assert (tmp_path / "run" / "model.keras").exists()


@pytest.mark.skipif(os.name != "posix", reason="limits of processes are POSIX's")
def test_a_full_disk_is_one_line(tmp_path, data_dir):
    """No file may be larger than 200 kB: the first checkpoint is."""
    command = " ".join(map(str, [sys.executable, *COMMAND, "--output", tmp_path / "run", "--data-dir", data_dir]))
    process = subprocess.run(["bash", "-c", f"ulimit -f 200; exec {command}"], capture_output=True, text=True)
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1
    assert process.stderr.startswith("error: ")
    assert "File too large" in process.stderr
