"""Evaluate models on a split of a data set."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from ..class_names import find_class_names
from ..errors import InputError, choose, explain_surroundings
from .metrics import (
    Accuracy,
    McNemar,
    Metrics,
    compute_accuracy,
    compute_agreement,
    compute_metrics,
    mcnemar_test,
)

if TYPE_CHECKING:
    from ..artifacts.artifact import Artifact
    from ..data.dataset import Dataset

SplitName = Literal["train", "validation", "test", "all"]

BATCH = 256
LATENCY_RUNS = 50  # the median is reported
LATENCY_WARMUP = 5
MISTAKES_SHOWN = 24


@dataclass(frozen=True)
class Evaluation:
    """What `compare` found for one model."""

    artifact: str
    """Path of the model."""
    bytes: int
    """Size of the model on disk."""
    metrics: Metrics
    """Metrics on the split."""
    agreement: float
    """Share of images with the same top class as the first model, 0 to 1."""
    against_first: McNemar | None
    """Test against the first model; None for the first model."""
    latency_ms: float
    """Median time for one image at batch size 1, in milliseconds."""


class Mistake(NamedTuple):
    """One misclassified image."""

    image: np.ndarray
    """Image (height, width, channels), 0-255."""
    true: str
    """Name of the true class."""
    predicted: str
    """Name of the predicted class."""
    confidence: float
    """Probability of the predicted class, 0 to 1."""


def predict_split(artifact, dataset, split="test", progress=lambda batches, total: batches):
    """Run a model on one split.

    Args:
        artifact: model from `keras_arch.open_artifact`.
        dataset: a `keras_arch.Dataset`.
        split: "train", "validation", "test" or "all".
        progress: function (batches, number of batches) that yields the batches, to show progress.

    Returns:
        Probabilities, float32 array (images, classes), and labels, integer array (images,).

    Raises:
        InputError (a ValueError): the model does not fit the data set, or `split` is unknown or
            has no images.
    """
    from ..data.convert import explain_batches

    check_match(artifact, dataset)
    examples, count = check_split(dataset, split).examples, getattr(dataset, split).count
    probabilities, labels = [], []
    with explain_batches():
        batches = examples.batch(BATCH).as_numpy_iterator()
        for images, targets in progress(batches, -(-count // BATCH)):
            probabilities.append(artifact.predict(with_channels(images, artifact)))
            labels.append(targets)
    return np.concatenate(probabilities), np.concatenate(labels)


def check_split(dataset, split):
    """Return a split, or raise InputError if it is unknown or has no images."""
    choose("a split", split, ("train", "validation", "test", "all"))
    found = getattr(dataset, split)
    if not found.count:
        raise InputError(
            f"Data set {dataset.name!r} must have images in its {split} split. Received: none. "
            "Add images, or choose another split (--split)."
        )
    return found


def evaluate_run(artifact, dataset) -> tuple[dict[str, Metrics], list[Mistake]]:
    """Evaluate a trained model on the validation and test splits.

    Args:
        artifact: model from `keras_arch.open_artifact`.
        dataset: a `keras_arch.Dataset`.

    Returns:
        {"validation": `Metrics`, "test": `Metrics`}, and the mistakes on the test split.
    """
    predictions = {
        split: predict_split(artifact, dataset, split) for split in ("validation", "test")
    }
    return summarize_run(predictions, dataset)


def summarize_run(predictions, dataset) -> tuple[dict[str, Metrics], list[Mistake]]:
    """Return what `evaluate_run` returns, from its predictions.

    Args:
        predictions: {split: (probabilities, labels)} of validation and test, as `predict_split`
            returns them.
        dataset: a `keras_arch.Dataset`.
    """
    metrics = {
        split: compute_metrics(probabilities, labels, dataset.class_names)
        for split, (probabilities, labels) in predictions.items()
    }
    probabilities, labels = predictions["test"]
    return metrics, find_mistakes(probabilities, labels, dataset)


def with_channels(images, artifact):
    """Return images (batch, height, width, channels), with grayscale repeated for an RGB model."""
    return np.broadcast_to(images, (*images.shape[:3], artifact.image_shape[2]))


def check_match(artifact, dataset):
    """Raise InputError unless the model has the classes and the image shape of the data set.

    An RGB model also takes grayscale images.
    """
    check_types(artifact, dataset)
    if artifact.classes != len(dataset.class_names):
        raise InputError(
            f"{artifact.path} must have {len(dataset.class_names)} classes, as data set "
            f"{dataset.name!r} has. Received: {artifact.classes} classes."
        )
    *sides, channels = zip(artifact.image_shape, dataset.image_shape, strict=True)
    if any(side not in (None, size) for side, size in sides) or channels not in (
        (1, 1),
        (3, 3),
        (3, 1),
    ):
        raise InputError(
            f"{artifact.path} must take images of shape {dataset.image_shape}, as data set "
            f"{dataset.name!r} has. Received: a model for {artifact.image_shape}."
        )


def check_types(artifact, dataset):
    """Raise InputError unless both arguments are what `evaluate` takes."""
    for name, value, maker in (
        ("artifact", artifact, "open_artifact"),
        ("dataset", dataset, "load_dataset"),
    ):
        if not hasattr(value, "image_shape"):
            raise InputError(
                f"`{name}` must be from keras_arch.{maker}. Received: {type(value).__name__}."
            )


@explain_surroundings()
def evaluate(artifact: "Artifact", dataset: "Dataset", split: SplitName = "test") -> Accuracy:
    """Return the accuracy of a model on one split.

    The classes of the data are matched to those of the model by name, if the model has names. The
    data may lack some of them.

    Args:
        artifact: model from `keras_arch.open_artifact`.
        dataset: a `keras_arch.Dataset`.
        split: "train", "validation", "test" or "all".

    Returns:
        An `Accuracy` with the fields `images`, `top1` and `top5`.

    Raises:
        InputError (a ValueError): the model does not fit the data set, a class of the data is not
            one of the model, or `split` is unknown or has no images.

    Example:
        >>> dataset = keras_arch.load_dataset("digits")
        >>> artifact = keras_arch.open_artifact("saved_models/quickstart")
        >>> keras_arch.evaluate(artifact, dataset).top1
    """
    from ..data.classes import with_classes

    check_types(artifact, dataset)
    if names := find_class_names(artifact):
        dataset = with_classes(dataset, names)
    return compute_accuracy(*predict_split(artifact, dataset, split))


@explain_surroundings()
def compare(
    artifacts, dataset, split="test", progress=lambda batches, total: batches
) -> tuple[list[Evaluation], list[np.ndarray], np.ndarray]:
    """Evaluate several models on one split and compare each with the first.

    Args:
        artifacts: models from `keras_arch.open_artifact`.
        dataset: a `keras_arch.Dataset`.
        split: "train", "validation", "test" or "all".
        progress: function (batches, number of batches) that yields the batches, to show progress.

    Returns:
        One `Evaluation` per model, one array (images, classes) of probabilities per model, and the
        labels (images,).

    Raises:
        InputError (a ValueError): a model does not fit the data set, or the split has no images.
    """
    from ..data.convert import explain_batches

    for artifact in artifacts:
        check_match(artifact, dataset)
    check_split(dataset, split)
    rows: list[Evaluation] = []
    outputs: list[np.ndarray] = []
    with explain_batches():
        first_examples = getattr(dataset, split).examples.take(LATENCY_RUNS)
        images = np.stack([image for image, _ in first_examples.as_numpy_iterator()])
    for artifact in artifacts:
        probabilities, labels = predict_split(artifact, dataset, split, progress)
        outputs.append(probabilities)
        first, this = (one.argmax(axis=1) == labels for one in (outputs[0], probabilities))
        row = Evaluation(
            artifact=str(artifact.path),
            bytes=artifact.size,
            metrics=compute_metrics(probabilities, labels, dataset.class_names),
            agreement=compute_agreement(probabilities, outputs[0]),
            against_first=mcnemar_test(first, this) if rows else None,
            latency_ms=1000 * measure_latency(artifact, with_channels(images, artifact)),
        )
        rows.append(row)
    return rows, outputs, labels


def find_mistakes(probabilities, labels, dataset, split="test") -> list[Mistake]:
    """Return the misclassified images with the highest confidence, at most 24.

    Args:
        probabilities: array (images, classes).
        labels: integer array (images,), the true classes.
        dataset: a `keras_arch.Dataset`.
        split: the split that was evaluated.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:MISTAKES_SHOWN]
    images, true = getattr(dataset, split).at(worst)
    names = dataset.class_names
    return [
        Mistake(image, names[label], names[row.argmax()], float(row.max()))
        for image, label, row in zip(images, true, probabilities[worst], strict=True)
    ]


def measure_latency(artifact, images):
    """Return the median time in seconds for one image at batch size 1."""
    seconds = []
    for run in range(LATENCY_WARMUP + LATENCY_RUNS):
        image = images[run % len(images)][np.newaxis]
        started = time.perf_counter()
        artifact.predict(image)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[LATENCY_WARMUP:]))
