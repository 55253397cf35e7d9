"""Temperature scaling: one number makes probabilities match the accuracy (Guo et al. 2017).

All functions take logits or probabilities. `keras_arch.calibrate` applies them to a model.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from ..errors import InputError
from .metrics import BINS, Metrics, bins_of, wilson_interval

COLDEST, HOTTEST = 0.01, 100  # temperatures that are searched
RESAMPLES = 1000  # of the test images, for the intervals of the calibration error
LEVELS = (0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)  # rows of the acceptance table
THRESHOLDS = np.arange(1000) / 1000  # where a threshold is searched


@dataclass(frozen=True)
class Acceptance:
    """The test images that a probability threshold accepts."""

    threshold: float
    """Lowest probability of the predicted class that is accepted, 0 to 1."""
    share: float
    """Share of the test images that are accepted, 0 to 1."""
    accuracy: float | None
    """Accuracy on the accepted images, 0 to 1. None: no image is accepted."""
    accuracy_interval: tuple[float, float] | None
    """95% Wilson interval of `accuracy`. None: no image is accepted."""


@dataclass(frozen=True)
class CalibrationError:
    """How far the probabilities are from the accuracy, on the test split."""

    nll: float
    """Mean negative log-likelihood of the true class."""
    ece: float
    """Expected calibration error, 0 to 1."""
    ece_interval: tuple[float, float]
    """95% interval of `ece` from 1,000 resamples of the images (bootstrap)."""


@dataclass(frozen=True)
class Calibration:
    """What `keras_arch.calibrate` found. The temperature and threshold are from validation."""

    temperature: float
    """The logits are divided by it. Above 1, the model was too confident."""
    before: CalibrationError
    """Calibration error of the given model."""
    after: CalibrationError
    """Calibration error of the calibrated model."""
    accuracy: float
    """Accuracy that the threshold must reach on validation, 0 to 1."""
    recommended: Acceptance | None
    """The lowest threshold that reaches `accuracy` on validation, measured on test. None: no
    threshold reaches it."""
    accepted: tuple[Acceptance, ...]
    """Acceptance at the thresholds 0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95 and 0.99."""


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the lowest negative log-likelihood.

    The negative log-likelihood is convex in 1 / temperature, so it has one minimum.

    Args:
        logits: array (images, classes).
        labels: integer array (images,), the true classes.

    Raises:
        InputError (a ValueError): there is no minimum. If all images are classified correctly, a
            lower temperature is always better. If logits say nothing about the classes, a higher
            one is.
    """
    logits = np.asarray(logits, "float64")
    if not np.isfinite(logits).all():
        raise InputError(
            "The logits of the model must be finite. Received: NaN or infinity. Train the model "
            "again with a lower learning rate."
        )

    def nll(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[np.arange(len(labels)), labels].mean())

    low, high = np.log(COLDEST), np.log(HOTTEST)
    found = minimize_scalar(nll, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x
    if high - found < 1e-3:
        raise InputError(
            "The model must be better than chance on validation. Received: logits that do not "
            "predict the classes. Train the model longer."
        )
    right = int(np.sum(logits.argmax(axis=1) == labels))
    if right == len(labels) or found - low < 1e-3:
        raise InputError(
            "A temperature needs validation images that the model classifies wrongly. "
            f"Received: {right:,} of {len(labels):,} correct. Add validation images, or use the "
            "model as it is."
        )
    return float(np.exp(found))


def to_probabilities(logits: np.ndarray, temperature: float = 1) -> np.ndarray:
    """Return softmax(logits / temperature) as float32, computed in float64."""
    return softmax(np.asarray(logits, "float64") / temperature, axis=1).astype("float32")


def measure_error(metrics: Metrics, probabilities: np.ndarray, labels: np.ndarray):
    """Return the `CalibrationError` of probabilities (images, classes) and their metrics."""
    confidence = probabilities.max(axis=1).astype("float64")
    interval = resample_ece(confidence, probabilities.argmax(axis=1) == labels)
    return CalibrationError(metrics.nll, metrics.ece, interval)


def resample_ece(confidence: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of the ECE.

    These are the 2.5th and the 97.5th percentile of the ECE of resampled images. Resampling adds
    noise to the accuracy in each bin, which raises the ECE. The mean of this increase is subtracted.

    Args:
        confidence: array (images,), probability of the predicted class.
        right: bool array (images,), whether the prediction is correct.
    """
    images = len(right)
    gaps = np.zeros((images, BINS))  # in its bin, what an image adds to confidence - accuracy
    gaps[np.arange(images), bins_of(confidence)] = confidence - right
    rng = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        counts = np.bincount(rng.integers(0, images, images), minlength=images)
        found.append(np.abs(counts @ gaps).sum() / images)
    increase = np.mean(found) - np.abs(gaps.sum(axis=0)).sum() / images
    low, high = np.percentile(found, (2.5, 97.5)) - increase
    return float(max(low, 0)), float(high)


def accept(probabilities: np.ndarray, labels: np.ndarray, threshold: float) -> Acceptance:
    """Return which share of the images a threshold accepts, and their accuracy."""
    confident = is_confident(probabilities, threshold)
    images, right = int(confident.sum()), count_right(probabilities, labels, confident)
    return Acceptance(
        threshold,
        images / len(labels),
        right / images if images else None,
        wilson_interval(right, images) if images else None,
    )


def is_confident(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Return whether the highest probability of each image is at least `threshold`."""
    return probabilities.max(axis=1).astype("float64") >= threshold


def count_right(probabilities: np.ndarray, labels: np.ndarray, chosen: np.ndarray) -> int:
    """Return the number of chosen images that are classified correctly."""
    return int(np.sum((probabilities.argmax(axis=1) == labels)[chosen]))


def find_threshold(probabilities: np.ndarray, labels: np.ndarray, accuracy: float) -> float | None:
    """Return the lowest of the thresholds 0, 0.001, ... 0.999 that reaches an accuracy.

    Args:
        probabilities: array (images, classes).
        labels: integer array (images,), the true classes.
        accuracy: required accuracy on the accepted images, 0 to 1.

    Returns:
        The threshold, or None if none reaches the accuracy.
    """
    for threshold in THRESHOLDS.tolist():
        confident = is_confident(probabilities, threshold)
        images = int(confident.sum())
        if images and count_right(probabilities, labels, confident) >= accuracy * images:
            return threshold
    return None
