"""A trained model in one of its forms, and what every form is checked for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, first_line
from ..text import VALUE_CELLS, shorten


@dataclass(frozen=True)
class Artifact:
    """A trained model in one of its forms.

    `predict` takes images (batch, height, width, channels) of 0-255, any number type, and gives probabilities
    (batch, classes) as float32, whatever the file's own types are.
    """

    path: Path
    kind: str
    image_shape: tuple[int | None, int | None, int]
    classes: int
    size: int  # bytes on disk
    predict: Callable[[np.ndarray], np.ndarray]

    @property
    def image_size(self):
        """(height, width) in pixels where they are fixed, else None."""
        return None if None in self.image_shape[:2] else self.image_shape[:2]


def shape_error(path, shape, image_shape, error=None):
    """An InputError about images of a shape that a file does not take, or on which it fails with `error`."""
    cause = f" ({first_line(error)})" if error else ""
    return InputError(
        f"{path} cannot classify images of this shape. Received: {shape}. Use (batch, height, width, channels) with "
        f"images of {image_shape}, where None is any size that is large enough{cause}."
    )


def predict_in_batches(predict, batch):
    """Make a function of `batch` images take any number of them.

    Args:
        predict: a function from images (batch, height, width, channels) to probabilities (batch, classes).
        batch: how many images it takes at once. None if it takes any number already.

    Returns:
        A function from images (any number of them, height, width, channels) to probabilities. The last batch is
        filled up with black images.
    """
    if batch is None:
        return predict

    def predict_all(images):
        answers = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            missing = batch - len(part)
            full = np.pad(part, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else part
            answers.append(predict(full)[: len(part)])
        return np.concatenate(answers)

    return predict_all


def cast_images(images, dtype):
    """Raw pixels of 0-255 in the number type of an input. Integers are rounded, and clipped to what the type holds."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        images = np.clip(np.round(images), limits.min, limits.max)
    return np.asarray(images).astype(dtype)


def check_number_type(path, dtype, name):
    """Raise InputError unless pixels of 0-255 fit a number type of NumPy; `name` is what the file calls it."""
    if np.dtype(dtype).kind in "OSUb" or np.array(255).astype(dtype) != 255:
        raise InputError(
            f"{path} must take pixels of 0-255. Received: an input of {name}. Use float32 or uint8."
        )


def known(shape):
    """A shape as a tuple, None for each side that is open. None for a shape of unknown rank."""
    if getattr(shape, "rank", 0) is None:
        return None
    return tuple(int(side) if isinstance(side, (int, np.integer)) else None for side in shape)


def check_signature(path, inputs, outputs):
    """Raise InputError unless the shapes are those of one image in and one vector of classes out."""
    inputs, outputs = [known(shape) for shape in inputs], [known(shape) for shape in outputs]
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
        f"{path} must be an image classifier, (batch, height, width, channels) to (batch, classes). Received: {takes} to "
        f"{gives}{problem}. Convert it again with such an input and output."
    )
