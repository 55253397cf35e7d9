"""Which layers int8 ruins, by their names, and int8 files that keep them in float32: softmax and nested models."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_arch
from keras_arch.export.model import export_model, quantization_errors
from keras_arch.export.operators import CONVERSIONS, start_interpreter, steps_of
from keras_arch.export.quantization import suspects
from keras_arch.formats import ExportSettings

CLASSES = 1000
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), dtype="uint8")


def exported(model, folder, keep_float):
    """What an int8 file of `model` answers for the images, and (operator, number type of its output) for each operator."""
    settings = ExportSettings(formats=("int8",), keep_float=keep_float)
    names = [f"class {number}" for number in range(model.output_shape[-1])]
    _, refused = export_model(model, folder, names, IMAGES, settings)
    assert refused == {}
    path = folder / "model_int8.tflite"
    steps = steps_of(start_interpreter(path.read_bytes()))
    return keras_arch.open_artifact(path).predict(IMAGES), [
        (step.operator, step.output["dtype"]) for step in steps
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


HEADS = [  # and the layer that the softmax belongs to
    (dense_with_softmax, "predictions"),
    (softmax_layer, "predictions"),
    pytest.param(reshaped, "predictions", marks=pytest.mark.slow),
    pytest.param(operation, "softmax", marks=pytest.mark.slow),
]


def with_logits(head, largest):
    """A classifier whose logit of class 100 * (i + 1) is `largest` for image i; all others are smaller."""
    image = keras.Input((8, 8, 3), name="image")
    model = keras.Model(
        image, head(layers.Flatten()(layers.Rescaling(1 / 127.5, -1)(image))), name="unsure"
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
    """Int8 has steps of 1/256 and makes smaller probabilities zero: see tensorflow#31229."""
    model, probabilities = with_logits(head, 0.5)
    assert probabilities.max() < 0.002
    ranking = quantization_errors(model, IMAGES, IMAGES)
    assert (ranking[0]["layer"], ranking[0]["operator"]) == (layer, "SOFTMAX")
    assert ranking[0]["added"] == pytest.approx(1)
    kept = suspects(ranking)
    assert kept[0] == layer
    answers, outputs = exported(model, tmp_path, tuple(kept))
    np.testing.assert_array_equal(answers.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(answers, probabilities, rtol=0.05)
    assert ("SOFTMAX", np.float32) in outputs


def test_a_softmax_that_keeps_the_top_class_is_no_suspect():
    """Most probabilities of a sure classifier become zero, too, which changes no order that counts."""
    model, probabilities = with_logits(dense_with_softmax, 12.0)
    assert np.median(probabilities) < 1 / 512
    assert probabilities.max(axis=1).min() > 0.9
    ranking = quantization_errors(model, IMAGES, IMAGES)
    (added,) = (row["added"] for row in ranking if row["operator"] == "SOFTMAX")
    assert added == 0
    assert suspects(ranking) == []


def test_the_share_of_changed_top_classes_counts():
    """Half of the images are unsure: the square root of 1/2."""
    model, _ = with_logits(dense_with_softmax, 0.5)
    kernel, bias = model.get_weights()
    kernel[:, 100:500:100] *= 24
    model.set_weights([kernel, bias])
    ranking = quantization_errors(model, IMAGES, IMAGES)
    (error,) = (row["error"] for row in ranking if row["operator"] == "SOFTMAX")
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
    )  # no ReLU is dead
    return model


def test_layers_of_nested_models_are_ranked_and_kept(tmp_path):
    """One channel is a thousand times as large as the others, so that int8 has no steps for them."""
    model = two_branches()
    spoiled = model.get_layer("left").get_layer("conv2")
    spoiled.set_weights(
        [spoiled.get_weights()[0] * np.array([1000, 1, 1, 1]), spoiled.get_weights()[1]]
    )
    ranking = quantization_errors(model, IMAGES, IMAGES)
    rows = {row["layer"]: row for row in ranking}
    assert rows["left/conv2"]["added"] > 0.5
    assert rows["left/conv2"]["readers"] == ["both"]
    assert max(rows[name]["added"] for name in ("left/conv1", "right/conv1")) < 0.1
    assert {"right/conv2", "both", "avg_pool", "predictions"} <= set(rows)
    _, outputs = exported(
        model, tmp_path, ("left/conv2", "head")
    )  # a layer, and a nested model with all of its layers
    assert [kind for name, kind in outputs if name == "CONV_2D"].count(np.float32) == 1
    floats = {name for name, kind in outputs if kind is np.float32} - {*CONVERSIONS}
    assert floats == {"CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"}
