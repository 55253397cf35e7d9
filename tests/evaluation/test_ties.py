"""Of equally probable classes, the first one counts, in every command and file."""

import csv
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

import keras_arch
from keras_arch.class_names import write_labels
from keras_arch.data.dataset import Dataset
from keras_arch.data.splits import InMemory
from keras_arch.evaluation.evaluate import compare, find_mistakes
from keras_arch.evaluation.grad_cam import grad_cam
from keras_arch.evaluation.metrics import compute_agreement, compute_metrics
from keras_arch.evaluation.predictions import classify
from keras_arch.evaluation.ranking import top_classes
from keras_arch.export.saved_model import write_saved_model
from keras_arch.export.verification.checks import (
    check_predictions,
    check_server,
    measure_predictions,
)
from keras_arch.export.verification.spec import FileSpec
from keras_arch.reports.predictions import WRITERS

NAMES = tuple("abcdefg")
LOGITS = (0, 1, 0, 1, 0, -1, 0)  # of any image: the classes b and d are tied, and a, c, e and g
ORDER = "bdacegf"


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """A directory with an image and a SavedModel whose classes are tied."""
    folder = tmp_path_factory.mktemp("tied")
    image = keras.Input((4, 4, 1))
    model = keras.Model(image, layers.Dense(7, "softmax")(layers.Flatten()(image)))
    model.layers[-1].set_weights([np.zeros((16, 7)), np.array(LOGITS)])
    write_labels(folder / "labels.txt", NAMES)
    write_saved_model(model, folder / "saved_model", folder / "labels.txt", NAMES)
    Image.new("L", (4, 4)).save(folder / "black.png")
    return folder


@pytest.fixture(scope="module")
def artifact(tied):
    return keras_arch.open_artifact(tied / "saved_model")


@pytest.fixture(scope="module")
def dataset():
    """Seven black images, one of each class."""
    split = InMemory(np.zeros((7, 4, 4, 1), "uint8"), np.arange(7))
    return Dataset("black", split, split, split, NAMES, (4, 4, 1), "")


def read_table(printed):
    return [pair.rsplit(" ", 1)[0] for pair in printed.rpartition(": ")[2].split(", ")]


def read_json(printed):
    return [one["label"] for one in json.loads(printed)["classes"]]


def read_csv(printed):
    (row,) = csv.DictReader(io.StringIO(printed))
    return [value for name, value in row.items() if name.startswith("label")]


@pytest.mark.parametrize("read", [read_table, read_json, read_csv])
def test_predict(read, tied, artifact, capsys):
    predictions = classify(artifact, [tied / "black.png"], NAMES, 7)
    WRITERS[read.__name__.removeprefix("read_")](predictions)
    assert "".join(read(capsys.readouterr().out)) == ORDER


def test_evaluate_and_compare(artifact, dataset):
    """Of the seven images, one is of class b and five are of the first five classes."""
    accuracy = keras_arch.evaluate(artifact, dataset)
    assert (accuracy.top1, accuracy.top5) == (1 / 7, 5 / 7)
    (row, same), (probabilities, _), labels = compare([artifact, artifact], dataset)
    assert row.metrics.confusion == [(label, 1, 1) for label in range(7)]
    assert (row.agreement, same.agreement) == (1, 1)
    assert same.against_first.p == 1
    mistakes = find_mistakes(probabilities, labels, dataset)
    assert {one.predicted for one in mistakes} == {"b"}
    top5 = top_classes(probabilities, 5)
    assert compute_metrics(probabilities, labels, NAMES).top5 == np.mean(
        (top5 == labels[:, np.newaxis]).any(axis=1)
    )


def test_agreement_and_verification():
    """One of the two tied classes is a little more probable in the reference."""
    tied = np.array([[0.0, 0.5, 0.0, 0.5]] * 2)
    reference = np.array([[0.0, 0.5, 0.0, 0.4], [0.0, 0.4, 0.0, 0.5]])
    assert compute_agreement(tied, reference) == 0.5
    measured = measure_predictions(tied, reference, np.array([1, 3]))
    assert (measured.agreement, measured.top1, measured.drop) == (0.5, 0.5, 50)
    assert check_server({}, ["b", "b"], "abcd", tied, "abcd") == []
    assert check_server({}, ["b", "d"], "abcd", tied, "abcd") != []


def test_an_exact_file_may_choose_another_of_two_equal_classes():
    reference = np.array([[0.0, 0.5, 0.5]] * 2)
    spec = FileSpec("model_float32.tflite", "tflite", True, (), ())
    for change, problems in ((1e-6, []), (1e-3, ["probabilities", "top class"])):
        found = reference + change * np.array([[0, 0, 1], [0, 1, 0]])
        metrics = measure_predictions(found, reference, None)
        assert metrics.agreement == 0.5
        received = check_predictions(metrics, spec, 1.0)
        assert [problem.split(":")[0] for problem in received] == problems


def test_classes_of_a_saved_model(tied):
    signatures = tf.saved_model.load(str(tied / "saved_model")).signatures
    images = tf.zeros((3, 4, 4, 1), tf.uint8)
    assert signatures["serve_uint8"](image=images)["classes"].numpy().tolist() == [b"b"] * 3


def test_argmax_of_tensorflow_and_keras():
    """The SavedModel, Grad-CAM and the metric of the training use them.

    TensorFlow does not document which of several maxima it returns.
    """
    shares = np.random.default_rng(0).integers(0, 3, (64, 1000)).astype("float32") / 256
    expected = top_classes(shares, 1)[:, 0]
    np.testing.assert_array_equal(expected, [row.tolist().index(max(row)) for row in shares])
    for argmax in (tf.argmax, tf.function(tf.argmax), keras.ops.argmax):
        np.testing.assert_array_equal(argmax(shares, axis=-1), expected)


def test_grad_cam_explains_the_first_class():
    """Class 0 is the brightness of the left half, class 1 that of the right half."""
    image = keras.Input((8, 8, 1))
    maps = layers.Conv2D(2, 1, use_bias=False, name="maps")(image)
    position = np.zeros((8, 8, 2), "float32")
    position[:, :4, 0] = position[:, 4:, 1] = 1
    pooled = layers.GlobalAveragePooling2D()(layers.Rescaling(position)(maps))
    model = keras.Model(image, layers.Softmax()(pooled))
    model.get_layer("maps").set_weights([np.full((1, 1, 1, 2), 0.1)])
    images = np.full((1, 8, 8, 1), 200, "uint8")
    assert model(images).numpy().tolist() == [[0.5, 0.5]]
    (heat,) = grad_cam(model, images)
    np.testing.assert_allclose(heat[:, :4], 1, atol=1e-6)
    np.testing.assert_allclose(heat[:, 4:], 0, atol=1e-6)
