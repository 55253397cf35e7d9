"""First lines of other libraries' messages, and choices among names."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_arch.errors import InputError, choose, first_line


def line_of(call, *arguments):
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of any kind
        call(*arguments)
    return first_line(raised.value)


class Picky(keras.layers.Layer):
    def call(self, x):
        raise ValueError("the cause\nwith a second line")

    def compute_output_shape(self, shape):
        return shape


def picky_model():
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(Picky()(image))
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(pooled))


IMAGE = np.zeros((1, 3, 3, 3), "float32")


def test_cause_in_a_tf_function():
    def convolve(x):
        return keras.layers.Conv2D(3, 9)(x)

    def multiply(x):
        return tf.matmul(x[0, 0], tf.zeros((5, 5)))

    def add(x):
        return x + Picky()(x)

    assert line_of(tf.function(convolve), IMAGE).startswith(
        "ValueError: Computed output size would be zero"
    )
    assert line_of(tf.function(multiply), IMAGE).startswith(
        "ValueError: Dimensions must be equal, but are 3 and 5"
    )
    assert line_of(tf.function(add), IMAGE) == "the cause"
    nested = tf.function(convolve)
    assert line_of(tf.function(lambda x: nested(x)), IMAGE).startswith(
        "ValueError: Computed output size"
    )


def test_cause_in_a_keras_layer():
    assert line_of(Picky(), IMAGE) == "the cause"
    assert line_of(picky_model().predict_on_batch, np.zeros((1, 8, 8, 3))) == "the cause"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "first"),
        (ValueError("\n  first  \n\nlast\n"), "first"),
        (ValueError(""), "ValueError"),
        (KeyError("serving_default"), "'serving_default'"),
        (ValueError("in user code:"), "in user code:"),
        (ValueError("a" * 5000 + " is wrong"), "a" * 55 + "…" + "a" * 45 + " is wrong"),
        (
            ValueError("{{function_node __wrapped__RestoreV2_device_/job:localhost}} The cause"),
            "The cause",
        ),
        (
            RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : Load model from /a/model.onnx failed:/onnxruntime_src/core/graph.cc:1466 "
                "onnxruntime::Graph::Graph(const Model&, bool) The cause (as it is)"
            ),
            "The cause (as it is)",
        ),
    ],
)
def test_other_messages(error, line):
    assert first_line(error) == line


def test_choose_offers_similar_names():
    names = [f"data_set_{number}" for number in range(400)] + ["fashion_mnist"]
    with pytest.raises(
        InputError,
        match=r"^Expected a data set\. Received: 'fashionmnist'\. Did you mean fashion_mnist",
    ) as found:
        choose("a data set", "fashionmnist", names)
    with pytest.raises(InputError, match="Did you mean") as other:
        choose("a data set", "nowhere", names)
    assert max(len(str(found.value)), len(str(other.value))) < 300
    with pytest.raises(InputError, match=r"^`stem` must be one of a, b. Received: stem='zzz'.$"):
        choose("stem", "zzz", ["a", "b"])
    with pytest.raises(
        InputError, match=r"^Expected a letter\. Received: 'zzz'\. Use one of a, b\.$"
    ):
        choose("a letter", "zzz", ["a", "b"])
