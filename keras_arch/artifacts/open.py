"""Open a model file of any kind."""

import reprlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..class_names import check_number_of_names
from ..errors import InputError, explain_surroundings
from ..files import is_path
from ..published import DEMO
from .artifact import Artifact, shape_error

KINDS = "a .keras file, a SavedModel directory, a .tflite file or an .onnx file"
ROUNDING = 1e-3  # tolerance of a probability outside 0-1, and of the sum of an image
STEP = 1 / 256  # step of 8-bit probabilities. Each may add as much to the error of the sum


@explain_surroundings()
def open_artifact(path: str | Path) -> Artifact:
    """Open a trained model.

    Args:
        path: .keras file, SavedModel directory, .tflite file, .onnx file, or a run directory for
            its model.keras. Only the required runtime is imported: a .tflite file runs without
            TensorFlow. "demo" is the int8 file in this package, for the classes of CIFAR-10.

    Returns:
        An `Artifact`. Its `predict` takes images and returns probabilities. Its `class_names` are
        those in the file.

    A SavedModel is a program. Its graph can read and write files when it is opened or run (see
    https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md). Open only SavedModels of
    people whom you trust. .keras and .tflite files are safe to open: they hold layers and
    operators. A .keras file with code, such as a Lambda layer, is refused.

    Raises:
        InputError (a ValueError): the file does not exist, is damaged, is not an image classifier,
            has another number of class names than classes, or is a .keras file with code. `predict`
            raises it for outputs that are not probabilities.

    Example:
        artifact = keras_arch.open_artifact("saved_models/quickstart")
        probabilities = artifact.predict(images)
        names = [artifact.class_names[number] for number in probabilities.argmax(axis=1)]
    """
    if not is_path(path):
        raise InputError(f"`path` must be the path of {KINDS}. Received: {reprlib.repr(path)}.")
    path = Path(path)
    if path == Path("demo") and not path.exists():
        path = DEMO
    if (path / "model.keras").is_file():
        path = path / "model.keras"
    artifact = open_kind(path)
    if artifact.class_names is not None:
        check_number_of_names(path, artifact.class_names, artifact)

    def predict(images):
        images = np.asarray(images)
        check_image_shape(images, artifact)
        if not len(images):
            return np.zeros((0, artifact.classes), "float32")
        try:
            outputs = artifact.predict(images)
        except Exception as error:  # each runtime has its own exceptions
            raise shape_error(path, images.shape, artifact.image_shape, error) from error
        return check_outputs(outputs, path)

    return replace(artifact, predict=predict)


def check_image_shape(images: np.ndarray, artifact: Artifact) -> None:
    """Raise InputError unless the artifact takes images of this shape."""
    expected = (None, *artifact.image_shape)
    if images.ndim != 4 or any(
        side not in (None, size) for side, size in zip(expected, images.shape, strict=True)
    ):
        raise shape_error(artifact.path, images.shape, artifact.image_shape)


def check_outputs(outputs: np.ndarray, path: str | Path) -> np.ndarray:
    """Return outputs (images, classes) as float32, or raise InputError if not probabilities."""
    outputs = np.asarray(outputs, "float32")
    low, high = np.min(outputs), np.max(outputs)
    sums = np.sum(outputs, axis=-1, dtype="float64")
    tolerance = ROUNDING + STEP * np.shape(outputs)[-1]
    if not (  # `not` refuses NaN as well
        low >= -ROUNDING and high <= 1 + ROUNDING and np.abs(sums - 1).max() <= tolerance
    ):
        raise InputError(
            f"{path} must output class probabilities. Received: values from {low:.3g} to "
            f"{high:.3g} with sums from {sums.min():.3g} to {sums.max():.3g}. "
            "End the model with a softmax."
        )
    return outputs


def open_kind(path: Path) -> Artifact:
    """Open a file with the runtime of its kind. Only that runtime is imported."""
    if not path.exists():
        raise InputError(f"{path} does not exist. Pass {KINDS}, a run directory or demo.")
    if path.is_dir() and (path / "saved_model.pb").is_file():
        from .saved_model import open_saved_model

        return open_saved_model(path)
    if path.is_file() and path.suffix == ".keras":
        from .keras import open_keras

        return open_keras(path)
    if path.is_file() and path.suffix == ".tflite":
        from .tflite import open_tflite

        return open_tflite(path)
    if path.is_file() and path.suffix == ".onnx":
        from .onnx import open_onnx

        return open_onnx(path)
    found = "a directory" if path.is_dir() else f"a file with the suffix {path.suffix!r}"
    raise InputError(f"{path} is not a model. Received: {found}. Pass {KINDS}, or a run directory.")
