"""The same numbers, by the same code, for .keras, SavedModel, .tflite and .onnx."""

import time

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    log_loss,
    precision_recall_fscore_support,
    recall_score,
)

from .errors import InputError, choose, explain_surroundings
from .text import shorten

BATCH = 256
LATENCY_RUNS = 50  # images one at a time, of which the median is taken
LATENCY_WARMUP = 5
BINS = 15  # of confidence, for the calibration error
CONFUSED_PAIRS = 10
MISTAKES = 24  # that are shown
CLASSES = 20  # that are shown on a screen


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


def predict_splits(artifact, dataset):
    """{split: what `predict_split` gives} of the two splits that a trained model is measured on, validation and test."""
    return {split: predict_split(artifact, dataset, split) for split in ("validation", "test")}


def with_channels(images, artifact):
    """Images (batch, height, width, channels) as the artifact takes them: a grey one repeats itself for red, green, blue."""
    return np.broadcast_to(images, (*images.shape[:3], artifact.image_shape[2]))


def check_match(artifact, dataset):
    """Raise InputError unless the artifact was made for such images, or for such in colour, and so many classes."""
    for name, value, maker in (("artifact", artifact, "open_artifact"), ("dataset", dataset, "load_dataset")):
        if not hasattr(value, "image_shape"):
            raise InputError(f"`{name}` must be from keras_arch.{maker}. Received: {type(value).__name__}.")
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


def accuracy(probabilities, labels):
    """Top-1, and top-5 where there are more than five classes, of probabilities (images, classes)."""
    classes = probabilities.shape[1]
    metrics = {"images": len(labels), "top1": float(accuracy_score(labels, probabilities.argmax(axis=1)))}
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
    return float(recall_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0))


def measure(probabilities, labels, class_names):
    """All that the answers to labelled images tell.

    Args:
        probabilities: (images, classes).
        labels: (images,) numbers of the true classes.
        class_names: one for each class.

    Returns:
        What `accuracy` gives, and "top1_interval" and "top5_interval", 95% (Wilson); "nll", the mean negative logarithm of
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
    found["nll"] = float(log_loss(labels, shares / shares.sum(axis=1, keepdims=True), labels=numbers))
    found["calibration"] = calibration(probabilities.max(axis=1), predicted == labels)
    gaps = [one["images"] * abs(one["confidence"] - one["accuracy"]) for one in found["calibration"]]
    found["ece"] = float(sum(gaps) / len(labels))
    table = precision_recall_fscore_support(labels, predicted, labels=numbers, zero_division=0)
    columns = ("precision", "recall", "f1", "support")
    found["classes"] = {
        name: {column: value.item() for column, value in zip(columns, row, strict=True)}
        for name, row in zip(class_names, zip(*table, strict=True), strict=True)
    }
    found["confusion"] = confusion(labels, predicted)
    found["confused"] = confused(found["confusion"], class_names)
    return found


def interval(right, images):
    """95% interval of a share (Wilson), as [low, high]."""
    found = binomtest(int(right), int(images)).proportion_ci(method="wilson")
    return [float(found.low), float(found.high)]


def calibration(confidence, right):
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


def confusion(labels, predicted):
    """[true class, predicted class, images] of each pair of class numbers that occurs, sorted."""
    pairs, images = np.unique(np.stack([labels, predicted], axis=1), axis=0, return_counts=True)
    return [[*pair, count] for pair, count in zip(pairs.tolist(), images.tolist(), strict=True)]


def confused(counts, class_names):
    """The pairs of classes that are confused most, the true one first, of what `confusion` gives."""
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


@explain_surroundings()
def compare(artifacts, dataset, split="test", progress=lambda batches, total: batches):
    """What each artifact scores on one split, and whether it differs from the first.

    Returns:
        A list of dicts of "artifact", "bytes", what `measure` gives, "agreement" (share of images with the top class of
        the first artifact), "against_first" (of `mcnemar`; not for the first) and "latency_ms" (median of one image at
        batch 1); a list of (images, classes) probabilities; and the labels (images,).

    Raises:
        InputError (a ValueError): an artifact has another number of classes, or another image shape.
    """
    for artifact in artifacts:
        check_match(artifact, dataset)
    if not getattr(dataset, split).count:
        raise InputError(f"Data set {dataset.name!r} has no images in its {split} split. Evaluate --split all")
    rows: list[dict] = []
    answers: list[np.ndarray] = []
    images = np.stack([image for image, _ in getattr(dataset, split).examples.take(LATENCY_RUNS).as_numpy_iterator()])
    for artifact in artifacts:
        probabilities, labels = predict_split(artifact, dataset, split, progress)
        answers.append(probabilities)
        row = {
            "artifact": str(artifact.path),
            "bytes": artifact.size,
            **measure(probabilities, labels, dataset.class_names),
        }
        row["agreement"] = agreement(probabilities, answers[0])
        if len(answers) > 1:
            row["against_first"] = mcnemar(*(one.argmax(axis=1) == labels for one in (answers[0], probabilities)))
        row["latency_ms"] = 1000 * latency(artifact, with_channels(images, artifact))
        rows.append(row)
    return rows, answers, labels


def agreement(probabilities, reference):
    """The share of images for which both have the same top class."""
    return float(np.mean(probabilities.argmax(axis=1) == reference.argmax(axis=1)))


def mistakes(probabilities, labels, dataset, split="test"):
    """The wrong answers of most confidence: [(image, true class, predicted class, confidence)], the worst first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:MISTAKES]
    images, true = getattr(dataset, split).at(worst)
    return [
        (image, dataset.class_names[label], dataset.class_names[answer.argmax()], float(answer.max()))
        for image, label, answer in zip(images, true, probabilities[worst], strict=True)
    ]


def latency(artifact, images):
    """Median seconds for one image at batch 1, over `images` taken in turn."""
    seconds = []
    for run in range(LATENCY_WARMUP + LATENCY_RUNS):
        image = images[run % len(images)][np.newaxis]
        started = time.perf_counter()
        artifact.predict(image)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[LATENCY_WARMUP:]))


CHANCE = 0.05  # below this p a difference is called more than chance


def legend(rows):
    """What the titles of `cells` mean, of those that are there."""
    told = (
        "from, to: 95% intervals. nll: negative log-likelihood. ece: expected calibration error. ms: one image, median."
    )
    if len(rows) > 1:
        told += (
            "\nagrees: images with the top class of the first artifact. lost, won: images that the first alone, or this one\n"
            f"alone, got right. p: how likely so uneven a split is if both are equally good. differs: by more than chance, p < {CHANCE:g}."
        )
    return told


def class_cells(row):
    """A row of text for each class that has images, of what `compare` gives, the worst first where they are many."""
    present = [(name, found) for name, found in row["classes"].items() if found["support"]]
    classes = sorted(present, key=lambda one: one[1]["f1"] if len(present) > CLASSES else 0)
    return [
        {
            "class": shorten(name),
            **{f"{column} %": f"{100 * found[column]:.2f}" for column in ("precision", "recall", "f1")},
            "images": f"{found['support']:,}",
        }
        for name, found in classes[:CLASSES]
    ]


def absent_classes(row):
    """The classes without images as a sentence, or nothing if there are none."""
    names = [shorten(name) for name, found in row["classes"].items() if not found["support"]]
    more = f" and {len(names) - CLASSES:,} more" if len(names) > CLASSES else ""
    return f"No images of: {', '.join(names[:CLASSES])}{more}." if names else ""


def confused_pairs(row):
    """The most frequent mistakes as a sentence."""
    pairs = (
        f"{shorten(one['true'])} taken for {shorten(one['predicted'])} ({one['images']:,})" for one in row["confused"]
    )
    return f"Most confused: {', '.join(pairs) or 'none'}."


def cells(row):
    """{title: text} of one artifact, of what `compare` gives."""
    found = {"size MB": f"{row['bytes'] / 1e6:.2f}"}
    for title, name in {"top-1": "top1", "top-5": "top5"}.items():
        if name in row:
            low, high = row[f"{name}_interval"]
            shares = {f"{title} %": row[name], f"{title} from": low, f"{title} to": high}
            found |= {column: f"{100 * share:.2f}" for column, share in shares.items()}
    found |= {
        "nll": f"{row['nll']:.4f}",
        "ece %": f"{100 * row['ece']:.2f}",
    }
    if "against_first" in row:
        test = row["against_first"]
        found |= {
            "agrees %": f"{100 * row['agreement']:.2f}",
            "lost, won": f"{test['only_first']}, {test['only_second']}",
            "p": f"{test['p']:.2g}",
            "differs": "yes" if test["p"] < CHANCE else "no",
        }
    return found | {"ms": f"{row['latency_ms']:.2f}"}
