"""Requirements on every registered architecture, tested with small images."""

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import write_tflite
from kinds import KINDS

import keras_arch

SHAPE = (32, 32, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype("float32")

# `make slowtest` converts them. tests/export converts resnet20v2.
SLOW_TO_CONVERT = {"googlenet", "plain20", "resnet18", "resnet20v2", "resnet50", "resnet50v2"}
QUICK_TO_CONVERT = [name for name in KINDS if name not in SLOW_TO_CONVERT]
# Names of layers end in their role.
ROLES = {
    keras.layers.ZeroPadding2D: "_pad",
    keras.layers.BatchNormalization: "_bn",
    keras.layers.ReLU: ("_relu", "_out"),
    keras.layers.Add: "_add",
    keras.layers.Concatenate: "_concat",
}


@functools.cache
def small(name):
    return keras_arch.build(name, input_shape=SHAPE, classes=10)


@pytest.fixture(
    scope="module",
    params=[
        name if name in KINDS else pytest.param(name, marks=pytest.mark.slow)
        for name in keras_arch.available()
    ],
)
def model(request):
    """Return every registered model for small images."""
    return small(request.param)


def test_outputs_are_probabilities(model):
    assert model.input_shape == (None, *SHAPE)
    probabilities = model(IMAGES).numpy()
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


def test_every_variable_gets_a_gradient(model):
    targets = keras.ops.one_hot([3, 7], 10)
    with tf.GradientTape() as tape:
        loss = keras.losses.CategoricalCrossentropy()(targets, model(IMAGES, training=True))
    variables = model.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path


def test_layer_names_are_systematic(model):
    """They are stage, block and role, such as stage2_block1_conv1_bn, and never Keras' own."""
    names = [layer.name for layer in model.layers]
    assert [*names[:2], names[-1]] == ["image", "normalize", "predictions"]
    assert [name for name in names if not re.fullmatch("[a-z]+[0-9]*(_[a-z0-9]+)*", name)] == []
    for layer in model.layers:
        assert layer.name.endswith(ROLES.get(type(layer), "")), layer.name
        assert layer.name == "dropout" or not is_automatic(layer), layer.name
    for row in keras_arch.cost(model).layers:
        assert row.parameters == 0 or row.stage != row.name or row.name == "predictions", row.name


def is_automatic(layer):
    """Return whether Keras named a layer after its class: conv2d, conv2d_1, ..."""
    unnamed = type(layer).from_config({**layer.get_config(), "name": None})
    return re.sub(r"_\d+$", "", unnamed.name) == re.sub(r"_\d+$", "", layer.name)


def modules_of(config):
    """Return the modules of all objects in the configuration of a model."""
    if isinstance(config, dict):
        own = {config["module"]} if "module" in config else set()
        return own.union(*map(modules_of, config.values()))
    return set().union(*map(modules_of, config)) if isinstance(config, list) else set()


def test_all_objects_in_a_file_are_of_keras(model):
    """So `keras.models.load_model` opens the file without keras_arch."""
    text = model.to_json()
    assert "__lambda__" not in text
    modules = modules_of(json.loads(text))
    assert "keras.layers" in modules
    assert {module for module in modules if not f"{module}.".startswith("keras.")} == set()


OPEN = """
import sys, pathlib, keras, numpy as np
folder, *names = sys.argv[1:]
images = np.load(folder + "/images.npy")
for path in [pathlib.Path(folder) / (name + ".keras") for name in names]:
    output = path.with_suffix("." + keras.backend.backend() + ".npy")
    np.save(output, keras.models.load_model(path)(images))
assert "keras_arch" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
@pytest.mark.parametrize(
    "names",
    [
        ["resnet8"],
        keras_arch.available(),
    ],
    ids=["small", "all"],
)
def test_files_open_with_keras_alone(tmp_path, backend, names):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install {backend}")
    np.save(tmp_path / "images.npy", IMAGES)
    predictions = {}
    for name in names:
        model = small(name)
        model.save(tmp_path / f"{name}.keras")
        predictions[name] = model(IMAGES).numpy()
    environment = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run(
        [sys.executable, "-c", OPEN, tmp_path, *names], check=True, cwd=tmp_path, env=environment
    )
    for name, expected in predictions.items():
        found = np.load(tmp_path / f"{name}.{backend}.npy")
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK_TO_CONVERT else pytest.param(name, marks=pytest.mark.slow)
        for name in keras_arch.available()
    ],
)
def test_converts_to_built_in_operators(name, tmp_path):
    """The converter refuses other operators. LiteRT reproduces the Keras model's probabilities."""
    slim = {"width": 0.25} if name == "googlenet" else {}  # faster
    model = keras_arch.build(name, input_shape=SHAPE, classes=10, **slim)
    write_tflite(model, tmp_path / "model.tflite")
    found = keras_arch.open_artifact(tmp_path / "model.tflite").predict(IMAGES)
    np.testing.assert_allclose(found, model(IMAGES).numpy(), atol=1e-4)
