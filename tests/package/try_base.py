"""Try the installed base package: python -I try_base.py [ARCHITECTURE...].

Keras runs on the backend of KERAS_BACKEND, jax or torch. An import of a module that only an extra
installs fails, as in an environment without it. `make package` runs all architectures in new
environments.
"""

import importlib.abc
import os
import sys
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

from keras_arch import extras
from keras_arch.extras import EXTRAS

BACKEND = os.environ["KERAS_BACKEND"]
OTHERS = {module for modules in EXTRAS.values() for module in modules} - {BACKEND}
if BACKEND == "jax":  # jax needs SciPy
    OTHERS -= {"scipy"}
# PyTorch looks for modules such as TensorFlow, and expects no exception if they are missing.
HIDDEN = set(filter(find_spec, OTHERS))


class Hide(importlib.abc.MetaPathFinder):
    """Raise ModuleNotFoundError for the modules of the extras."""

    def find_spec(self, name, path=None, target=None):
        if name in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Hide())  # before Keras is imported, which imports an installed TensorFlow
# It searches without an import, and a module that is not installed raises no exception there.
extras.find_spec = lambda name: None if name in HIDDEN else find_spec(name)

import keras  # noqa: E402
import numpy as np  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

import keras_arch  # noqa: E402

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")


def predict(model):
    return keras.ops.convert_to_numpy(model(IMAGES))


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def try_builder(name, folder):
    """Build, predict, count, save, open and load the weights of one architecture."""
    options = {"input_shape": (32, 32, 3), "classes": 10}
    model = keras_arch.build(name, **options)
    expected = predict(model)
    assert expected.shape == (2, 10)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    assert keras_arch.cost(model).multiply_adds > 0
    path = folder / f"{name}.keras"
    model.save(path)
    same(predict(keras.models.load_model(path)), expected)
    same(keras_arch.open_artifact(path).predict(IMAGES), expected)
    model.save_weights(folder / f"{name}.weights.h5")
    same(
        predict(keras_arch.build(name, weights=folder / f"{name}.weights.h5", **options)), expected
    )
    other = keras_arch.build(name, **options)
    keras_arch.transfer_weights(other, path, name)
    same(predict(other), expected)


def try_safetensors(folder):
    """Load a .safetensors file with PyTorch's names into a network with projections."""
    from keras_arch.weights.torchvision import torchvision_name

    options = {"input_shape": (32, 32, 3), "classes": 10, "shortcut": "projection"}
    model = keras_arch.ResNet8(**options)
    tensors = {}
    for variable in model.variables:
        layer, kind = variable.path.rsplit("/", 1)
        value = keras.ops.convert_to_numpy(variable.value)
        value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        tensors[torchvision_name(layer, kind)] = np.ascontiguousarray(value)
    save_file(tensors, folder / "resnet8.safetensors")
    other = keras_arch.ResNet8(weights=folder / "resnet8.safetensors", **options)
    same(predict(other), predict(model))


def try_missing(folder):
    """Each function that needs an extra names it in one line."""
    (folder / "model.tflite").write_bytes(b"TFL3")
    (folder / "model.onnx").write_bytes(b"")
    for use, extra in {
        lambda: keras_arch.load_dataset("digits"): "train",
        lambda: keras_arch.fit: "train",
        lambda: keras_arch.evaluate: "train",
        lambda: keras_arch.export_model: "export",
        lambda: keras_arch.open_artifact(folder / "model.tflite"): "predict",
        lambda: keras_arch.open_artifact(folder / "model.onnx"): "onnx",
        lambda: keras_arch.ResNet18(weights="hf://timm/resnet18.a1_in1k"): "hub",
    }.items():
        message = ""
        try:
            use()
        except keras_arch.InputError as error:
            message = str(error)
        assert f'pip install "keras_arch[{extra}]"' in message, message
        assert len(message) < 290


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    assert keras.backend.backend() == BACKEND
    with tempfile.TemporaryDirectory() as directory:
        for architecture in sys.argv[1:] or keras_arch.available():
            try_builder(architecture, Path(directory))
        try_safetensors(Path(directory))
        try_missing(Path(directory))
    assert not OTHERS & set(sys.modules)
    print(f"keras_arch {keras_arch.__version__} from {keras_arch.__path__[0]} on {BACKEND}: passed")
