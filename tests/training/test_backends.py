"""Training on JAX and PyTorch: same results as on TensorFlow, and resumed runs are bit-identical.

JAX also trains on two virtual devices.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import keras
import numpy as np
import pytest
import test_resume
from conftest import ROOT
from sklearn.datasets import load_digits

import keras_arch
from keras_arch.data.splits import InMemory
from keras_arch.training.devices import find_devices

TWO_DEVICES = "jax on two devices"
BASE = keras_arch.Recipe(
    "resnet8", "digits", epochs=2, learning_rate=0.01, batch_size=16, precision="float32"
)
EXACT = {
    "plain": {},
    "ema": {"ema": 0.9},
    "class weights": {"class_weights": "balanced"},
    "clip norm": {"clip_norm": 0.1},
    "accumulate": {"accumulate": 2, "batch_size": 8, "ema": 0.9, "clip_norm": 0.1},
    "mixup": {"augment": "mixup"},
    "adamw": {"optimizer": "adamw", "learning_rate": 1e-3},
    "lamb": {"optimizer": "lamb"},
    "onecycle": {"schedule": "onecycle", "warmup_epochs": 1},
    "freeze": {"freeze": "backbone"},
    "two phases": {"freeze": "backbone", "freeze_epochs": 1, "ema": 0.9},
    "label smoothing": {"label_smoothing": 0.1},
    "early size": {"early_size": 6, "early_epochs": 1},
    "auxiliary heads": {"auxiliary_heads": True, "class_weights": "balanced"},
    "teacher": {"teacher": "two_heads", "temperature": 2, "teacher_weight": 0.8},
    "teacher of two heads": {
        **{"teacher": "two_heads", "temperature": 2, "teacher_weight": 0.8},
        **{"auxiliary_heads": True, "class_weights": "balanced", "ema": 0.9},
    },
}
# A step of each option, which rounding errors change by less than 1e-5.
ONE_STEP = {name: change | {"epochs": 1, "batch_size": 64} for name, change in EXACT.items()} | {
    "accumulate": EXACT["accumulate"] | {"epochs": 1, "batch_size": 32},
    # The first step of LAMB is a sign. For small gradients, rounding errors change it.
    "lamb": {"optimizer": "lamb", "learning_rate": 1e-3, "epochs": 1, "batch_size": 64},
    "two phases": EXACT["two phases"] | {"batch_size": 64, "fine_tuning_rate": 0.02},
    "early size": EXACT["early size"] | {"batch_size": 64},
    "step": {"schedule": "step", "warmup_epochs": 0, "epochs": 1, "batch_size": 64},
    "constant": {"schedule": "constant", "weight_decay": 0, "epochs": 1, "batch_size": 64},
    "class=weight": {"class_weights": ("3=5", "4=0.5"), "epochs": 1, "batch_size": 64},
    "cutmix": {"augment": "cutmix", "patience": 1, "epochs": 1, "batch_size": 64},
}
ROUNDED = {
    "mixed_bfloat16": {"precision": "mixed_bfloat16"},
    "mixed_float16": {"precision": "mixed_float16"},  # with loss scaling
}
# A rounding error can move a value to the next level of int8.
SIMULATED = {
    "int8": {
        **{"quantize_aware": "int8", "quantize_epochs": 1, "quantize_rate": 1e-3, "epochs": 4},
        "schedule": "constant",
    },
}


def few_digits():
    """Return 64 images for training and 16 for validation, without TFDS."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    # Two devices do not divide 15 images.
    train, validation = InMemory(images[:64], labels[:64]), InMemory(images[64:79], labels[64:79])
    names = tuple("0123456789")
    return keras_arch.Dataset("digits", train, validation, validation, names, (8, 8, 1))


def with_auxiliary_head():
    """Build a small network with the main head and one auxiliary classifier of GoogLeNet."""
    image = keras.Input((8, 8, 1), name="image")
    x, heads = keras.layers.Rescaling(1 / 255)(image), []
    for name in ("auxiliary_4a", "predictions"):
        x = keras.layers.Conv2D(8, 3, name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        pooled = keras.layers.GlobalAveragePooling2D()(x)
        heads.append(keras.layers.Dense(10, activation="softmax", name=name)(pooled))
    return keras.Model(image, heads[::-1])


def with_dropout():
    """Build a small network whose dropout has a seed."""
    x = image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(8, 3, name="conv")(x)
    x = keras.layers.Dropout(0.5, seed=1)(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))


def train_all(folder, changes, place, steps=""):
    """Train each option from the weights in `folder`, and write history.json and weights.npz.

    The files are in the directory `place`, with the words `steps` in front of the option.
    """
    for name, change in changes.items():
        file = "two_heads" if change.get("auxiliary_heads") else "resnet8"
        model = keras.models.load_model(folder / f"{file}.keras")
        run = folder / place / f"{steps}{name}"
        run.mkdir(parents=True)
        recipe = dataclasses.replace(BASE, **change)
        teacher = recipe.teacher and keras.models.load_model(folder / f"{recipe.teacher}.keras")
        options = {"tensorboard": name == "plain", "teacher": teacher}
        history = keras_arch.fit(model, few_digits(), recipe, run, **options)
        (run / "history.json").write_text(json.dumps(history))
        np.savez(run / "weights.npz", *model.get_weights())


def train_in_a_process(folder, place):
    """Train all options. Then resume a run and assert that it is bit-identical to one run."""
    if place == TWO_DEVICES:
        compare_dropout(folder)
        keras.distribution.set_distribution(find_devices("2").distribution)
    train_all(folder, ONE_STEP, place, "one step: ")
    train_all(folder, EXACT | ROUNDED | SIMULATED, place)
    resumed = folder / place / "resumed"
    resumed.mkdir()
    test_resume.test_resumed_state_is_bit_identical(few_digits(), resumed, pytest.MonkeyPatch())


def compare_dropout(folder):
    """Assert that two devices drop the same activations as one. Other backends drop others."""
    weights = []
    for scope in (find_devices("1").scope, find_devices("2").scope):
        keras.utils.set_random_seed(0)
        model = with_dropout()
        with scope:
            history = keras_arch.fit(
                *(model, few_digits(), BASE, folder / "dropout" / str(len(weights))),
                metrics=[keras.metrics.TopKCategoricalAccuracy(2, name="top2")],
            )
        weights.append([*model.get_weights(), np.array(history["val_top2"])])
    for found, wanted in zip(*weights, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    """Train all options without rounding on TensorFlow; return the directory."""
    folder = tmp_path_factory.mktemp("backends")
    keras.utils.set_random_seed(0)
    keras_arch.ResNet8(input_shape=(8, 8, 1), classes=10).save(folder / "resnet8.keras")
    with_auxiliary_head().save(folder / "two_heads.keras")
    train_all(folder, ONE_STEP, "tensorflow", "one step: ")
    train_all(folder, EXACT | SIMULATED, "tensorflow")
    return folder


@pytest.fixture(scope="module", params=["jax", TWO_DEVICES, "torch"])
def backend(request, on_tensorflow):
    """Train all options on another backend in one process; return its name."""
    name = request.param.split()[0]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install {name}")
    code = (
        "import pathlib, sys, test_backends as t;"
        "t.train_in_a_process(pathlib.Path(sys.argv[1]), sys.argv[2])"
    )
    paths = (ROOT, ROOT / "tests", Path(__file__).parent)
    environment = {
        **os.environ,
        "KERAS_BACKEND": name,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    if request.param == TWO_DEVICES:
        environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", code, on_tensorflow, request.param],
        env=environment,
        capture_output=True,
        text=True,
    )
    return request.param, done


def read_run(folder):
    with np.load(folder / "weights.npz") as file:
        weights = [file[name] for name in file.files]
    return json.loads((folder / "history.json").read_text()), weights


def assert_equal_to_tensorflow(folder, name, options, tolerance):
    for option in options:
        history, weights = read_run(folder / name / option)
        expected, expected_weights = read_run(folder / "tensorflow" / option)
        assert history.keys() == expected.keys()
        for column in history.keys() - {"seconds"}:
            np.testing.assert_allclose(history[column], expected[column], rtol=1e-4, err_msg=option)
        for found, wanted in zip(weights, expected_weights, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance, err_msg=option)


@pytest.mark.slow
def test_training_equals_that_on_tensorflow(on_tensorflow, backend):
    name, done = backend
    assert (on_tensorflow / name).exists(), done.stderr
    assert_equal_to_tensorflow(on_tensorflow, name, EXACT, 1e-4)
    assert list((on_tensorflow / name / "plain" / "tensorboard").rglob("events*"))


@pytest.mark.slow
def test_a_step_equals_that_on_tensorflow(on_tensorflow, backend):
    name, done = backend
    assert (on_tensorflow / name).exists(), done.stderr
    steps = [f"one step: {option}" for option in ONE_STEP]
    assert_equal_to_tensorflow(on_tensorflow, name, steps, 1e-5)


@pytest.mark.slow
def test_simulated_int8_is_close_to_that_on_tensorflow(on_tensorflow, backend):
    name, done = backend
    assert (on_tensorflow / name).exists(), done.stderr
    for option in SIMULATED:
        expected, _ = read_run(on_tensorflow / "tensorflow" / option)
        history, _ = read_run(on_tensorflow / name / option)
        assert len(history["loss"]) == 4
        for column in ("loss", "val_loss"):
            np.testing.assert_allclose(history[column], expected[column], rtol=0.02)


def test_all_options_of_the_training_are_compared():
    changes = [*ONE_STEP.values(), *ROUNDED.values(), *SIMULATED.values()]
    hints = typing.get_type_hints(keras_arch.Recipe)
    for option in ("optimizer", "schedule", "precision", "freeze"):
        compared = {change.get(option, getattr(BASE, option)) for change in changes}
        assert compared == set(typing.get_args(hints[option])) - {"auto"}, option
    elsewhere = {  # data, network, and what test_devices.py or test_extend.py compares
        *("model", "dataset", "image_size", "stem", "width", "kernel_5x5", "model_options"),
        *("weights", "skip_unreadable", "allow_duplicates", "callback", "seed", "learning_rate"),
    }
    changed = {option for change in changes for option in change}
    assert changed >= {field.name for field in dataclasses.fields(BASE)} - elsewhere - {"optimizer"}


@pytest.mark.slow
def test_mixed_precision_is_close_to_float32(on_tensorflow, backend):
    name, _ = backend
    exact, _ = read_run(on_tensorflow / "tensorflow" / "plain")
    for option in ROUNDED:
        history, weights = read_run(on_tensorflow / name / option)
        assert history["loss"] != exact["loss"]
        np.testing.assert_allclose(history["loss"], exact["loss"], rtol=0.02)
        assert {array.dtype.name for array in weights} == {"float32"}


@pytest.mark.slow
def test_resumed_run_is_bit_identical(backend):
    _, done = backend
    assert done.returncode == 0, done.stderr
