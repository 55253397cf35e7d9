"""Training: schedules by hand, the best epoch kept, plain files, NaN and Ctrl-C."""

import dataclasses
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import ROOT

import keras_arch
from keras_arch import files
from keras_arch.data import Dataset
from keras_arch.data.splits import InMemory
from keras_arch.training import build_optimizer, build_schedule

RECIPE = keras_arch.Recipe("resnet8", "digits", epochs=10, learning_rate=0.5)


def rates(steps_in_epoch, **changes):
    schedule = build_schedule(dataclasses.replace(RECIPE, **changes), steps_in_epoch)
    return np.array([float(schedule(step)) for step in range(10 * steps_in_epoch)])


def test_cosine_schedule():
    found = rates(10, warmup_epochs=2)
    climb = 0.5 * np.arange(1, 21) / 20
    fall = 0.25 * (1 + np.cos(np.pi * np.arange(80) / 80))
    np.testing.assert_allclose(found, np.concatenate([climb, fall]), rtol=1e-5, atol=1e-7)


def test_step_schedule():
    found = rates(8, schedule="step", warmup_epochs=0)
    np.testing.assert_allclose(found[[0, 40, 41, 60, 61, 79]], [0.5, 0.5, 0.05, 0.05, 0.005, 0.005], rtol=1e-5)


def test_constant_schedule():
    np.testing.assert_allclose(rates(4, schedule="constant", warmup_epochs=0), 0.5)


def test_weight_decay_spares_biases_and_batch_norm():
    """A step of zero gradient shrinks kernels by learning rate times decay and leaves everything else."""
    model = keras_arch.ResNet8(input_shape=(8, 8, 1))
    recipe = dataclasses.replace(RECIPE, weight_decay=0.1, schedule="constant", warmup_epochs=0)
    optimizer = build_optimizer(recipe, 1)
    before = [variable.numpy() for variable in model.trainable_variables]
    optimizer.apply(
        [keras.ops.zeros_like(variable) for variable in model.trainable_variables], model.trainable_variables
    )
    shrunk = set()
    for variable, old in zip(model.trainable_variables, before, strict=True):
        factor = 1 - 0.5 * 0.1 if variable.name == "kernel" else 1
        np.testing.assert_allclose(variable.numpy(), factor * old, rtol=1e-5, atol=1e-8)
        shrunk.add((variable.name, factor < 1))
    assert shrunk == {("kernel", True), ("gamma", False), ("beta", False), ("bias", False)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs to be greater than 0, got 0"),
        ({"learning_rate": -1}, "learning_rate to be greater than 0"),
        ({"label_smoothing": 1}, "label_smoothing to be from 0 to below 1"),
        ({"warmup_epochs": -1}, "warmup_epochs to be 0 or greater"),
    ],
)
def test_recipes_refuse_nonsense(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)


@pytest.mark.parametrize(
    ("batch_size", "where"), [("32", "in epoch 1 at step"), ("1293", "in validation after epoch 1")]
)
def test_nan_stops_with_one_line_and_leaves_nothing(script, tmp_path, data_dir, capfd, batch_size, where):
    status = script(
        *("train.py", "quickstart", "--learning-rate", "1e30", "--warmup-epochs", "0", "--batch-size", batch_size),
        *("--epochs", "1", "--output", tmp_path / "run", "--data-dir", data_dir),
    )
    lines = capfd.readouterr().err.splitlines()
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: expected a finite loss, got ")
    assert where in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_the_test_split_is_not_touched(digits, tmp_path):
    blind = dataclasses.replace(digits, test=None)
    model = keras_arch.ResNet8(input_shape=(8, 8, 1))
    history = keras_arch.fit(model, blind, dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=2), tmp_path)
    assert len(history["val_loss"]) == 2
    assert history["learning_rate"][0] == pytest.approx(0.1)  # of the last step of the warm-up


def test_auxiliary_heads_learn_and_the_first_counts(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (16, 20, 20, 1)).astype("uint8")
    split = InMemory(images, np.arange(16) % 2)
    data = Dataset("x", split, split, split, ("a", "b"), (20, 20, 1))
    model = keras_arch.GoogLeNet(input_shape=(20, 20, 1), classes=2, stem="cifar", auxiliary_heads=True)
    recipe = keras_arch.Recipe("googlenet", "x", epochs=1, learning_rate=0.01, batch_size=8)
    history = keras_arch.fit(model, data, recipe, tmp_path)
    assert history["accuracy"] == history["predictions_accuracy"]
    heads = [history[f"{name}_loss"][0] for name in ("predictions", "auxiliary_4a", "auxiliary_4d")]
    assert history["loss"][0] == pytest.approx(heads[0] + 0.3 * heads[1] + 0.3 * heads[2], rel=1e-3)
    assert keras_arch.evaluate(keras_arch.open_artifact(tmp_path / "model.keras"), data)["images"] == 16


def test_whole_folder_keeps_what_was_there(tmp_path):
    folder = tmp_path / "run"
    for content in ("old", "new"):
        with files.whole_folder(folder, "run.json") as partial:
            (partial / "run.json").write_text(content)
    assert (folder / "run.json").read_text() == "new"
    with pytest.raises(OSError, match="disk full"), files.whole_folder(folder, "run.json") as partial:
        (partial / "model.keras").touch()
        raise OSError("disk full")
    assert (folder / "run.json").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "run.partial"]  # the checkpoint is kept
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with (
        pytest.raises(keras_arch.InputError, match="stays as it is"),
        files.whole_folder(tmp_path / "thesis", "run.json"),
    ):
        pass
    assert (tmp_path / "thesis" / "thesis.tex").exists()


def test_ctrl_c_keeps_the_checkpoint_and_the_old_run(tmp_path, data_dir):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text("precious")
    command = [sys.executable, ROOT / "scripts" / "train.py", "quickstart", "--epochs", "1000", "--overwrite"]
    process = subprocess.Popen(
        [*command, "--output", folder, "--data-dir", data_dir],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    for line in process.stdout:
        if line.startswith("  3/1000"):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    checkpoint = tmp_path / "run.partial" / "model.keras"
    assert process.returncode == 130
    assert errors.split() == f"stopped; the best checkpoint so far is kept in {checkpoint}".split()
    assert keras.models.load_model(checkpoint).output_shape == (None, 10)
    assert (folder / "run.json").read_text() == "precious"
