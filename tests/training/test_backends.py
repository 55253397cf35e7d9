"""Training on JAX and PyTorch: same results as on TensorFlow, and resumed runs are bit-identical."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import test_resume
from conftest import ROOT
from sklearn.datasets import load_digits

import keras_arch
from keras_arch.data.splits import InMemory

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
    "auxiliary heads": {"auxiliary_heads": True, "class_weights": "balanced"},
}
ROUNDED = {
    "mixed_bfloat16": {"precision": "mixed_bfloat16"},
    "mixed_float16": {"precision": "mixed_float16"},  # with loss scaling
}


def few_digits():
    """Return 64 images for training and 16 for validation, without TFDS."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) * (255 / 16)).astype("uint8")
    train, validation = InMemory(images[:64], labels[:64]), InMemory(images[64:80], labels[64:80])
    names = tuple("0123456789")
    return keras_arch.Dataset("digits", train, validation, validation, names, (8, 8, 1))


def with_auxiliary_head():
    """Build a small network with the main head and one auxiliary classifier of GoogLeNet."""
    x = image = keras.Input((8, 8, 1), name="image")
    heads = []
    for name in ("auxiliary_4a", "predictions"):
        x = keras.layers.Conv2D(8, 3, name=f"{name}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
        pooled = keras.layers.GlobalAveragePooling2D()(x)
        heads.append(keras.layers.Dense(10, activation="softmax", name=name)(pooled))
    return keras.Model(image, heads[::-1])


def train_all(folder, changes):
    """Train each option from the weights in `folder`, and write history.json and weights.npz."""
    for name, change in changes.items():
        file = "two_heads" if change.get("auxiliary_heads") else "resnet8"
        model = keras.models.load_model(folder / f"{file}.keras")
        run = folder / keras.backend.backend() / name
        run.mkdir(parents=True)
        recipe = dataclasses.replace(BASE, **change)
        history = keras_arch.fit(model, few_digits(), recipe, run, tensorboard=name == "plain")
        (run / "history.json").write_text(json.dumps(history))
        np.savez(run / "weights.npz", *model.get_weights())


def train_in_a_process(folder):
    """Train all options. Then resume a run and assert that it is bit-identical to one run."""
    train_all(folder, EXACT | ROUNDED)
    resumed = folder / keras.backend.backend() / "resumed"
    resumed.mkdir()
    test_resume.test_resumed_state_is_bit_identical(few_digits(), resumed, pytest.MonkeyPatch())


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    """Train all options without rounding on TensorFlow; return the directory."""
    folder = tmp_path_factory.mktemp("backends")
    keras.utils.set_random_seed(0)
    keras_arch.ResNet8(input_shape=(8, 8, 1), classes=10).save(folder / "resnet8.keras")
    with_auxiliary_head().save(folder / "two_heads.keras")
    train_all(folder, EXACT)
    return folder


@pytest.fixture(scope="module", params=["jax", "torch"])
def backend(request, on_tensorflow):
    """Train all options on another backend in one process; return its name."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed: pip install {request.param}")
    code = (
        "import pathlib, sys, test_backends as t; t.train_in_a_process(pathlib.Path(sys.argv[1]))"
    )
    paths = (ROOT, ROOT / "tests", Path(__file__).parent)
    environment = {
        **os.environ,
        "KERAS_BACKEND": request.param,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, on_tensorflow], env=environment, capture_output=True, text=True
    )
    return request.param, done


def read_run(folder):
    with np.load(folder / "weights.npz") as file:
        weights = [file[name] for name in file.files]
    return json.loads((folder / "history.json").read_text()), weights


@pytest.mark.slow
def test_training_equals_that_on_tensorflow(on_tensorflow, backend):
    name, done = backend
    assert (on_tensorflow / name).exists(), done.stderr
    for option in EXACT:
        history, weights = read_run(on_tensorflow / name / option)
        expected, expected_weights = read_run(on_tensorflow / "tensorflow" / option)
        assert history.keys() == expected.keys()
        for column in history.keys() - {"seconds"}:
            np.testing.assert_allclose(history[column], expected[column], rtol=1e-4, err_msg=option)
        for found, wanted in zip(weights, expected_weights, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4, err_msg=option)
    assert list((on_tensorflow / name / "plain" / "tensorboard").rglob("events*"))


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
