"""Metrics, compared with independent computations."""

import json
import math
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

import keras_arch
from keras_arch.artifacts.artifact import Artifact
from keras_arch.data.splits import InMemory, InStream
from keras_arch.evaluation.evaluate import (
    MISTAKES_SHOWN,
    Evaluation,
    check_match,
    compare,
    evaluate,
    find_mistakes,
)
from keras_arch.evaluation.metrics import (
    CONFUSIONS_LISTED,
    ClassMetrics,
    Confusion,
    McNemar,
    compute_accuracy,
    compute_metrics,
    mcnemar_test,
    wilson_interval,
)
from keras_arch.reports.figures import draw_confusion, write_evaluation
from keras_arch.reports.tables import class_rows, confusions_line, evaluation_row

RNG = np.random.default_rng(0)


def test_metrics_by_hand():
    """Six images of three classes. The expected values are counted by hand."""
    probabilities = np.array(
        [
            [0.9, 0.1, 0],
            [0.8, 0.1, 0.1],
            [0.3, 0.6, 0.1],
            [0.2, 0.7, 0.1],
            [0.7, 0.2, 0.1],
            [0.1, 0.1, 0.8],
        ],
        "float32",
    )
    labels = np.array([0, 0, 0, 1, 1, 2])
    found = compute_metrics(probabilities, labels, ("a", "b", "c"))
    assert found.top1 == pytest.approx(4 / 6)
    assert found.top5 is None
    assert found.nll == pytest.approx(
        -sum(map(math.log, (0.9, 0.8, 0.3, 0.7, 0.2, 0.8))) / 6, rel=1e-6
    )
    assert found.confusion == [(0, 0, 2), (0, 1, 1), (1, 0, 1), (1, 1, 1), (2, 2, 1)]
    assert found.classes["a"] == ClassMetrics(2 / 3, 2 / 3, pytest.approx(2 / 3), 3)
    assert found.most_confused == [Confusion("a", "b", 1), Confusion("b", "a", 1)]
    # Bins of 1/15: 0.9 (right), two of 0.8 (right), two of 0.7 (one right), 0.6 (wrong).
    assert found.ece == pytest.approx((0.1 + 2 * 0.2 + 2 * 0.2 + 0.6) / 6, abs=1e-6)


def test_metrics_of_many_classes_are_a_small_file(tmp_path, monkeypatch):
    """With 3,000 classes, a full matrix in JSON has over 100 MB, a sparse one less than 2 MB."""
    monkeypatch.setattr("keras_arch.reports.figures.draw_confusion", lambda *_: None)
    rng, classes = np.random.default_rng(0), 3000
    labels = rng.integers(0, classes, 1000)
    predicted = np.where(rng.random(1000) < 0.7, labels, rng.integers(0, classes, 1000))
    probabilities = np.full((1000, classes), 0.1 / (classes - 1), "float32")
    probabilities[np.arange(1000), predicted] = 0.9
    names = tuple(f"class {number}" for number in range(classes))
    metrics = compute_metrics(probabilities, labels, names)
    row = Evaluation("a", 1, metrics, 1.0, None, 1.0)
    split = InMemory(np.zeros((1000, 1, 1, 1), "uint8"), labels)
    data = keras_arch.data.dataset.Dataset("many", split, split, split, names, (1, 1, 1))
    write_evaluation(tmp_path, data, "test", ["a"], [row], [probabilities], labels)
    path = tmp_path / "metrics.json"
    assert path.stat().st_size < 2e6
    counts = json.loads(path.read_text())["artifacts"][0]["metrics"]["confusion"]
    matrix = confusion_matrix(labels, predicted, labels=np.arange(classes))
    assert all(matrix[true, other] == images for true, other, images in counts)
    assert len(counts) == np.count_nonzero(matrix)
    assert sum(images for *_, images in counts) == 1000
    wrong = matrix - np.diag(np.diag(matrix))
    assert [pair.images for pair in metrics.most_confused] == np.sort(wrong, axis=None)[
        : -CONFUSIONS_LISTED - 1 : -1
    ].tolist()


def test_figure_of_the_confusion_matrix_shows_the_counts(tmp_path, monkeypatch):
    shown = {}
    monkeypatch.setattr(Axes, "imshow", lambda axes, image, **options: shown.update(image=image))
    draw_confusion(tmp_path / "a.png", [[0, 0, 3], [0, 2, 1], [2, 2, 5]], ("a", "b", "c"))
    np.testing.assert_array_equal(shown["image"], [[0.75, 0, 0.25], [0, 0, 0], [0, 0, 1]])


SIX = np.array(
    [
        [0.30, 0.25, 0.20, 0.15, 0.07, 0.03],
        [0.30, 0.25, 0.20, 0.15, 0.07, 0.03],
        [0.30, 0.25, 0.20, 0.15, 0.07, 0.03],
        [
            1.00,
            0.00,
            0.00,
            0.00,
            0.00,
            0.00,
        ],  # integer file: the true class is the first of five zeros
    ],
    "float32",
)


def test_top5_by_hand():
    found = compute_metrics(SIX, np.array([0, 4, 5, 1]), "abcdef")
    assert (found.top1, found.top5) == (1 / 4, 3 / 4)
    assert found.top5_interval == wilson_interval(3, 4)
    assert compute_accuracy(SIX[3:], np.array([5])).top5 == 0


def test_models_are_compared_with_the_first(digits, monkeypatch):
    """The first model is right for classes 0 to 4, the second for classes 4 to 9."""
    labels = digits.test.labels

    def artifact(name, known):
        answers = np.eye(10, dtype="float32")[
            np.where(np.isin(labels, known), labels, (labels + 1) % 10)
        ]
        return Artifact(Path(name), "keras", (8, 8, 1), 10, 7, answers_in_order(answers))

    def answers_in_order(answers):
        left = list(answers)
        return lambda images: np.stack([left.pop(0) for _ in images])

    monkeypatch.setattr(
        "keras_arch.evaluation.evaluate.measure_latency", lambda artifact, images: 0.002
    )
    rows, _, found = compare([artifact("a", range(5)), artifact("b", range(4, 10))], digits)
    np.testing.assert_array_equal(found, labels)
    counts = np.bincount(labels)
    assert rows[1].against_first == McNemar(
        counts[:4].sum(),
        counts[5:].sum(),
        pytest.approx(
            binomtest(int(counts[:4].sum()), int(counts[:4].sum() + counts[5:].sum())).pvalue
        ),
    )
    assert rows[1].agreement == pytest.approx(counts[4] / 360)
    assert rows[0].against_first is None
    assert evaluation_row(rows[1])["significant"] == (
        "yes" if rows[1].against_first.p < 0.05 else "no"
    )
    assert confusions_line(rows[0].metrics).startswith("Most frequent confusions: ")
    assert [row["images"] for row in class_rows(rows[0].metrics)] == [
        str(count) for count in counts
    ]


def test_wilson_interval_equals_published_values():
    """The interval for 81 of 263 is 0.2553 to 0.3662 (Newcombe 1998, table I, method 3)."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson_interval(10, 10)[1] == 1


def test_mcnemar_by_hand():
    """With nine of ten disagreements on one side, p is 2 * (1 + 10) / 2^10."""
    right, other = np.ones(50, bool), np.ones(50, bool)
    right[:1], other[1:10] = False, False
    assert mcnemar_test(right, other) == McNemar(9, 1, pytest.approx(22 / 1024))
    assert mcnemar_test(right, right).p == 1


def test_a_calibrated_model_has_no_calibration_error():
    probabilities = RNG.dirichlet((0.3, 0.3, 0.3), 50_000)
    labels = (RNG.random((50_000, 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(max=2)
    assert compute_metrics(probabilities, labels, "abc").ece < 0.01


@pytest.mark.parametrize("streamed", [False, True])
def test_mistakes_are_sorted_by_confidence(streamed):
    import tensorflow as tf

    images = np.arange(60, dtype="uint8")[:, None, None, None] * np.ones((1, 4, 4, 1), "uint8")
    labels = RNG.integers(0, 2, 60)
    split = InMemory(images, labels)
    if streamed:
        split = InStream(tf.data.Dataset.from_tensor_slices((images, labels)), 60, (4, 4, 1))
    data = keras_arch.data.dataset.Dataset("noise", split, split, split, ("no", "yes"), (4, 4, 1))
    sure = RNG.uniform(0.5, 1, 60)
    wrong = RNG.random(60) < 0.5
    probabilities = np.stack([1 - sure, sure], axis=1)
    probabilities[(labels == 0) ^ wrong] = probabilities[(labels == 0) ^ wrong, ::-1]
    found = find_mistakes(probabilities, labels, data)
    expected = sorted(np.flatnonzero(wrong), key=lambda number: -sure[number])[:MISTAKES_SHOWN]
    assert [image[0, 0, 0] for image, *_ in found] == expected
    assert all(true != predicted for _, true, predicted, _ in found)
    assert [confidence for *_, confidence in found] == sorted(sure[wrong])[::-1][:MISTAKES_SHOWN]
    sample, some_labels = split.sample(7, seed=1)
    np.testing.assert_array_equal(labels[sample[:, 0, 0, 0]], some_labels)
    assert len(set(sample[:, 0, 0, 0].tolist())) == 7


def test_rgb_model_takes_grayscale_images(digits):
    seen = []

    def predict(images):
        seen.append(images.shape)
        return np.eye(10, dtype="float32")[np.zeros(len(images), int)]

    artifact = Artifact(Path("model.keras"), "keras", (8, 8, 3), 10, 0, predict)
    assert evaluate(artifact, digits).images == 360
    assert {shape[1:] for shape in seen} == {(8, 8, 3)}
    with pytest.raises(
        keras_arch.InputError,
        match=r"images of shape \(8, 8, 1\), as data set 'digits' has. Received: .* \(9, 8, 3\)",
    ):
        check_match(Artifact("this", "keras", (9, 8, 3), 10, 0, predict), digits)


def test_logits_are_rejected(tmp_path):
    image = keras.Input((4, 4, 1))
    keras.Model(
        image, keras.layers.Dense(3, bias_initializer="ones")(keras.layers.Flatten()(image))
    ).save(tmp_path / "logits.keras")
    artifact = keras_arch.open_artifact(tmp_path / "logits.keras")
    with pytest.raises(
        keras_arch.InputError, match=r"logits.keras must output class probabilities"
    ):
        artifact.predict(np.full((1, 4, 4, 1), 200, "float32"))


def test_other_class_names_are_rejected(quickstart, script, tmp_path, digits, capfd):
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for label, name in enumerate(names):
        (tmp_path / "words" / name).mkdir(parents=True)
        for number in range(4):
            image = digits.test.images[digits.test.labels == label][number, ..., 0]
            Image.fromarray(image).save(tmp_path / "words" / name / f"{number}.png")
    assert script("evaluate.py", quickstart / "model.keras", "--dataset", tmp_path / "words") == 2
    assert (
        "classes that the model does not have. Received: eight, five, four and 7 more"
        in capfd.readouterr().err
    )


def test_evaluation_writes_figures(quickstart, script, tmp_path, capfd, monkeypatch):
    files = [quickstart / "export/model_float32.tflite", quickstart / "export/model_int8.tflite"]
    monkeypatch.chdir(quickstart.parent)
    files.append(
        quickstart.relative_to(quickstart.parent)
    )  # a relative run directory next to absolute paths
    assert script("evaluate.py", *files, "--output", tmp_path / "given") == 0
    printed = capfd.readouterr().out
    assert re.search("float32 .* int8 .* quickstart", printed)
    assert re.search(r"significant .* no ", printed)
    assert "Most frequent confusions: " in printed
    drawn = ("confusion", "mistakes", "reliability")
    names = [f"{name}_{what}.png" for name in ("float32", "int8", "quickstart") for what in drawn]
    tables = [f"{name}_predictions.csv" for name in ("float32", "int8", "quickstart")]
    assert sorted(path.name for path in (tmp_path / "given").iterdir()) == sorted(
        [*names, *tables, "metrics.json"]
    )
    for table in tables:
        assert (tmp_path / "given" / table).read_text().count("\n") == 361
    for name in names:
        with Image.open(tmp_path / "given" / name) as picture:
            assert min(picture.size) >= 200
