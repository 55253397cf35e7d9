"""Open a .keras file, a SavedModel folder, a .tflite or an .onnx file: images in, probabilities out."""

import reprlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import is_path
from .artifact import shape_error
from .keras import open_keras
from .onnx import open_onnx
from .saved_model import open_saved_model
from .tflite import open_tflite

KINDS = "a .keras file, a SavedModel folder, a .tflite or an .onnx file"


ROUNDING = 1e-3  # by which a probability may leave 0 to 1


STEP = 1 / 256  # between the probabilities of an 8-bit file; each may be off by one in the sum


def open_artifact(path):
    """Open a trained model.

    Args:
        path: a .keras file, a SavedModel folder, a .tflite or an .onnx file, or a run folder for its model.keras. Only what
            the kind needs is imported: a .tflite file runs without TensorFlow.

    A SavedModel is a program: its graph can read and write files as soon as it is opened or run, as TensorFlow documents
    (https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md). Open only SavedModels of people whom you trust. .keras
    and .tflite files of others are safe to open: they hold layers and operators only, and a .keras file with code of its own,
    such as a Lambda layer, is refused.

    Raises:
        InputError (a ValueError): not there, not one of the kinds, damaged, not an image classifier, or a .keras file with
            code of its own; on `predict`, answers that are no probabilities.
    """
    if not is_path(path):
        raise InputError(f"`path` must be the path of {KINDS}. Received: {reprlib.repr(path)}.")
    path = Path(path)
    if (path / "model.keras").is_file():
        path = path / "model.keras"
    artifact = open_kind(path)

    def predict(images):
        images = np.asarray(images)
        check_image_shape(images, artifact)
        if not len(images):
            return np.zeros((0, artifact.classes), "float32")
        try:
            answers = artifact.predict(images)
        except Exception as error:  # each runtime has its own kinds
            raise shape_error(path, images.shape, artifact.image_shape, error) from error
        return check_outputs(answers, path)

    return replace(artifact, predict=predict)


def check_image_shape(images, artifact):
    """Raise InputError unless the artifact takes images of this shape."""
    expected = (None, *artifact.image_shape)
    if images.ndim != 4 or any(
        side not in (None, size) for side, size in zip(expected, images.shape, strict=True)
    ):
        raise shape_error(artifact.path, images.shape, artifact.image_shape)


def check_outputs(answers, path):
    """Return the answers (images, classes) of a file as float32, or raise InputError unless they can be probabilities."""
    answers = np.asarray(answers, "float32")
    low, high = np.min(answers), np.max(answers)
    sums = np.sum(answers, axis=-1, dtype="float64")
    off = ROUNDING + STEP * np.shape(answers)[-1]
    if not (
        low >= -ROUNDING and high <= 1 + ROUNDING and np.abs(sums - 1).max() <= off
    ):  # NaN is refused, too
        raise InputError(
            f"{path} must give class probabilities. Received: values from {low:.3g} to {high:.3g}, whose sums for each image "
            f"are {sums.min():.3g} to {sums.max():.3g}. End the model in a softmax"
        )
    return answers


def open_kind(path):
    if not path.exists():
        raise InputError(f"expected {KINDS}, got {path}, which does not exist")
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return open_saved_model(path)
    if path.suffix == ".keras" and path.is_file():
        return open_keras(path)
    if path.suffix == ".tflite" and path.is_file():
        return open_tflite(path)
    if path.suffix == ".onnx" and path.is_file():
        return open_onnx(path)
    raise InputError(f"expected {KINDS}, got {path}")
