"""An ONNX file, by Keras's own exporter; it wants the extra `onnx`."""

import warnings
from importlib.util import find_spec

import keras

from ..errors import InputError


def check_installed():
    """Raise InputError where a package is not there that writing or running ONNX files takes."""
    missing = [package for package in ("tf2onnx", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise InputError(
            f"expected {' and '.join(missing)} for the format onnx, got none; pip install -e '.[onnx]' would work"
        )


def write_onnx(model, path):
    """Write `model`, from raw images (batch, height, width, channels), with the input `image` and one output."""
    image = keras.Input(model.input_shape[1:], name="image")
    named = keras.Model(image, {"probabilities": model(image)}, name=model.name)
    signature = [keras.InputSpec(shape=image.shape, dtype="float32", name=image.name)]
    with warnings.catch_warnings():  # Keras asks numpy for a name that is going to be taken
        warnings.simplefilter("ignore", FutureWarning)
        named.export(path, format="onnx", input_signature=signature, verbose=False)
