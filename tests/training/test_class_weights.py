"""Class weights by name: --class-weights cat=2 dog=0.5."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_arch
from keras_arch.cli import parse
from keras_arch.data.dataset import Dataset
from keras_arch.data.splits import InMemory
from keras_arch.runs.record import read_run

RECIPE = keras_arch.Recipe("dense", "noise", epochs=1, learning_rate=0.1, batch_size=12)
NAMES = ("cat", "a=b", "big dog")
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype("uint8")
LABELS = np.arange(12) % 3
TRAIN = InMemory(IMAGES, LABELS)
DATA = Dataset("noise", TRAIN, TRAIN, TRAIN, NAMES, (4, 4, 1))


def network():
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 1), name="image")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    return keras.Model(image, keras.layers.Dense(3, "softmax", name="predictions")(flat))


def test_the_loss_has_the_named_weights(tmp_path):
    """Compare the loss of the first step with NumPy. The unnamed class has weight 1."""
    model, recipe = (
        network(),
        dataclasses.replace(RECIPE, precision="float32", class_weights=("big dog=2.5", "a=b=0.25")),
    )
    probabilities = np.asarray(model(IMAGES))
    weights = np.array([1, 0.25, 2.5])[LABELS]
    expected = np.mean(weights * -np.log(probabilities[np.arange(12), LABELS]))
    history = keras_arch.fit(model, DATA, recipe, tmp_path)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert "val_balanced_accuracy" in history


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "none"),
        (["--class-weights", "none"], "none"),
        (["--class-weights", "balanced"], "balanced"),
        (["--class-weights", "cat=2", "big dog=.5"], ("cat=2", "big dog=.5")),
        (["--class-weights", "a=b=1e-3", "--epochs", "3"], ("a=b=1e-3",)),
    ],
)
def test_the_command_line_takes_words_and_names(words, expected):
    assert parse(keras_arch.Recipe, words, default=RECIPE).class_weights == expected


def test_names_may_have_spaces_and_equals_signs():
    recipe = dataclasses.replace(RECIPE, class_weights=("cat=2", "big dog=.5", "a=b=1e-3"))
    assert recipe.named_class_weights == {"cat": 2, "big dog": 0.5, "a=b": 0.001}
    assert dataclasses.replace(RECIPE, class_weights="balanced").named_class_weights == {}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("balance", "must be one of none, balanced.*Did you mean balanced"),
        (("balance",), "none, balanced or CLASS=WEIGHT in --class-weights.*mean balanced"),
        ({"cat": 2.0}, r"a tuple of texts CLASS=WEIGHT\. Received: class_weights=\{'cat': 2.0\}"),
        (
            "cat=2",
            r"a tuple of texts CLASS=WEIGHT\. Received: class_weights='cat=2'\. Pass \('cat=2",
        ),
        (None, "a tuple of texts CLASS=WEIGHT"),
        ((), "`class_weights` must be none, balanced or pairs"),
        (("cat=2", "balanced"), "pairs of the form NAME=VALUE"),
        (("=2",), "pairs of the form NAME=VALUE"),
        (("cat=",), "pairs of the form NAME=VALUE"),
        (("cat=2", "cat=3"), "each name once"),
        (("cat=two",), r"`class_weights\[cat\]` must be a finite number"),
        (("cat=1e999",), r"`class_weights\[cat\]` must be a finite number"),
        (("cat=true",), r"`class_weights\[cat\]` must be a finite number"),
        (("cat=0",), r"`class_weights\[cat\]` must be a number from 1e-06 to 1000000.0"),
        (("cat=-1",), r"`class_weights\[cat\]` must be a number from 1e-06 to 1000000.0"),
    ],
)
def test_invalid_weights_raise(weights, message):
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        dataclasses.replace(RECIPE, class_weights=weights)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("weights", ["none", "balanced", ("cat=2", "a=b=3")])
def test_run_json_keeps_the_weights(weights, tmp_path):
    """Runs of earlier versions have "none" or "balanced" as text."""
    recipe = dataclasses.replace(RECIPE, class_weights=weights)
    run = {"recipe": dataclasses.asdict(recipe), "data_dir": None, "precision": "", "images": {}}
    (tmp_path / "run.json").write_text(json.dumps(run))
    written = json.loads((tmp_path / "run.json").read_text())["recipe"]["class_weights"]
    assert written == (weights if isinstance(weights, str) else list(weights))
    assert read_run(tmp_path)["recipe"] == recipe


def test_an_unknown_class_is_one_line_before_training(script, tmp_path, data_dir, capfd):
    common = ("--output", tmp_path / "run", "--data-dir", data_dir)
    assert script("train.py", "quickstart", "--class-weights", "3=2", "seven=2", *common) == 2
    printed = capfd.readouterr()
    (line,) = printed.err.splitlines()
    assert (
        "Expected a class of digits in class_weights (--class-weights). Received: 'seven'. Use one of 0"
        in line
    )
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(keras_arch.InputError, match=r"Received: 'cats'\. Did you mean cat"):
        keras_arch.fit(
            network(), DATA, dataclasses.replace(RECIPE, class_weights=("cats=2",)), tmp_path
        )
