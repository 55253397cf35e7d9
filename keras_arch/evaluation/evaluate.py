"""Run artifacts over a split."""

import time

import numpy as np

from ..errors import InputError, choose, explain_surroundings
from .metrics import accuracy, agreement, compute_metrics, mcnemar

BATCH = 256
LATENCY_RUNS = 50  # images one at a time, of which the median is taken
LATENCY_WARMUP = 5


MISTAKES_SHOWN = 24  # that are shown


def predict_split(artifact, dataset, split="test", progress=lambda batches, total: batches):
    """Run an artifact over one split.

    Args:
        artifact: what `keras_arch.open_artifact` gave.
        dataset: a `keras_arch.data.dataset.Dataset`.
        split: "train", "validation", "test" or "all".
        progress: a function of the batches and their number that gives the batches on, and may count them.

    Returns:
        probabilities (images, classes) as float32 and labels (images,) as integers.

    Raises:
        InputError (a ValueError): the artifact has another number of classes, or another image shape.
    """
    check_match(artifact, dataset)
    choose("a split", split, ("train", "validation", "test", "all"))
    probabilities, labels = [], []
    examples, count = getattr(dataset, split).examples, getattr(dataset, split).count
    for images, targets in progress(examples.batch(BATCH).as_numpy_iterator(), -(-count // BATCH)):
        probabilities.append(artifact.predict(with_channels(images, artifact)))
        labels.append(targets)
    return np.concatenate(probabilities), np.concatenate(labels)


def evaluate_run(artifact, dataset):
    """Measure a trained model on validation and test.

    Returns:
        {"validation": metrics, "test": metrics} as `compute_metrics` has them, and the mistakes on test as
        `find_mistakes` has them.
    """
    metrics = {}
    for split in ("validation", "test"):
        probabilities, labels = predict_split(artifact, dataset, split)
        metrics[split] = compute_metrics(probabilities, labels, dataset.class_names)
    return metrics, find_mistakes(probabilities, labels, dataset)


def with_channels(images, artifact):
    """Images (batch, height, width, channels) as the artifact takes them: a grey one repeats itself for red, green, blue."""
    return np.broadcast_to(images, (*images.shape[:3], artifact.image_shape[2]))


def check_match(artifact, dataset):
    """Raise InputError unless the artifact was made for such images, or for such in colour, and so many classes."""
    for name, value, maker in (
        ("artifact", artifact, "open_artifact"),
        ("dataset", dataset, "load_dataset"),
    ):
        if not hasattr(value, "image_shape"):
            raise InputError(
                f"`{name}` must be from keras_arch.{maker}. Received: {type(value).__name__}."
            )
    if artifact.classes != len(dataset.class_names):
        raise InputError(
            f"expected a model of {len(dataset.class_names)} classes, as data set {dataset.name!r} has, got "
            f"{artifact.path} with {artifact.classes}"
        )
    *sides, channels = zip(artifact.image_shape, dataset.image_shape, strict=True)
    if any(side not in (None, size) for side, size in sides) or channels not in (
        (1, 1),
        (3, 3),
        (3, 1),
    ):
        raise InputError(
            f"expected a model of images {dataset.image_shape}, as data set {dataset.name!r} has, got "
            f"{artifact.path} with {artifact.image_shape}"
        )


@explain_surroundings()
def evaluate(artifact, dataset, split="test"):
    """Accuracy of an artifact on one split.

    Returns:
        {"images": count, "top1": share, "top5": share where there are more than five classes}, shares of 0 to 1. Of
        equally probable classes the first stands before the others.

    Raises:
        InputError (a ValueError): the artifact has another number of classes, or another image shape.
    """
    return accuracy(*predict_split(artifact, dataset, split))


@explain_surroundings()
def compare(artifacts, dataset, split="test", progress=lambda batches, total: batches):
    """What each artifact scores on one split, and whether it differs from the first.

    Returns:
        A list of dicts of "artifact", "bytes", what `compute_metrics` gives, "agreement" (share of images with the top class of
        the first artifact), "against_first" (of `mcnemar`; not for the first) and "latency_ms" (median of one image at
        batch 1); a list of (images, classes) probabilities; and the labels (images,).

    Raises:
        InputError (a ValueError): an artifact has another number of classes, or another image shape.
    """
    for artifact in artifacts:
        check_match(artifact, dataset)
    if not getattr(dataset, split).count:
        raise InputError(
            f"Data set {dataset.name!r} has no images in its {split} split. Evaluate --split all"
        )
    rows: list[dict] = []
    answers: list[np.ndarray] = []
    images = np.stack(
        [
            image
            for image, _ in getattr(dataset, split).examples.take(LATENCY_RUNS).as_numpy_iterator()
        ]
    )
    for artifact in artifacts:
        probabilities, labels = predict_split(artifact, dataset, split, progress)
        answers.append(probabilities)
        row = {
            "artifact": str(artifact.path),
            "bytes": artifact.size,
            **compute_metrics(probabilities, labels, dataset.class_names),
        }
        row["agreement"] = agreement(probabilities, answers[0])
        if len(answers) > 1:
            row["against_first"] = mcnemar(
                *(one.argmax(axis=1) == labels for one in (answers[0], probabilities))
            )
        row["latency_ms"] = 1000 * measure_latency(artifact, with_channels(images, artifact))
        rows.append(row)
    return rows, answers, labels


def find_mistakes(probabilities, labels, dataset, split="test"):
    """The wrong answers of most confidence: [(image, true class, predicted class, confidence)], the worst first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:MISTAKES_SHOWN]
    images, true = getattr(dataset, split).at(worst)
    return [
        (
            image,
            dataset.class_names[label],
            dataset.class_names[answer.argmax()],
            float(answer.max()),
        )
        for image, label, answer in zip(images, true, probabilities[worst], strict=True)
    ]


def measure_latency(artifact, images):
    """Median seconds for one image at batch 1, over `images` taken in turn."""
    seconds = []
    for run in range(LATENCY_WARMUP + LATENCY_RUNS):
        image = images[run % len(images)][np.newaxis]
        started = time.perf_counter()
        artifact.predict(image)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[LATENCY_WARMUP:]))
