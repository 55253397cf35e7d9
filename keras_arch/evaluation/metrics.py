"""Compute metrics from probabilities and labels."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, recall_score

from .ranking import ranks_of

BINS = 15  # of confidence, for the expected calibration error
CONFUSIONS_LISTED = 10


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on one split. If several classes are equally probable, the first one counts."""

    images: int
    """Number of images."""
    top1: float
    """Share of images whose most probable class is correct, 0 to 1."""
    top5: float | None
    """Share of images whose class is among the five most probable; None below 6 classes."""


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class. Each is 0 if it has no images to count."""

    precision: float
    """Share of the images predicted as this class that belong to it, 0 to 1."""
    recall: float
    """Share of the images of this class that are predicted as it, 0 to 1."""
    f1: float
    """Harmonic mean of precision and recall, 0 to 1."""
    support: int
    """Number of images of this class."""


@dataclass(frozen=True)
class CalibrationBin:
    """One bin of confidence. The confidence is the probability of the predicted class."""

    images: int
    """Number of images in the bin."""
    confidence: float
    """Mean confidence of these images, 0 to 1."""
    accuracy: float
    """Accuracy on these images, 0 to 1."""


@dataclass(frozen=True)
class Confusion:
    """One entry of the confusion matrix that is not on the diagonal."""

    true: str
    """Name of the true class."""
    predicted: str
    """Name of the predicted class."""
    images: int
    """Number of images."""


@dataclass(frozen=True)
class Metrics(Accuracy):
    """All metrics of a classifier on one split."""

    top1_interval: tuple[float, float]
    """95% Wilson interval of `top1`."""
    top5_interval: tuple[float, float] | None
    """95% Wilson interval of `top5`; None for five classes or fewer."""
    balanced_accuracy: float
    """Mean recall of the classes that have images, 0 to 1."""
    nll: float
    """Mean negative log-likelihood of the true class."""
    ece: float
    """Expected calibration error, 0 to 1 (Guo et al. 2017, arXiv:1706.04599)."""
    calibration: list[CalibrationBin]
    """The bins that are not empty, of 15 bins."""
    classes: dict[str, ClassMetrics]
    """Metrics of each class, by name."""
    confusion: list[tuple[int, int, int]]
    """Sparse confusion matrix: sorted (true class, predicted class, images), without zeros."""
    most_confused: list[Confusion]
    """The most frequent confusions, at most 10."""


@dataclass(frozen=True)
class McNemar:
    """Exact test of McNemar (1947): whether two classifiers differ by more than chance."""

    only_first: int
    """Number of images that only the first classifier gets right."""
    only_second: int
    """Number of images that only the second classifier gets right."""
    p: float
    """Probability of this or a more uneven split between equally good classifiers."""


def compute_accuracy(probabilities, labels) -> Accuracy:
    """Return the top-1 and top-5 accuracy.

    Args:
        probabilities: array (images, classes).
        labels: integer array (images,), the true classes.
    """
    top5 = None
    if probabilities.shape[1] > 5:
        top5 = float(np.mean(ranks_of(probabilities, labels) <= 5))
    top1 = float(accuracy_score(labels, probabilities.argmax(axis=1)))
    return Accuracy(len(labels), top1, top5)


def compute_balanced_accuracy(probabilities, labels) -> float:
    """Return the mean recall of the classes that have images, 0 to 1.

    Args:
        probabilities: array (images, classes).
        labels: integer array (images,), the true classes.
    """
    predicted = probabilities.argmax(axis=1)
    return float(
        recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    )


def compute_metrics(probabilities, labels, class_names) -> Metrics:
    """Return all metrics of a classifier.

    Args:
        probabilities: array (images, classes).
        labels: integer array (images,), the true classes.
        class_names: one name per class.
    """
    accuracy = compute_accuracy(probabilities, labels)
    images = accuracy.images
    numbers = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    calibration = bin_confidence(probabilities.max(axis=1), predicted == labels)
    gaps = [one.images * abs(one.confidence - one.accuracy) for one in calibration]
    table = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    confusion = count_confusions(labels, predicted)
    return Metrics(
        images,
        accuracy.top1,
        accuracy.top5,
        top1_interval=wilson_interval(round(accuracy.top1 * images), images),
        top5_interval=(
            None
            if accuracy.top5 is None
            else wilson_interval(round(accuracy.top5 * images), images)
        ),
        balanced_accuracy=compute_balanced_accuracy(probabilities, labels),
        nll=float(compute_losses(probabilities, labels).mean()),
        ece=float(sum(gaps) / images),
        calibration=calibration,
        classes={
            name: ClassMetrics(*(value.item() for value in row))
            for name, row in zip(class_names, zip(*table, strict=True), strict=True)
        },
        confusion=confusion,
        most_confused=find_most_confused(confusion, class_names),
    )


def compute_losses(probabilities, labels) -> np.ndarray:
    """Return the negative log-likelihood of the true class of each image, float64 (images,).

    Outputs of integer files are multiples of 1/256. Their sum is about 1, and zeros have no
    logarithm. So probabilities are at least 1e-7 and are divided by their sum.

    Args:
        probabilities: array (images, classes).
        labels: integer array (images,), the true classes.
    """
    shares = np.clip(probabilities.astype("float64"), 1e-7, 1)
    return np.log(shares.sum(axis=1)) - np.log(shares[np.arange(len(labels)), labels])


def wilson_interval(right, images) -> tuple[float, float]:
    """Return the 95% Wilson interval of the share `right / images`."""
    found = binomtest(int(right), int(images)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def bin_confidence(confidence, right) -> list[CalibrationBin]:
    """Return the bins of confidence that have images.

    Args:
        confidence: array (images,), probability of the predicted class.
        right: bool array (images,), whether the prediction is correct.
    """
    bins = bins_of(confidence)
    return [
        CalibrationBin(
            images=int(np.sum(bins == number)),
            confidence=float(confidence[bins == number].mean()),
            accuracy=float(right[bins == number].mean()),
        )
        for number in np.unique(bins)
    ]


def bins_of(confidence) -> np.ndarray:
    """Return the bin of each confidence, 0 to 14. A bin includes its upper end."""
    return np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def count_confusions(labels, predicted) -> list[tuple[int, int, int]]:
    """Return sorted (true class, predicted class, images) of the pairs that occur."""
    pairs, images = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    return [(*pair, count) for pair, count in zip(pairs.tolist(), images.tolist(), strict=True)]


def find_most_confused(confusion, class_names) -> list[Confusion]:
    """Return the most frequent wrong pairs of what `count_confusions` returned."""
    wrong = [one for one in confusion if one[0] != one[1]]
    return [
        Confusion(class_names[true], class_names[predicted], images)
        for true, predicted, images in sorted(wrong, key=lambda one: -one[2])[:CONFUSIONS_LISTED]
    ]


def mcnemar_test(right, other_right) -> McNemar:
    """Test whether two classifiers differ by more than chance on the same images.

    Args:
        right: bool array (images,), whether the first classifier is correct.
        other_right: bool array (images,), whether the second classifier is correct.
    """
    first, second = int(np.sum(right & ~other_right)), int(np.sum(other_right & ~right))
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return McNemar(first, second, p)


def compute_agreement(probabilities, reference) -> float:
    """Return the share of images with the same top class in both arrays (images, classes)."""
    return float(np.mean(probabilities.argmax(axis=1) == reference.argmax(axis=1)))
