"""What is wrong with the answers of an exported file."""

import dataclasses

import numpy as np

from ...evaluation.metrics import compute_accuracy, compute_agreement
from ...files import without_none

TOLERANCE = 1e-4  # between probabilities that are computed in float32
CONFIDENCE = 0.05  # that the probability of a class may move by in smaller numbers, on average


Z = 1.959964  # standard deviations: 95% of a normal distribution are within


def compare_labels(labels, class_names):
    """What is wrong with the labels in a file."""
    for number, (found, expected) in enumerate(zip(labels, class_names, strict=False)):
        if found != expected:
            return [f"labels: expected {expected!r} for output {number}, got {found!r}"]
    if len(labels) != len(class_names):
        return [f"labels: expected {len(class_names)}, got {len(labels)}"]
    return []


def check_tensors(answer, promise):
    """What is wrong with the names, types and shapes of the inputs and outputs."""
    problems = []
    for kind, expected in (("inputs", promise.inputs), ("outputs", promise.outputs)):
        found, names = answer[kind], [end["name"] for end in expected]
        if [end["name"] for end in found] != names:
            problems.append(f"{kind[:-1]}: expected {names}, got {[end['name'] for end in found]}")
        elif answer.get("signature", {kind: names})[kind] != names:
            problems.append(
                f"{kind[:-1]}: expected {names} in the signature, got {answer['signature'][kind]}"
            )
        else:
            pairs = zip(expected, found, strict=True)
            problems += [
                f"{kind[:-1]}: expected {field} {end[field]} of {end['name']}, got {other[field]}"
                for end, other in pairs
                for field in end
                if end[field] != other[field]
            ]
    return problems


def check_server(answer, truth):
    """What is wrong with the other ways into a SavedModel, and with its class names."""
    problems = [
        f"signature: {name} answers otherwise than serving_default, by up to {difference:.2g}"
        for name, difference in answer["differences"].items()
        if not difference <= TOLERANCE
    ]
    best = truth.probabilities[: len(answer["classes"])].argmax(axis=1)
    named = compare_labels(answer["classes"], [truth.class_names[number] for number in best])
    problems += [
        problem.replace("labels: ", "classes: ").replace("output", "image") for problem in named
    ]
    return problems + compare_labels(answer["labels"], truth.class_names)


def compare_answers(probabilities, truth):
    """How right the answers are, and how far from the model's own."""
    differences = np.abs(probabilities - truth.probabilities)
    best = truth.probabilities.argmax(axis=1)
    before, after = (
        one.argmax(axis=1) == truth.labels for one in (truth.probabilities, probabilities)
    )
    return {
        **dataclasses.asdict(
            compute_accuracy(probabilities, truth.labels), dict_factory=without_none
        ),
        "drop": 100 * float(before.mean() - after.mean()),
        "drop_interval": [100 * side for side in drop_interval(before, after)],
        "agreement": compute_agreement(probabilities, truth.probabilities),
        "max_difference": float(differences.max()),
        "mean_difference": float(differences.mean()),
        "confidence_difference": float(
            np.take_along_axis(differences, best[:, np.newaxis], axis=1).mean()
        ),
    }


def drop_interval(before, after):
    """95% interval of the loss in accuracy from one classifier to another on the same images.

    Args:
        before: (images,) truths: whether the first was right.
        after: the same of the second.

    Reference: Agresti and Min 2005, Simple improved confidence intervals for comparing matched proportions: half an
    image more in each of the four cells, so that no disagreement does not mean no doubt.
    """
    images = len(before) + 2
    lost, won = (np.sum(before & ~after) + 0.5) / images, (np.sum(after & ~before) + 0.5) / images
    error = Z * np.sqrt((lost + won - (lost - won) ** 2) / images)
    return float(lost - won - error), float(lost - won + error)


def check_answers(row, promise, truth):
    """What is wrong with the answers to the held-out images."""
    problems = []
    if promise.exact and not row["max_difference"] <= TOLERANCE:
        problems.append(
            f"probabilities: differ from the model's by up to {row['max_difference']:.2g}; at most {TOLERANCE:g} is "
            "rounding"
        )
    if promise.exact and row["agreement"] < 1:
        others = round((1 - row["agreement"]) * row["images"])
        problems.append(
            f"top class: differs from the model's on {others} of {row['images']} images"
        )
    if not promise.exact and not row["confidence_difference"] <= CONFIDENCE:
        problems.append(
            f"probabilities: that of the model's class differs by {row['confidence_difference']:.2g} on average; at most "
            f"{CONFIDENCE:g} is rounding"
        )
    if not row["drop"] <= truth.max_drop:
        low, high = row["drop_interval"]
        problems.append(
            f"accuracy: drops by {row['drop']:.2f} points (95%: {low:.2f} to {high:.2f}); at most {truth.max_drop:g} is "
            "allowed"
            + "; --debug-quantization names the layers to keep in float32"
            * promise.integers
        )
    return problems
