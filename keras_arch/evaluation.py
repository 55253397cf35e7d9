"""The same numbers, by the same code, for .keras, SavedModel and .tflite."""

import time

import numpy as np
from sklearn.metrics import accuracy_score, top_k_accuracy_score

from .errors import InputError

BATCH = 256
LATENCY_RUNS = 50  # images one at a time, of which the median is taken
LATENCY_WARMUP = 5


def predict_split(artifact, dataset, split="test"):
    """Run an artifact over one split.

    Args:
        artifact: what `keras_arch.open_artifact` gave.
        dataset: a `keras_arch.data.Dataset`.
        split: "train", "validation" or "test".

    Returns:
        probabilities (images, classes) as float32 and labels (images,) as integers.

    Raises:
        InputError (a ValueError): the artifact has another number of classes, or another image shape.
    """
    check_match(artifact, dataset)
    probabilities, labels = [], []
    for images, targets in getattr(dataset, split).examples.batch(BATCH).as_numpy_iterator():
        probabilities.append(artifact.predict(with_channels(images, artifact)))
        labels.append(targets)
    return np.concatenate(probabilities), np.concatenate(labels)


def with_channels(images, artifact):
    """Images (batch, height, width, channels) as the artifact takes them: a grey one repeats itself for red, green, blue."""
    return np.broadcast_to(images, (*images.shape[:3], artifact.image_shape[2]))


def check_match(artifact, dataset):
    """Raise InputError unless the artifact was made for such images, or for such in colour, and so many classes."""
    if artifact.classes != len(dataset.class_names):
        raise InputError(
            f"expected a model of {len(dataset.class_names)} classes, as data set {dataset.name!r} has, got "
            f"{artifact.path} with {artifact.classes}"
        )
    *sides, channels = zip(artifact.image_shape, dataset.image_shape, strict=True)
    if any(side not in (None, size) for side, size in sides) or channels not in ((1, 1), (3, 3), (3, 1)):
        raise InputError(
            f"expected a model of images {dataset.image_shape}, as data set {dataset.name!r} has, got "
            f"{artifact.path} with {artifact.image_shape}"
        )


def evaluate(artifact, dataset, split="test"):
    """Accuracy of an artifact on one split.

    Returns:
        {"images": count, "top1": share, "top5": share where there are more than five classes}, shares of 0 to 1.

    Raises:
        InputError (a ValueError): the artifact has another number of classes, or another image shape.
    """
    return accuracy(*predict_split(artifact, dataset, split))


def compare(artifacts, dataset, split="test"):
    """The rows of a table: what each artifact scores on one split, and how often it agrees with the first.

    Returns:
        A list of {"artifact": path, "bytes": size, "images": count, "top1": share, "top5": share where there are more
        than five classes, "agreement": share of images with the top class of the first artifact, "latency_ms": median
        milliseconds for one image at batch 1}.

    Raises:
        InputError (a ValueError): an artifact has another number of classes, or another image shape.
    """
    for artifact in artifacts:
        check_match(artifact, dataset)
    first, rows = None, []
    images = np.stack([image for image, _ in getattr(dataset, split).examples.take(LATENCY_RUNS).as_numpy_iterator()])
    for artifact in artifacts:
        probabilities, labels = predict_split(artifact, dataset, split)
        first = probabilities if first is None else first
        rows.append(
            {
                "artifact": str(artifact.path),
                "bytes": artifact.size,
                **accuracy(probabilities, labels),
                "agreement": agreement(probabilities, first),
                "latency_ms": 1000 * latency(artifact, with_channels(images, artifact)),
            }
        )
    return rows


def accuracy(probabilities, labels):
    """Top-1, and top-5 where there are more than five classes, of probabilities (images, classes)."""
    classes = probabilities.shape[1]
    metrics = {"images": len(labels), "top1": float(accuracy_score(labels, probabilities.argmax(axis=1)))}
    if classes > 5:
        top5 = top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(classes))
        metrics["top5"] = float(top5)
    return metrics


def agreement(probabilities, reference):
    """The share of images for which both have the same top class."""
    return float(np.mean(probabilities.argmax(axis=1) == reference.argmax(axis=1)))


def latency(artifact, images):
    """Median seconds for one image at batch 1, over `images` taken in turn."""
    seconds = []
    for run in range(LATENCY_WARMUP + LATENCY_RUNS):
        image = images[run % len(images)][np.newaxis]
        started = time.perf_counter()
        artifact.predict(image)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[LATENCY_WARMUP:]))
