"""Compare an exported file with its specification and with the Keras model."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from ...evaluation.metrics import compute_accuracy, compute_agreement
from .result import PredictionMetrics
from .spec import FileSpec, TensorSpec

TOLERANCE = 1e-4  # maximum absolute error of probabilities that are computed in float32
SIMULATED = 0.02  # maximum absolute error compared with the simulation in training
# Minimum fraction of images within it. In deep networks, the rounding of ties adds up.
SIMULATED_SHARE = 0.9
CONFIDENCE = 0.05  # maximum mean error of the top class's probability in other types
Z = 1.959964  # 97.5% quantile of the normal distribution, for 95% intervals
CAUSES = {"scale": " An operation that splits or joins the image sets its scale."}


def compare_names(
    found: Sequence[str], expected: Sequence[str], what: str = "labels", place: str = "output"
) -> list[str]:
    """Return the first difference between two lists of class names as a problem, or none.

    Args:
        found: class names in an exported file.
        expected: class names of the model.
        what: what the names are, for the message.
        place: what a name belongs to, for the message.
    """
    for number, (name, right) in enumerate(zip(found, expected, strict=False)):
        if name != right:
            return [f"{what}: {place} {number} must be {right!r}. Received: {name!r}."]
    if len(found) != len(expected):
        return [f"{what}: expected {len(expected)} names. Received: {len(found)}."]
    return []


def compare_tensors(
    what: str,
    found: Sequence[TensorSpec],
    expected: Sequence[TensorSpec],
    signature: Sequence[str] | None = None,
) -> list[str]:
    """Return the differences between the inputs or outputs of a file and its specification.

    Args:
        what: "input" or "output", for the message.
        found: tensors in the file.
        expected: tensors in the specification.
        signature: names in the signature of a .tflite file.
    """
    names = [tensor.name for tensor in expected]
    for place, received in (("", [tensor.name for tensor in found]), ("signature ", signature)):
        if received is not None and list(received) != names:
            return [f"{what}: {place}names must be {names}. Received: {list(received)}."]
    return [
        f"{what}: {field.name} of {right.name} must be {getattr(right, field.name)}. "
        f"Received: {getattr(tensor, field.name)}.{CAUSES.get(field.name, '')}"
        for right, tensor in zip(expected, found, strict=True)
        for field in fields(TensorSpec)
        if getattr(right, field.name) not in (None, getattr(tensor, field.name))
    ]


def check_server(
    differences: dict[str, float],
    classes: Sequence[str],
    labels: Sequence[str],
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> list[str]:
    """Return the problems of the signatures and class names of a SavedModel.

    Args:
        differences: {signature: maximum absolute error compared with `serving_default`}.
        classes: the output `classes` for the first images.
        labels: class names in the SavedModel's asset.
        probabilities: the SavedModel's (images, classes).
        class_names: names of the classes.
    """
    problems = [
        f"signature: {name} differs from serving_default by up to {difference:.2g}. "
        f"The limit is {TOLERANCE:g}."
        for name, difference in differences.items()
        if not difference <= TOLERANCE
    ]
    count = min(len(classes), len(probabilities))  # either can reach the time limit
    top_names = [class_names[number] for number in probabilities[:count].argmax(axis=1)]
    problems += compare_names(classes[:count], top_names, "classes", "image")
    return problems + compare_names(labels, class_names)


def measure_predictions(
    probabilities: np.ndarray, reference: np.ndarray, labels: np.ndarray | None
) -> PredictionMetrics:
    """Return the accuracy of a file and its differences from the Keras model.

    Args:
        probabilities: the file's (images, classes).
        reference: the Keras model's (images, classes).
        labels: (images,) integer classes. None: the accuracy is not measured.
    """
    differences = np.abs(probabilities - reference)
    best = reference.argmax(axis=1)
    return PredictionMetrics(
        images=len(probabilities),
        **measure_accuracy(probabilities, reference, labels),
        agreement=compute_agreement(probabilities, reference),
        max_difference=float(differences.max()),
        mean_difference=float(differences.mean()),
        confidence_difference=float(
            np.take_along_axis(differences, best[:, np.newaxis], axis=1).mean()
        ),
    )


def measure_simulation(probabilities: np.ndarray, simulated: np.ndarray) -> float:
    """Return the fraction of images within `SIMULATED` of the simulation in training."""
    return float(np.mean(np.abs(probabilities - simulated).max(axis=1) <= SIMULATED))


def measure_accuracy(
    probabilities: np.ndarray, reference: np.ndarray, labels: np.ndarray | None
) -> dict[str, Any]:
    """Return the fields of `PredictionMetrics` that need labels."""
    if labels is None:
        return dict.fromkeys(("top1", "top5", "drop", "drop_interval"))
    before, after = (one.argmax(axis=1) == labels for one in (reference, probabilities))
    low, high = drop_interval(before, after)
    top = compute_accuracy(probabilities, labels)
    return {
        "top1": top.top1,
        "top5": top.top5,
        "drop": 100 * float(before.mean() - after.mean()),
        "drop_interval": (100 * low, 100 * high),
    }


def drop_interval(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of the loss of accuracy from one classifier to another.

    Args:
        before: (images,) booleans, whether the first classifier is correct.
        after: (images,) booleans, whether the second classifier is correct on the same images.

    Returns:
        Lower and upper bound as fractions.

    Reference:
        Agresti and Min 2005, Simple improved confidence intervals for comparing matched
        proportions. It adds half an image to each of the four cells, so that the interval is not
        empty if the classifiers never disagree.
    """
    images = len(before) + 2
    lost, won = (np.sum(before & ~after) + 0.5) / images, (np.sum(after & ~before) + 0.5) / images
    error = Z * np.sqrt((lost + won - (lost - won) ** 2) / images)
    return float(lost - won - error), float(lost - won + error)


def check_predictions(metrics: PredictionMetrics, spec: FileSpec, max_drop: float) -> list[str]:
    """Return the problems of a file's predictions on the verification images."""
    problems = []
    if spec.exact and not metrics.max_difference <= TOLERANCE:
        problems.append(
            f"probabilities: the maximum absolute error is {metrics.max_difference:.2g}. "
            f"The limit is {TOLERANCE:g}."
        )
        # Below the limit, the top class differs only if two are within twice the limit.
        if metrics.agreement < 1:
            others = round((1 - metrics.agreement) * metrics.images)
            problems.append(
                f"top class: {others} of {metrics.images} images differ from the Keras model."
            )
    if not spec.exact and not metrics.confidence_difference <= CONFIDENCE:
        problems.append(
            "probabilities: the mean absolute error of the top class is "
            f"{metrics.confidence_difference:.2g}. The limit is {CONFIDENCE:g}."
        )
    if metrics.simulated is not None and metrics.simulated < SIMULATED_SHARE:
        problems.append(
            f"simulation: {metrics.simulated:.2%} of the images are within {SIMULATED:g} of the "
            f"simulation in training. The minimum is {SIMULATED_SHARE:.0%}."
        )
    if metrics.drop is None or metrics.drop_interval is None:  # no labels
        return problems
    if not metrics.drop <= max_drop:
        low, high = metrics.drop_interval
        fix = "" if spec.exact else " To accept it, pass a higher --max-drop."
        if spec.integers:
            fix = " Find the layers to keep in float32 with keras-arch export --debug-quantization."
        if metrics.simulated is not None:
            fix = " Train longer with --quantize-aware, or pass --int8-ranges calibrated."
        problems.append(
            f"accuracy: the drop is {metrics.drop:.2f} points (95%: {low:.2f} to {high:.2f}). "
            f"The limit is {max_drop:g}.{fix}"
        )
    return problems
