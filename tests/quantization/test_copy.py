"""A copy that simulates int8 equals the int8 file, and without rounding the original model."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_arch
from keras_arch.export.model import convert_simulation
from keras_arch.formats import FORMATS
from keras_arch.models import plain_model, strip_auxiliary_heads
from keras_arch.quantization import layers as quantized
from keras_arch.quantization.copy import (
    check_quantizable,
    plain_weights,
    quantized_copy,
    ranges_of,
)

SHAPE = (16, 16, 3)
RANDOM = np.random.default_rng(0)
# Images of a few gray levels: ranges and probabilities differ from image to image.
IMAGES = np.repeat(np.repeat(RANDOM.integers(0, 256, (32, 4, 4, 3)), 4, 1), 4, 2).astype("float32")


def every_layer(shape):
    """Return a model with every kind of layer that a copy supports."""
    image = x = keras.Input(shape)
    x = layers.Rescaling([0.01, 0.02, 0.03], [-1.0, -2.0, -1.5])(x)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(scale=False)(x))
    y = layers.Conv2D(8, 1, groups=2, activation=layers.ReLU())(x)
    y = layers.Conv2D(8, 1, groups=2)(layers.MaxPooling2D(2)(y))
    y = layers.Activation("tanh")(layers.BatchNormalization()(y))
    x = layers.AveragePooling2D(2)(x)
    x = layers.Concatenate()([x, y, layers.Subtract()([x, y])])
    x = layers.ReLU()(layers.BatchNormalization(center=False)(layers.SpatialDropout2D(0.2)(x)))
    x = layers.Cropping2D(1)(layers.ZeroPadding2D(1)(x))
    gate = layers.Conv2D(24, 1, activation="sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    )
    x = layers.Add()([layers.Multiply()([x, gate]), x])
    x = layers.Reshape((-1,))(layers.GlobalMaxPooling2D()(x))
    x = layers.Dense(8, use_bias=False)(layers.Dropout(0.2)(layers.Flatten()(x)))
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Softmax()(layers.Dense(5)(x)))


MODELS = {
    "every layer": every_layer,
    "resnet8": lambda shape: keras_arch.ResNet8(input_shape=(16, 16, 1), classes=5),
    "resnet20v2": lambda shape: keras_arch.ResNet20V2(input_shape=shape, classes=5),
    "googlenet": lambda shape: keras_arch.GoogLeNet(
        input_shape=shape, classes=5, width=0.1, stem="cifar", auxiliary_heads=False
    ),
    "nin": lambda shape: keras_arch.NetworkInNetwork(input_shape=shape, classes=5),
    "resnet20 with options": lambda shape: keras_arch.ResNet20(
        input_shape=shape, classes=5, variant="d", squeeze_excitation_ratio=0.25,
        stochastic_depth_rate=0.1,
    ),
    "plain20": lambda shape: keras_arch.Plain20(input_shape=shape, classes=5),
    "resnet50": lambda shape: keras_arch.ResNet50(input_shape=shape, classes=5, stem="cifar"),
}  # fmt: skip
FAST = ("every layer",)


def build(name):
    """Return a model with random batch norms, whose statistics are those of the images."""
    keras.utils.set_random_seed(0)
    model = plain_model(MODELS[name](SHAPE))
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    for norm in norms:
        for weight in norm.trainable_weights:
            weight.assign(weight + RANDOM.uniform(-0.2, 0.2, weight.shape))
        norm.momentum = 0.0
    model(images_of(model), training=True)
    return model


def images_of(model):
    return IMAGES[..., : model.input_shape[-1]]


def train_ranges(model):
    """Return a copy whose ranges have seen the images."""
    copy = quantized_copy(model)
    copy(images_of(model), training=True)
    return copy


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in MODELS]
)
def test_the_simulation_equals_the_file(name, tmp_path):
    model = build(name)
    check_quantizable(model)
    copy = quantized_copy(model, ranges_of(train_ranges(model)))
    path = tmp_path / "model_int8.tflite"
    path.write_bytes(convert_simulation(copy, FORMATS["int8"], keep_channels=False))

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["dtype"], image["quantization"]) == (np.uint8, (1.0, 0))
    found = []
    for pixels in np.broadcast_to(images_of(model), (32, *image["shape"][1:])):
        interpreter.set_tensor(image["index"], pixels[np.newaxis].astype("uint8"))
        interpreter.invoke()
        found.append(interpreter.get_tensor(output["index"])[0] / 256)
    expected = copy.predict(images_of(model), verbose=0)
    assert np.ptp(expected, axis=0).max() > 0.05  # the images have different probabilities
    differences = np.abs(np.array(found) - expected)
    # In deep networks, the rounding of values between two levels adds up.
    # With random weights, that of 50 layers decides the answer.
    if name != "resnet50":
        assert differences.mean() < 0.01
        assert differences.max() < 0.1
    if name in FAST:
        assert np.mean(differences <= 1 / 256) > 0.9
    floats = [
        detail["name"]
        for detail in interpreter.get_tensor_details()
        if detail["dtype"] == np.float32
    ]
    assert not floats


@pytest.mark.parametrize("name", FAST)
def test_without_rounding_the_copy_equals_the_model(name, monkeypatch):
    model = build(name)
    monkeypatch.setattr(quantized, "fake_quant_with_min_max_vars", lambda x, *_, **__: x)
    monkeypatch.setattr(quantized, "round_to_steps", lambda values, step: values)
    copy = quantized_copy(model)
    images = images_of(model)
    np.testing.assert_allclose(copy(images), model(images), atol=1e-5)


@pytest.mark.parametrize(
    "name", [*FAST, pytest.param("resnet20 with options", marks=pytest.mark.slow)]
)
def test_the_plain_weights_have_the_order_of_the_model(name):
    model = build(name)
    for found, weight in zip(
        plain_weights(quantized_copy(model)), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, weight)


def test_a_range_is_the_moving_average_of_the_batches():
    layer = quantized.FakeQuantization()
    batches = [RANDOM.normal(loc, 1, (4, 3)).astype("float32") for loc in (0, 1, 5)]
    low = high = None
    for batch in batches:
        layer(batch, training=True)
        ends = min(batch.min(), 0), max(batch.max(), 0)
        low, high = (
            ends if low is None else (0.99 * low + 0.01 * ends[0], 0.99 * high + 0.01 * ends[1])
        )
    np.testing.assert_allclose([float(layer.low), float(layer.high)], [low, high], rtol=1e-5)
    layer(100 * batches[0])  # inference changes nothing
    np.testing.assert_allclose([float(layer.low), float(layer.high)], [low, high], rtol=1e-5)


def test_activations_have_256_levels_with_zero():
    layer = quantized.FakeQuantization(fixed=(-1.0, 3.0))
    values = np.linspace(-2, 4, 5001).astype("float32")
    scale = 4 / 255
    zero = np.round(1 / scale)
    levels = np.clip(np.round(values / scale) + zero, 0, 255)
    found = keras.ops.convert_to_numpy(layer(values))
    assert len(np.unique(found)) == 256
    assert 0 in found
    np.testing.assert_allclose(found, (levels - zero) * scale, atol=1.01 * scale)
    assert np.mean(np.abs(found - (levels - zero) * scale) < 1e-5) > 0.99


def test_a_tensor_of_zeros_stays_zero():
    layer = quantized.FakeQuantization()
    zeros = np.zeros((2, 3), "float32")
    np.testing.assert_array_equal(layer(zeros, training=True), zeros)
    np.testing.assert_array_equal(layer(zeros), zeros)


def test_weights_are_symmetric_for_each_channel():
    kernel = RANDOM.normal(size=(3, 3, 4, 8)).astype("float32") * np.arange(1, 9)
    found = quantized.round_weights(kernel, quantized.limit_of(kernel, 3), 3)
    limit = np.abs(kernel).max((0, 1, 2))
    expected = np.round(kernel / (limit / 127)) * (limit / 127)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def relu(x):
    """Not the ReLU."""
    return x**2


def refused(kind):
    """Return a model with a layer or a graph that int8 training does not know."""
    image = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3)(image)
    if kind == "leaky_relu":
        x = layers.ReLU(negative_slope=0.1, name="it")(x)
    elif kind == "swish":
        x = layers.Conv2D(4, 3, activation="swish", name="it")(x)
    elif kind == "activation layer":
        x = layers.Conv2D(4, 3, activation=layers.LeakyReLU(), name="it")(x)
    elif kind == "function":
        x = layers.Conv2D(4, 3, activation=relu, name="it")(x)
    elif kind == "layer":
        x = layers.LayerNormalization(name="it")(x)
    elif kind == "twice":
        shared = layers.Conv2D(4, 3, padding="same", name="it")
        x = shared(shared(x))
    elif kind == "nested":
        x = keras.Sequential([keras.Input(x.shape[1:]), layers.Conv2D(4, 3)], name="it")(x)
    elif kind == "operation":
        x = x / 2.0
    elif kind == "axis":
        x = layers.BatchNormalization(axis=1, name="it")(x)
    x = layers.Dense(3, "softmax")(layers.Flatten()(x))
    return keras.Model(image, x)


@pytest.mark.parametrize(
    ("kind", "received"),
    {
        "leaky_relu": "it, ReLU with the activation leaky_relu",
        "swish": r"it, Conv2D with the activation silu \(unknown\)",
        "activation layer": "it, Conv2D with the activation <LeakyReLU",
        "function": r"it, Conv2D with the activation relu \(unknown\)",
        "layer": "it, LayerNormalization",
        "twice": "it, Conv2D that is called twice",
        "nested": "it, Sequential",
        "operation": "true_divide.*, TrueDivide",
        "axis": "it, BatchNormalization of axis 1",
    }.items(),
)
def test_other_layers_are_refused(kind, received):
    with pytest.raises(keras_arch.InputError, match=f"Received: {received}"):
        check_quantizable(refused(kind))


def test_ranges_of_another_model_are_refused():
    ranges = ranges_of(train_ranges(build("resnet8")))
    with pytest.raises(keras_arch.InputError, match="Received: none for"):
        quantized_copy(plain_model(MODELS["plain20"](SHAPE)), ranges)


def test_the_copy_without_auxiliary_heads_has_the_ranges_of_the_complete_one():
    model = keras_arch.GoogLeNet(
        input_shape=(16, 16, 1), classes=3, width=0.05, stem="cifar", auxiliary_heads=True
    )
    complete = quantized_copy(plain_model(model))
    quantized_copy(plain_model(strip_auxiliary_heads(model)), ranges_of(complete))
