"""Check by its answers for some images that a model takes raw pixels of 0-255.

A model that was trained on pixels of -1 to 1 does not fail on raw pixels. Its answers are then
constant, or its probabilities are saturated, while its answers for scaled images vary. A model
that takes raw pixels sees scaled images as black ones, so its answers for them are constant.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras.applications.imagenet_utils import preprocess_input

from ..errors import InputError
from .verification.checks import drop_interval

RANGE_IMAGES = 64  # images that are classified in every range
BATCH = 16
MIN_VARIETY = 0.1  # of the answers for scaled images, as a fraction of the largest one
MAX_CONSTANT = 0.25  # constant answers have at most this fraction of the variety for scaled images
SATURATED = 40.0  # median logarithm of the ratio of the two highest probabilities
MIN_RATIO = 5.0  # of this logarithm for raw images to that for scaled images
MIN_GAIN = 0.1  # lower bound of the gain in accuracy by scaling
TINY = np.finfo("float32").tiny


@dataclass(frozen=True)
class InputRange:
    """A range of pixels that published models take."""

    name: str
    scale: Callable[[np.ndarray], np.ndarray]
    """Function from float32 images of 0-255 to this range."""
    layer: str
    """Code that scales raw pixels inside a model."""


RANGES = (
    InputRange(
        "-1 to 1", lambda images: images / 127.5 - 1, "keras.layers.Rescaling(1 / 127.5, offset=-1)"
    ),
    InputRange("0 to 1", lambda images: images / 255, "keras.layers.Rescaling(1 / 255)"),
)
IMAGENET_RANGES = (  # of RGB images. Only labels show these, as their answers vary in any case
    InputRange(
        "ImageNet's mean and deviation",
        lambda images: preprocess_input(images.copy(), mode="torch"),
        "keras.applications.densenet.preprocess_input",
    ),
    InputRange(
        "BGR minus ImageNet's mean",
        lambda images: preprocess_input(images.copy(), mode="caffe"),
        "keras.applications.resnet.preprocess_input",
    ),
)


def check_input_range(
    model: keras.Model, images: np.ndarray, labels: np.ndarray | None = None
) -> None:
    """Raise InputError if a model seems to take pixels of another range than 0-255.

    Args:
        model: `keras.Model` from images (batch, height, width, channels) to class probabilities.
        images: raw images (count, height, width, channels) of 0-255.
        labels: (count,) integer classes. None: the accuracy is not compared.
    """
    images = np.asarray(images[:RANGE_IMAGES], "float32")
    in_color = labels is not None and images.shape[-1] == 3
    rows = (*RANGES, *IMAGENET_RANGES) if in_color else RANGES
    raw = predict(model, images)
    scaled = {row: predict(model, row.scale(images)) for row in rows}
    if labels is not None:
        check_accuracy(raw, scaled, labels[:RANGE_IMAGES])
    likely = max(RANGES, key=lambda row: variety(scaled[row]))
    if problem := find_degeneration(raw, scaled[likely]):
        raise range_error(likely, f"{problem} for raw images, but not for scaled ones")


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return probabilities (images, classes). Unlike `model.predict`, it traces no graph."""
    outputs = [
        model(images[start : start + BATCH], training=False)
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(outputs).astype("float64")


def check_accuracy(
    raw: np.ndarray, scaled: dict[InputRange, np.ndarray], labels: np.ndarray
) -> None:
    """Raise InputError if scaling the images raises the accuracy significantly."""
    right = {row: outputs.argmax(axis=1) == labels for row, outputs in scaled.items()}
    best = max(right, key=lambda row: right[row].mean())
    before = raw.argmax(axis=1) == labels
    gain, _ = drop_interval(right[best], before)
    if gain > MIN_GAIN and varies(scaled[best]):
        raise range_error(
            best,
            f"an accuracy of {before.mean():.0%} for raw images and of {right[best].mean():.0%} "
            "for scaled ones",
        )


def find_degeneration(raw: np.ndarray, scaled: np.ndarray) -> str | None:
    """Return what is wrong with the answers for raw images compared with scaled ones, or None."""
    if not varies(scaled):
        return None
    if variety(raw) <= MAX_CONSTANT * variety(scaled):
        return "almost constant answers"
    if margin(raw) > max(SATURATED, MIN_RATIO * margin(scaled)):
        return "saturated probabilities"
    return None


def varies(probabilities: np.ndarray) -> bool:
    """Return whether answers (images, classes) differ between images."""
    return variety(probabilities) >= MIN_VARIETY * np.log(min(probabilities.shape))


def variety(probabilities: np.ndarray) -> float:
    """Return the mutual information of image and class in nats: 0 if all answers are the same."""
    return float(entropy(probabilities.mean(axis=0)) - entropy(probabilities).mean())


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of distributions (..., classes) in nats."""
    return -np.sum(probabilities * np.log(np.maximum(probabilities, TINY)), axis=-1)


def margin(probabilities: np.ndarray) -> float:
    """Return the median logarithm of the ratio of the two highest probabilities."""
    second, first = np.moveaxis(np.sort(probabilities, axis=1)[:, -2:], 1, 0)
    return float(np.median(np.log(first) - np.log(np.maximum(second, TINY))))


def range_error(likely: InputRange, received: str) -> InputError:
    return InputError(
        f"The model must take raw pixels of 0-255. It seems to take {likely.name}. "
        f"Received: {received}. Put {likely.layer} in front of it, or pass --skip-range-check."
    )
