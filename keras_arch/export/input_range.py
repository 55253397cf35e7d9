"""Check by its answers for some images that a model takes raw pixels of 0-255.

A model that was trained on pixels of -1 to 1 does not fail on raw pixels. Its answers then vary
little, or its probabilities are saturated, while its answers for scaled images vary. A model that
takes raw pixels sees scaled images as black ones, so its answers for them are nearly constant.

Labels decide if there are any: a model whose accuracy scaling does not raise is not refused.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras.applications.imagenet_utils import preprocess_input

from ..errors import DataWarning, InputError
from ..models import run_model
from .verification.checks import drop_interval

RANGE_IMAGES = 64  # images that are classified in every range
BATCH = 16
MIN_VARIETY = 0.1  # of the answers for scaled images, as a fraction of the largest one
MAX_CONSTANT = 0.6  # answers vary little with at most this fraction of the variety for scaled ones
SATURATED = 80.0  # median logarithm of the ratio of the two highest: float32 ends at 87
DECIDED = np.log(4.0)  # lower limit of this logarithm for the images of a trained model
MIN_RATIO = 4.0  # of this logarithm for raw images to that for scaled images
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
    chosen = np.unique(np.linspace(0, len(images) - 1, RANGE_IMAGES).astype(int))
    images = np.asarray(images[chosen], "float32")
    raw = predict(model, images)
    scaled = {row: predict(model, row.scale(images)) for row in RANGES}
    if labels is None:
        if received := find_problem(raw, scaled):
            raise InputError(describe_problem(ranges_by_variety(scaled), "may", received))
        return
    labels = labels[chosen]
    imagenet = IMAGENET_RANGES if images.shape[-1] == 3 else ()
    check_accuracy(
        raw, scaled | {row: predict(model, row.scale(images)) for row in imagenet}, labels
    )
    if received := find_problem(raw, scaled):
        report_by_labels(received, raw, scaled, labels)


def report_by_labels(
    received: str, raw: np.ndarray, scaled: dict[InputRange, np.ndarray], labels: np.ndarray
) -> None:
    """Raise InputError or warn about a problem of a model, unless labels show that it has none.

    A model that classifies raw images as well as scaled ones is not refused.
    """
    accuracy = {row: compute_accuracy(outputs, labels) for row, outputs in scaled.items()}
    own, best = compute_accuracy(raw, labels), max(accuracy.values())
    likely = [row for row in scaled if accuracy[row] == best]
    problem = describe_problem(likely, "may", received)
    if best > own or not beats(raw, np.bincount(labels).argmax(), labels):
        raise InputError(problem)
    if not beats(raw, scaled[likely[0]].argmax(axis=1), labels):
        warnings.warn(problem, DataWarning, stacklevel=2)


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return probabilities (images, classes). Unlike `model.predict`, it traces no graph."""
    outputs = [
        run_model(model, images[start : start + BATCH]) for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(outputs).astype("float64")


def compute_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def beats(probabilities: np.ndarray, answers: np.ndarray | np.integer, labels: np.ndarray) -> bool:
    """Return whether the top classes are significantly better than other answers."""
    return drop_interval(probabilities.argmax(axis=1) == labels, answers == labels)[0] > 0


def check_accuracy(
    raw: np.ndarray, scaled: dict[InputRange, np.ndarray], labels: np.ndarray
) -> None:
    """Raise InputError if scaling the images raises the accuracy significantly."""
    best = max(scaled, key=lambda row: compute_accuracy(scaled[row], labels))
    before, after = (outputs.argmax(axis=1) == labels for outputs in (raw, scaled[best]))
    gain, _ = drop_interval(after, before)
    if gain > MIN_GAIN and varies(scaled[best]):
        raise InputError(
            describe_problem(
                [best],
                "seems to",
                f"an accuracy of {before.mean():.0%} for raw images and of {after.mean():.0%} "
                "for scaled ones",
            )
        )


def find_problem(raw: np.ndarray, scaled: dict[InputRange, np.ndarray]) -> str | None:
    """Return what is wrong with the answers for raw images compared with scaled ones, or None."""
    best = max(scaled.values(), key=variety)
    if varies_less(raw, best):
        return "answers that vary little for raw images"
    if is_saturated(raw, best):
        return "saturated probabilities for raw images alone"
    return None


def ranges_by_variety(scaled: dict[InputRange, np.ndarray]) -> list[InputRange]:
    """Return the ranges whose answers vary most: at least half as much as the best ones."""
    found = {row: variety(outputs) for row, outputs in scaled.items()}
    rows = [row for row, amount in found.items() if amount >= max(found.values()) / 2]
    return sorted(rows, key=lambda row: -found[row])


def varies_less(raw: np.ndarray, scaled: np.ndarray) -> bool:
    """Return whether answers for raw images vary much less than those for scaled ones."""
    return is_decided(scaled) and variety(raw) <= MAX_CONSTANT * variety(scaled)


def is_saturated(raw: np.ndarray, scaled: np.ndarray) -> bool:
    """Return whether the probabilities for raw images are saturated, and those for scaled ones not.

    A network without normalization that was trained on raw pixels can be saturated, too. Its
    answers for scaled images are then undecided.
    """
    return is_decided(scaled) and margin(raw) > max(SATURATED, MIN_RATIO * margin(scaled))


def is_decided(probabilities: np.ndarray) -> bool:
    """Return whether answers are those of a trained model: they vary and are not close to even."""
    return varies(probabilities) and margin(probabilities) >= DECIDED


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


def describe_problem(likely: Sequence[InputRange], verb: str, received: str) -> str:
    """Return the message about a model that takes other ranges than 0-255."""
    ranges, layers = (
        " or ".join(getattr(row, field) for row in likely) for field in ("name", "layer")
    )
    return (
        f"The model must take raw pixels of 0-255. It {verb} take {ranges}. Received: {received}. "
        f"Put {layers} in front, or set `skip_range_check` (--skip-range-check)."
    )
