"""Write ONNX files with Keras's exporter. It requires the extra `onnx`."""

import warnings
from pathlib import Path

import keras


def write_onnx(model: keras.Model, path: Path) -> None:
    """Write a model as an .onnx file with the input `image` and the output `probabilities`.

    Args:
        model: `keras.Model` from raw images (batch, height, width, channels) to probabilities.
        path: file to write.
    """
    image = keras.Input(model.input_shape[1:], name="image")
    named = keras.Model(image, {"probabilities": model(image)}, name=model.name)
    signature = [keras.InputSpec(shape=image.shape, dtype="float32", name=image.name)]
    with warnings.catch_warnings():  # Keras uses a name that NumPy has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        named.export(path, format="onnx", input_signature=signature, verbose=False)
