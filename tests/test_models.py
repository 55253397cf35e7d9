"""What holds for any Keras classifier."""

import numpy as np
import pytest
from scipy.special import expit, softmax

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
