"""The fast copy computes the same as stock Keras, with other kernels and precisions."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_arch
from keras_arch.models import all_layers
from keras_arch.training.fast_copy import FusedBatchNormalization, fast_copy, make_repeatable

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 32, 32, 3)).astype("uint8")
LABELS = np.eye(10, dtype="float32")[np.arange(8)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"scale": False}, {"center": False}, {"momentum": 0.5, "epsilon": 0.1}]
)
def test_fused_batch_norm_equals_keras(training, options):
    images = RNG.normal(3, 2, (4, 5, 6, 7)).astype("float32")
    towards = RNG.normal(size=images.shape).astype("float32")
    values = [RNG.uniform(0.5, 2, 7).astype("float32") for _ in range(4)]
    found = []
    for kind in (keras.layers.BatchNormalization, FusedBatchNormalization):
        layer = kind(**options)
        layer.build(images.shape)
        layer.set_weights(values[: len(layer.weights)])
        pixels = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            outputs = layer(pixels, training=training)
            loss = tf.reduce_sum(outputs * towards)
        gradients = tape.gradient(loss, [pixels, *layer.trainable_variables])
        found.append([outputs, *gradients, *layer.weights])
    for theirs, mine in zip(*found, strict=True):
        largest = np.abs(theirs).max()  # sums with cancellation are as exact as their largest terms
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * largest)


def test_variance_is_the_population_variance():
    """With four pixels, the sample variance would be larger by a third."""
    layer = FusedBatchNormalization(momentum=0)
    layer(np.array([1, 2, 3, 6], "float32").reshape(1, 2, 2, 1), training=True)
    assert float(layer.moving_mean[0]) == pytest.approx(3)
    assert float(layer.moving_variance[0]) == pytest.approx(3.5)


def test_frozen_batch_norm_keeps_its_statistics():
    layer = FusedBatchNormalization()
    layer.trainable = False
    outputs = layer(IMAGES.astype("float32"), training=True)
    np.testing.assert_allclose(outputs, IMAGES / np.sqrt(1 + 1e-3), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, 0)


@pytest.fixture(scope="module")
def models():
    keras.utils.set_random_seed(0)
    return {
        name: keras_arch.build(name, input_shape=(32, 32, 3), classes=10)
        for name in ("resnet8", "googlenet", "nin")
    }


def rounding(model, precision):
    """Return the tolerance of a probability: rounding errors add up like random steps.

    In float32, the order of long sums also matters. 16-bit kernels add in float32 and round once.
    """
    unit = {"float32": 8 * 2**-24, "mixed_bfloat16": 2**-8, "mixed_float16": 2**-11}[precision]
    return unit * sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers) ** 0.5


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *itertools.product(("resnet8", "googlenet", "nin"), ("float32", "mixed_bfloat16")),
        *((name, "mixed_float16") for name in ("resnet8", "nin")),
        pytest.param("googlenet", "mixed_float16", marks=pytest.mark.slow),
    ],
)
def test_copy_reproduces_the_model(models, name, precision):
    model = models[name]
    copy = fast_copy(model, precision)
    assert [weight.path for weight in copy.weights] == [weight.path for weight in model.weights]
    assert {weight.dtype for weight in copy.weights} == {"float32"}
    assert copy.output.dtype == "float32"
    found, expected = copy(IMAGES).numpy(), model(IMAGES).numpy()
    np.testing.assert_allclose(found, expected, atol=rounding(model, precision))
    assert (precision == "float32") or (found != expected).any()


def nested_classifier():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras_arch.ResNet8(input_shape=(8, 8, 3), classes=4)(image))


def nested_head():
    image = keras.Input((8, 8, 3))
    head = [
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(4, activation="softmax", name="predictions"),
    ]
    return keras.Model(image, keras.Sequential(head)(keras.layers.Conv2D(4, 3)(image)))


@pytest.mark.parametrize("build", [nested_classifier, nested_head])
def test_probabilities_of_a_nested_model_are_exact(build):
    """In bfloat16, the error would be up to 1/256."""
    copy = fast_copy(build(), "mixed_bfloat16")
    assert copy.output.dtype == "float32"
    np.testing.assert_allclose(copy(IMAGES[:, :8, :8]).numpy().sum(axis=1), 1, atol=1e-6)
    convolutions = [layer for layer in all_layers(copy) if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}


MEANS = np.array([103.939, 116.779, 123.68])  # float64, as users write it
BLUR = np.full((3, 3, 3, 1), 1 / 9, "float32")
BRANCH = {"axis": (1, 2), "keepdims": True}
OPERATIONS = {
    "a number": lambda x: 1 - (x + 3) * 2 / 255.0,
    "an array": lambda x: x - MEANS,
    "a kernel": lambda x: keras.ops.depthwise_conv(x, BLUR, padding="same"),
    "slices": lambda x: x[:, 1:, ::2, ::-1],
    "ReLU6": lambda x: x * keras.ops.relu6(x + 3) * (1 / 6),
    "hard swish": keras.ops.hard_swish,
    "two tensors": lambda x: keras.ops.maximum(x, keras.ops.tanh(x)),
    "excitation": lambda x: x * keras.ops.sigmoid(keras.ops.mean(x, **BRANCH)),
    "pooling": lambda x: x * keras.layers.GlobalAveragePooling2D(keepdims=True)(x),
    "concatenation": lambda x: keras.ops.concatenate([x, x**2], axis=-1),
    "a choice": lambda x: keras.ops.where(x > 0.5, x, 0.0),
    "another type": lambda x: keras.ops.cast(x, "float32") / 7,
    "normalization": lambda x: x / (keras.ops.std(x, **BRANCH) + 1),
} | {
    mode: lambda x, mode=mode: keras.applications.imagenet_utils.preprocess_input(x, mode=mode)
    for mode in ("tf", "torch", "caffe")
}


def small(features, probabilities):
    """Return a model of two functions. The first one computes feature maps."""
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(features(image))
    return keras.Model(image, probabilities(x))


def dense(x):
    return keras.layers.Dense(4, "softmax")(x)


def convolve(x):
    return keras.layers.Conv2D(3, 3, padding="same")(keras.layers.Rescaling(1 / 255)(x))


def nest(function):
    image = keras.Input((8, 8, 3), name="image")
    return keras.Model(image, function(image), name="nested")


def twice(function):
    """Return a function that calls a nested model twice, which shares its layers."""
    shared = nest(lambda x: keras.layers.Conv2D(3, 3, padding="same")(function(x))[:, :8, :4, :3])
    shared = keras.Model(shared.input, keras.layers.ZeroPadding2D(((0, 0), (0, 4)))(shared.output))
    if shared.output_shape != shared.input_shape:  # after slices
        return lambda x: shared(x)
    return lambda x: shared(shared(x) + x)


PLACES = {  # {place: a model with an operation}
    "image": lambda function: small(lambda x: function(x) / 255, dense),
    "layers": lambda function: small(lambda x: function(convolve(x)), dense),
    "nested": lambda function: small(nest(lambda x: function(convolve(x))), dense),
    "shared": lambda function: small(lambda x: twice(function)(x / 255), dense),
}


FAST = (("image", "caffe"), ("layers", "a kernel"), ("shared", "ReLU6"))


@pytest.mark.parametrize(
    ("place", "name"),
    [
        pytest.param(place, name, marks=[] if (place, name) in FAST else pytest.mark.slow)
        for place, name in itertools.product(PLACES, OPERATIONS)
    ],
)
def test_operations_are_copied(place, name):
    """Operations of `keras.ops` are no layers. On the image, they compute in float32."""
    keras.utils.set_random_seed(0)
    model = PLACES[place](OPERATIONS[name])
    expected = model(IMAGES[:, :8, :8]).numpy()
    for precision in ("float32", "mixed_bfloat16"):
        copy = fast_copy(model, precision)
        assert [weight.path for weight in copy.weights] == [weight.path for weight in model.weights]
        assert copy.output.dtype == "float32"
        exact = precision == "float32" or place == "image"
        found = copy(IMAGES[:, :8, :8]).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 if exact else 2**-7)
    operations = fast_copy(model, "float32").operations
    assert [one.name for one in operations] == [one.name for one in model.operations]


@pytest.mark.parametrize("nested", [True, False])
def test_probabilities_of_an_operation_are_exact(nested):
    """The layer before `keras.ops.softmax` is an output layer, which computes in float32."""
    keras.utils.set_random_seed(0)

    def head(x):
        return keras.ops.softmax(keras.layers.Dense(4)(x / 25) + np.arange(4))

    features = keras.Input((3,))
    model = small(lambda image: image, keras.Model(features, head(features)) if nested else head)
    copy = fast_copy(model, "mixed_bfloat16")
    found, expected = copy(IMAGES[:, :8, :8]).numpy(), model(IMAGES[:, :8, :8]).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_normalization_is_exact():
    layer = keras.layers.Normalization(mean=[123.68, 116.78, 103.94], variance=[1.1, 1.2, 1.3])
    model = small(lambda x: layer(x) / 100, dense)
    found = fast_copy(model, "mixed_bfloat16")(IMAGES[:, :8, :8]).numpy()
    np.testing.assert_allclose(found, model(IMAGES[:, :8, :8]).numpy(), rtol=0, atol=1e-6)


def test_training_the_copy_equals_training_the_model():
    model = keras_arch.ResNet8(input_shape=(32, 32, 3))
    copy = fast_copy(model, "float32")
    for trained in (model, copy):
        trained.compile(
            keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
            "categorical_crossentropy",
            run_eagerly=True,  # faster for few steps
        )
        for _ in range(3):
            trained.train_on_batch(IMAGES, LABELS)
    for mine, theirs in zip(copy.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_the_fused_kernel_is_used():
    copy = fast_copy(keras_arch.ResNet8(input_shape=(32, 32, 3)), "mixed_bfloat16")
    graph = (
        tf.function(lambda images: copy(images, training=True))
        .get_concrete_function(tf.constant(IMAGES))
        .graph
    )
    inputs = [
        operation.inputs
        for operation in graph.get_operations()
        if operation.type == "FusedBatchNormV3"
    ]
    assert (
        len(inputs)
        == sum(isinstance(layer, keras.layers.BatchNormalization) for layer in copy.layers)
        == 7
    )
    assert {tensor.dtype for images, *_ in inputs for tensor in [images]} == {tf.bfloat16}
    assert {tensor.dtype for _, *parameters in inputs for tensor in parameters} == {tf.float32}


@pytest.mark.parametrize(("cards", "expected"), [([], False), (["a GPU"], True)])
def test_make_repeatable_enables_determinism_on_a_gpu(cards, expected, monkeypatch):
    asked = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: cards)
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: asked.append(True))
    make_repeatable(7)
    first = keras.random.normal((3,))
    make_repeatable(7)
    np.testing.assert_array_equal(first, keras.random.normal((3,)))
    assert bool(asked) == expected
