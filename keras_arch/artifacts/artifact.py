"""An opened model file, and checks for all kinds of model files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, first_line
from ..text import VALUE_CELLS, shorten


@dataclass(frozen=True)
class Artifact:
    """An opened model file. `open_artifact` returns it."""

    path: Path
    kind: str
    """"keras", "saved_model", "tflite" or "onnx"."""
    image_shape: tuple[int | None, ...]
    """(height, width, channels). A height or width of None takes any size."""
    classes: int
    size: int
    """Bytes on disk."""
    predict: Callable[[np.ndarray], np.ndarray]
    """Function from images (batch, height, width, channels) of 0-255, of any number type, to
    float32 probabilities (batch, classes)."""
    class_names: tuple[str, ...] | None = None
    """Class names in the file, in the order of the outputs. None if the file has none."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) in pixels. None if one of them takes any size."""
        height, width = self.image_shape[:2]
        return None if height is None or width is None else (height, width)


def shape_error(
    path: Path, shape: tuple, image_shape: tuple, error: Exception | None = None
) -> InputError:
    """Return an InputError for images of a shape that a file does not take.

    Args:
        path: model file.
        shape: shape of the images.
        image_shape: `Artifact.image_shape`.
        error: exception of the runtime, if any.
    """
    cause = f" ({first_line(error)})" if error else ""
    return InputError(
        f"{path} cannot classify images of this shape. Received: {shape}. Use (batch, height, "
        f"width, channels) with images of {image_shape}. None means any size that is large "
        f"enough{cause}."
    )


def predict_in_batches(
    predict: Callable[[np.ndarray], np.ndarray], batch: int | None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a predict function that takes any number of images.

    Args:
        predict: function from images (batch, height, width, channels) to probabilities
            (batch, classes).
        batch: batch size of `predict`. None if it takes any.

    Returns:
        Function from any number of images to their probabilities. It pads the last batch with
        black images.
    """
    if batch is None:
        return predict

    def predict_all(images):
        results = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            missing = batch - len(part)
            full = np.pad(part, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else part
            results.append(predict(full)[: len(part)])
        return np.concatenate(results)

    return predict_all


def cast_images(images: np.ndarray, dtype: Any) -> np.ndarray:
    """Cast raw images to the type of an input. Values for integers are rounded and clipped."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        images = np.clip(np.round(images), limits.min, limits.max)
    return np.asarray(images).astype(dtype)


def check_number_type(path: Path, dtype: Any, name: str) -> None:
    """Raise InputError unless a type can hold pixels of 0-255.

    Args:
        path: model file.
        dtype: NumPy type of its input.
        name: name of the type in the file, for the message.
    """
    if np.dtype(dtype).kind in "OSUb" or np.array(255).astype(dtype) != 255:
        raise InputError(
            f"{path} must take pixels of 0-255. Received: an input of {name}. Use float32 or uint8."
        )


def to_tuple(shape: Any) -> tuple[int | None, ...] | None:
    """Return a shape as a tuple with None for sides of any size, or None for unknown rank."""
    if getattr(shape, "rank", 0) is None:
        return None
    return tuple(int(side) if isinstance(side, (int, np.integer)) else None for side in shape)


def check_signature(path: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Raise InputError unless a file has one image as input and one vector of classes as output.

    Args:
        path: model file.
        inputs: shapes of the inputs.
        outputs: shapes of the outputs.
    """
    inputs, outputs = [to_tuple(shape) for shape in inputs], [to_tuple(shape) for shape in outputs]
    match inputs, outputs:
        case [[(_, channels, _, side)], _] if channels in (1, 3) and side not in (1, 2, 3, 4):
            problem = ", with channels first"
        case [[(_, _, _, int())], [(_, int())]]:
            return
        case _:
            problem = ""
    takes, gives = (
        shorten(
            ", ".join("unknown rank" if shape is None else str(shape) for shape in shapes),
            VALUE_CELLS,
        )
        for shapes in (inputs, outputs)
    )
    raise InputError(
        f"{path} must be an image classifier, (batch, height, width, channels) to (batch, "
        f"classes). Received: {takes} to {gives}{problem}. "
        "Convert the model again with such an input and output."
    )
