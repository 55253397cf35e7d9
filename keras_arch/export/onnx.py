"""Write ONNX files with Keras's exporter. It requires the extra `onnx`."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import keras

from ..class_names import to_onnx_metadata


def write_onnx(model: keras.Model, path: Path, class_names: Sequence[str]) -> None:
    """Write a model as an .onnx file with the input `image` and the output `probabilities`.

    The class names are a JSON list in the metadata `names`.

    Args:
        model: `keras.Model` from raw images (batch, height, width, channels) to probabilities.
        path: file to write.
        class_names: names of the classes, in the order of the outputs.
    """
    import onnx

    image = keras.Input(model.input_shape[1:], name="image")
    # Without `training`, augmentation layers would be active.
    named = keras.Model(image, {"probabilities": model(image, training=False)}, name=model.name)
    signature = [keras.InputSpec(shape=image.shape, dtype="float32", name=image.name)]
    with warnings.catch_warnings():  # Keras uses a name that NumPy has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        named.export(path, format="onnx", input_signature=signature, verbose=False)
    content = onnx.load(path)
    onnx.helper.set_model_props(content, to_onnx_metadata(class_names))
    onnx.save(content, path)
