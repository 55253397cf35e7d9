"""Functions for any Keras classifier."""

import keras
import numpy as np
import pytest
from conftest import ROOT
from scipy.special import expit, softmax

from keras_arch.keras_private import input_tensors, operation_of, output_index
from keras_arch.models import are_probabilities

LOGITS = np.random.default_rng(0).normal(0, 2, (8, 5))


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (softmax(LOGITS, axis=1), True),
        (softmax(LOGITS, axis=1).astype("float16"), True),
        (LOGITS, False),
        (expit(LOGITS), False),
        (np.full((2, 4), np.nan), False),
        (softmax(LOGITS, axis=1) * 255, False),
    ],
    ids=["softmax", "float16", "logits", "sigmoid", "nan", "percentages"],
)
def test_probabilities_are_recognized(outputs, expected):
    assert are_probabilities(outputs) is expected


def test_graph_of_a_model():
    image = keras.Input((8, 8, 3))
    branches = [keras.layers.Conv2D(2, 1)(image), keras.layers.Conv2D(2, 3, padding="same")(image)]
    add = keras.layers.Add()
    total = add(branches)
    assert operation_of(total) is add
    assert all(one is other for one, other in zip(input_tensors(total), branches, strict=True))
    assert [output_index(tensor) for tensor in keras.ops.split(total, 2, axis=-1)] == [0, 1]
    assert input_tensors(image) == []


def test_a_shared_layer_has_the_inputs_of_each_call():
    image = keras.Input((8, 8, 3))
    layer = keras.layers.Conv2D(3, 1)
    first = layer(image)
    second = layer(first)
    assert input_tensors(first)[0] is image
    assert input_tensors(second)[0] is first


def test_one_module_reads_private_attributes_of_keras():
    for path in (ROOT / "keras_arch").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        names = ("_keras_history", "_inbound_nodes", "._learning_rate(", "_moving_average")
        private = any(name in text for name in names)
        assert private == (path.name == "keras_private.py"), path
