"""Numbers from probabilities and labels."""

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support, recall_score

BINS = 15  # of confidence, for the calibration error
CONFUSED_PAIRS = 10


def accuracy(probabilities, labels):
    """Top-1, and top-5 where there are more than five classes, of probabilities (images, classes)."""
    classes = probabilities.shape[1]
    metrics = {
        "images": len(labels),
        "top1": float(accuracy_score(labels, probabilities.argmax(axis=1))),
    }
    if classes > 5:
        # Integer files give many classes the same probability. Of these the first stands before, as for argmax.
        own = np.take_along_axis(probabilities, labels[:, np.newaxis], axis=1)
        earlier = np.arange(classes) < labels[:, np.newaxis]
        before = (probabilities > own) | ((probabilities == own) & earlier)
        metrics["top5"] = float(np.mean(np.sum(before, axis=1) < 5))
    return metrics


def balanced_accuracy(probabilities, labels):
    """Return the recall of each class, 0 to 1, averaged over the classes that have images.

    Args:
        probabilities: (images, classes).
        labels: (images,) numbers of the true classes.
    """
    predicted = probabilities.argmax(axis=1)
    return float(
        recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    )


def compute_metrics(probabilities, labels, class_names):
    """All that the answers to labelled images tell.

    Args:
        probabilities: (images, classes).
        labels: (images,) numbers of the true classes.
        class_names: one for each class.

    Returns:
        What `accuracy` gives, and "top1_interval" and "top5_interval", 95% (Wilson); "balanced_accuracy"; "nll", the mean negative logarithm of
        the true class's probability; "ece", the expected calibration error (Guo et al. 2017, arXiv:1706.04599), and
        "calibration", a dict of "images", "confidence" and "accuracy" for each of 15 bins that is not empty; "classes", a
        dict of "precision", "recall", "f1" and "support" for each name; "confused", the most frequent mistakes as
        {"true", "predicted", "images"}; "confusion", a list of [true class, predicted class, images] with the numbers of the
        classes, for each pair that occurs, sorted.
    """
    found = accuracy(probabilities, labels)
    numbers = np.arange(len(class_names))
    predicted = probabilities.argmax(axis=1)
    for name in ("top1", "top5"):
        if name in found:
            found[f"{name}_interval"] = interval(round(found[name] * len(labels)), len(labels))
    # Integer files answer in steps of 1/256, so that their probabilities add up to about 1; and a zero has no logarithm.
    shares = np.clip(probabilities.astype("float64"), 1e-7, 1)
    found["balanced_accuracy"] = balanced_accuracy(probabilities, labels)
    found["nll"] = float(
        log_loss(labels, shares / shares.sum(axis=1, keepdims=True), labels=numbers)
    )
    found["calibration"] = bin_confidence(probabilities.max(axis=1), predicted == labels)
    gaps = [
        one["images"] * abs(one["confidence"] - one["accuracy"]) for one in found["calibration"]
    ]
    found["ece"] = float(sum(gaps) / len(labels))
    table = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    columns = ("precision", "recall", "f1", "support")
    found["classes"] = {
        name: {column: value.item() for column, value in zip(columns, row, strict=True)}
        for name, row in zip(class_names, zip(*table, strict=True), strict=True)
    }
    found["confusion"] = count_confusions(labels, predicted)
    found["confused"] = most_confused(found["confusion"], class_names)
    return found


def interval(right, images):
    """95% interval of a share (Wilson), as [low, high]."""
    found = binomtest(int(right), int(images)).proportion_ci(method="wilson")
    return [float(found.low), float(found.high)]


def bin_confidence(confidence, right):
    """How often the answers of each bin of confidence were right.

    Args:
        confidence: (images,) probability of the predicted class.
        right: (images,) truths.
    """
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        {
            "images": int(np.sum(bins == number)),
            "confidence": float(confidence[bins == number].mean()),
            "accuracy": float(right[bins == number].mean()),
        }
        for number in np.unique(bins)
    ]


def count_confusions(labels, predicted):
    """[true class, predicted class, images] of each pair of class numbers that occurs, sorted."""
    pairs, images = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    return [[*pair, count] for pair, count in zip(pairs.tolist(), images.tolist(), strict=True)]


def most_confused(counts, class_names):
    """The pairs of classes that are confused most, the true one first, of what `count_confusions` gives."""
    wrong = [one for one in counts if one[0] != one[1]]
    return [
        {"true": class_names[true], "predicted": class_names[other], "images": images}
        for true, other, images in sorted(wrong, key=lambda one: -one[2])[:CONFUSED_PAIRS]
    ]


def mcnemar(right, other_right):
    """Whether two classifiers differ by more than chance on the same images: the exact test of McNemar (1947).

    Args:
        right, other_right: (images,) truths.

    Returns:
        {"only_first", "only_second": images that one alone got right, "p": probability of so uneven a split or a more
        uneven one, if both were equally good}.
    """
    first, second = int(np.sum(right & ~other_right)), int(np.sum(other_right & ~right))
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return {"only_first": first, "only_second": second, "p": p}


def agreement(probabilities, reference):
    """The share of images for which both have the same top class."""
    return float(np.mean(probabilities.argmax(axis=1) == reference.argmax(axis=1)))
