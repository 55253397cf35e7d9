"""A trained model as a SavedModel and as TFLite files of built-in operators only."""

from collections import Counter
from importlib.metadata import version

import keras
import numpy as np
import tensorflow as tf

from .artifacts import open_artifact, strip_auxiliary_heads
from .errors import InputError
from .files import write_json
from .runs import write_labels

CALIBRATION_IMAGES = 500  # what the int8 ranges are measured on


def export_model(model, folder, class_names, calibration):
    """Write `model` into `folder` for servers and phones.

    Args:
        model: a `keras.Model` from raw images (batch, height, width, channels) of 0-255 to class probabilities.
        folder: an existing folder; it receives saved_model/, model_float32.tflite, model_int8.tflite (uint8 in and
            out), labels.txt and export.json.
        class_names: one for each output, in their order.
        calibration: un-augmented training images (count, height, width, channels) of 0-255, for the int8 ranges.

    Returns:
        What export.json holds.

    Raises:
        InputError (a ValueError): the model has no fixed image size, which a TFLite file needs, or another number of
            classes or another image shape than class_names and calibration.
    """
    model = strip_auxiliary_heads(model)
    shape = model.input_shape[1:]
    if None in shape:
        raise InputError(
            f"expected a model with a fixed image size, got {shape}; build it with input_shape=(224, 224, 3)"
        )
    if model.output_shape[-1] != len(class_names):
        raise InputError(
            f"expected a model of {len(class_names)} classes, as the data has, got {model.output_shape[-1]}"
        )
    calibration = full_range(np.asarray(calibration, "float32"))
    if calibration.shape[1:] != shape:
        raise InputError(f"expected a model of images {calibration.shape[1:]}, as the data has, got {shape}")
    model.export(folder / "saved_model", verbose=False)
    write_tflite(model, folder / "model_float32.tflite", tf.lite.OpsSet.TFLITE_BUILTINS)
    write_tflite(
        model,
        folder / "model_int8.tflite",
        tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[np.newaxis]] for image in calibration),
        inference_input_type=tf.uint8,
        inference_output_type=tf.uint8,
    )
    write_labels(folder / "labels.txt", class_names)
    names = ("saved_model", "model_float32.tflite", "model_int8.tflite")
    report = {
        "model": model.name,
        "input": {"shape": [1, *shape], "range": [0, 255]},
        "classes": list(class_names),
        "calibration": {"images": len(calibration), "split": "train", "augmented": False},
        "artifacts": {name: describe(folder / name) for name in names},
        "versions": {name: version(name) for name in ("keras", "tensorflow", "ai-edge-litert")},
    }
    write_json(folder / "export.json", report)
    return report


def write_tflite(model, path, operators, **options):
    """Convert `model` for one image at a time, with none but `operators`."""
    image = keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype="float32", name=model.inputs[0].name)
    target = {"supported_ops": [operators]}
    model.export(path, format="litert", input_signature=[image], target_spec=target, verbose=False, **options)


def full_range(images):
    """Stretch the image of most contrast to 0-255, so that an int8 file's input is the pixel: scale 1, zero point 0."""
    images = images.copy()
    low, high = images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))
    best = (high - low).argmax()
    images[best] = (images[best] - low[best]) * (255 / (high - low)[best])
    return images


def describe(path):
    """Kind and size of an artifact, and for .tflite its types and operators."""
    artifact = open_artifact(path)
    row = {"kind": artifact.kind, "bytes": artifact.size}
    if artifact.kind == "tflite":
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        # Without delegates, which would stand in the list beside the operators that they replace.
        interpreter = Interpreter(
            str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
        row["input_type"], row["output_type"] = (np.dtype(tensor["dtype"]).name for tensor in (image, output))
        row["operators"] = dict(sorted(Counter(op["op_name"] for op in interpreter._get_ops_details()).items()))
    return row
