"""int8 errors of layers, and int8 files with float32 layers: softmax and nested models."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_arch
from keras_arch.export.model import export_model, quantization_errors
from keras_arch.export.operators import CONVERSIONS, list_operators, start_interpreter
from keras_arch.export.quantization import layers_to_keep
from keras_arch.formats import ExportSettings

CLASSES = 1000
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype="uint8")


def exported(model, folder, keep_float):
    """Return the probabilities of an int8 file, and (name, output type) of its operators."""
    settings = ExportSettings(formats=("int8",), keep_float=keep_float)
    names = [f"class {number}" for number in range(model.output_shape[-1])]
    _, refused = export_model(model, folder, names, IMAGES, settings)
    assert refused == {}
    path = folder / "model_int8.tflite"
    operators = list_operators(start_interpreter(path.read_bytes()))
    return keras_arch.open_artifact(path).predict(IMAGES), [
        (one.name, one.output["dtype"]) for one in operators
    ]


# --- the softmax of many classes ---


def dense_with_softmax(x):
    return layers.Dense(CLASSES, activation="softmax", name="predictions")(x)


def softmax_layer(x):
    return layers.Activation("softmax", name="predictions")(layers.Dense(CLASSES, name="logits")(x))


def reshaped(x):
    x = layers.Softmax(name="predictions")(
        layers.Reshape((1, 1, CLASSES))(layers.Dense(CLASSES, name="logits")(x))
    )
    return layers.Reshape((CLASSES,), name="flat")(x)


def operation(x):
    return keras.ops.softmax(layers.Dense(CLASSES, name="logits")(x))


HEADS = [  # (head, layer of the softmax)
    (dense_with_softmax, "predictions"),
    pytest.param(softmax_layer, "predictions", marks=pytest.mark.slow),
    pytest.param(reshaped, "predictions", marks=pytest.mark.slow),
    pytest.param(operation, "softmax", marks=pytest.mark.slow),
]


def with_logits(head, largest):
    """Return a classifier whose highest logit for image i, `largest`, is class 100 * (i + 1)."""
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(
        image, head(layers.Flatten()(layers.Rescaling(1 / 127.5, -1)(image))), name="uncertain"
    )
    pixels = IMAGES.reshape(len(IMAGES), -1) / 127.5 - 1
    kernel = np.random.default_rng(1).normal(0, 1e-2 * largest, (pixels.shape[1], CLASSES))
    kernel[:, 100 : 100 * len(IMAGES) + 1 : 100] = largest * np.linalg.pinv(pixels)
    model.set_weights([kernel, np.zeros(CLASSES)])
    probabilities = model.predict(IMAGES, verbose=0)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), 100 * np.arange(1, len(IMAGES) + 1))
    return model, probabilities


@pytest.mark.parametrize(("head", "layer"), HEADS)
def test_the_softmax_is_ranked_and_kept_with_its_layer(head, layer, tmp_path):
    """Probabilities below a step of 1/256 become zero (tensorflow#31229)."""
    model, probabilities = with_logits(head, 0.5)
    assert probabilities.max() < 0.002
    ranking = quantization_errors(model, IMAGES, IMAGES)
    assert (ranking[0].layer, ranking[0].operator) == (layer, "SOFTMAX")
    assert ranking[0].added == pytest.approx(1)
    kept = layers_to_keep(ranking)
    assert kept[0] == layer
    found, outputs = exported(model, tmp_path, tuple(kept))
    np.testing.assert_array_equal(found.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(found, probabilities, rtol=0.05)
    assert ("SOFTMAX", np.float32) in outputs


def test_a_softmax_that_keeps_the_top_class_is_not_kept_in_float32():
    """Most probabilities of a confident classifier become zero, but not the highest."""
    model, probabilities = with_logits(dense_with_softmax, 12.0)
    assert np.median(probabilities) < 1 / 512
    assert probabilities.max(axis=1).min() > 0.9
    ranking = quantization_errors(model, IMAGES, IMAGES)
    (added,) = (row.added for row in ranking if row.operator == "SOFTMAX")
    assert added == 0
    assert layers_to_keep(ranking) == []


def test_the_error_of_a_softmax_is_the_fraction_of_changed_top_classes():
    """Half of the images change: the error is the square root of 1/2."""
    model, _ = with_logits(dense_with_softmax, 0.5)
    kernel, bias = model.get_weights()
    kernel[:, 100:500:100] *= 24
    model.set_weights([kernel, bias])
    ranking = quantization_errors(model, IMAGES, IMAGES)
    (error,) = (row.error for row in ranking if row.operator == "SOFTMAX")
    assert error == pytest.approx(0.5**0.5)


# --- nested models ---


def branch(name):
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="conv1")(image)
    return keras.Model(image, layers.Conv2D(4, 3, activation="relu", name="conv2")(x), name=name)


def two_branches():
    """Two nested models whose layers have the same names, and a nested head."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Concatenate(name="both")([branch(name)(x) for name in ("left", "right")])
    head = [
        layers.GlobalAveragePooling2D(name="avg_pool"),
        layers.Dense(3, activation="softmax", name="predictions"),
    ]
    model = keras.Model(image, keras.Sequential(head, name="head")(x), name="two_branches")
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.uniform(-0.1, 0.3, weights.shape) for weights in model.get_weights()]
    )  # no ReLU is always zero
    return model


def test_layers_of_nested_models_are_ranked_and_kept(tmp_path):
    """One channel is 1000 times as large as the others, so that int8 has no steps for them."""
    model = two_branches()
    spoiled = model.get_layer("left").get_layer("conv2")
    spoiled.set_weights(
        [spoiled.get_weights()[0] * np.array([1000, 1, 1, 1]), spoiled.get_weights()[1]]
    )
    ranking = quantization_errors(model, IMAGES, IMAGES)
    rows = {row.layer: row for row in ranking}
    assert rows["left/conv2"].added > 0.5
    assert rows["left/conv2"].readers == ("both",)
    assert max(rows[name].added for name in ("left/conv1", "right/conv1")) < 0.1
    assert {"right/conv2", "both", "avg_pool", "predictions"} <= set(rows)
    _, outputs = exported(
        model, tmp_path, ("left/conv2", "head")
    )  # a layer, and a nested model with all of its layers
    assert [kind for name, kind in outputs if name == "CONV_2D"].count(np.float32) == 1
    floats = {name for name, kind in outputs if kind is np.float32} - {*CONVERSIONS}
    assert floats == {"CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"}
