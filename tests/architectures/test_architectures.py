"""Builders: published numbers, options and error messages."""

import functools
import inspect
import math
import re

import keras
import numpy as np
import pytest
from conftest import write_tflite, zero_kernels
from generate import README, VARIABLES, read_table, table_row, variables_of
from kinds import HEADS, KINDS

import keras_arch
from keras_arch.architectures.googlenet import local_response_norm
from keras_arch.architectures.layers import conv
from keras_arch.architectures.registry import ARCHITECTURES
from keras_arch.architectures.resnet.builders import Builder
from keras_arch.evaluation.cost import LayerCost

BUILDERS = {name: row.load() for name, row in ARCHITECTURES.items()}
KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY

# Moving statistics of torchvision's models.
MOVING = {
    "resnet18": 9_600,
    "resnet34": 17_024,
    "resnet50": 53_120,
    "resnet101": 105_344,
    "resnet152": 151_424,
}

# Multiply-adds for one image of 224x224 pixels, or 32x32 for CIFAR, to the last digit shown.
MULTIPLY_ADDS = {
    "resnet18": "1.814 G",
    "resnet34": "3.664 G",
    "resnet50": "4.089 G",
    "resnet101": "7.801 G",
    "resnet152": "11.514 G",
    "googlenet": "1.583 G",
    "resnet20": "40.55 M",
    "resnet56": "125.5 M",
    "resnet110": "252.9 M",
}

SHAPE = (32, 32, 3)


def with_slow(names, slow):
    """Return parameters for the names, of which one is slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name == slow)) for name in names]


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def small(name, **options):
    """Build an architecture for small images and ten classes."""
    return keras_arch.build(name, **{"input_shape": SHAPE, "classes": 10, **options})


@functools.cache
def classifier(name):
    """Return a model for tests that neither change it nor depend on its kernels."""
    with zero_kernels():
        return small(name)


# --- published numbers ---


# They differ in depth alone from ones that are built here: resnet50, resnet50v2, resnet56 and resnet56v2.
DEEP = (
    "resnet101",
    "resnet152",
    "resnet101v2",
    "resnet152v2",
    "resnet110",
    "resnet110v2",
    "resnet164v2",
)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name
        for name in keras_arch.available()
    ],
)
def published(request):
    """Return every registered model with its default options."""
    with zero_kernels():
        model = keras_arch.build(request.param)
    assert model.name == request.param
    return model


def test_parameters_are_those_published(published):
    expected = ARCHITECTURES[published.name].parameters
    if expected is not None:
        assert count(published.trainable_weights) == expected
    if published.name in MOVING:
        assert count(published.non_trainable_weights) == MOVING[published.name]


def test_cost_is_that_published(published):
    cost = keras_arch.cost(published)
    assert cost.parameters == count(published.trainable_weights)
    assert cost.by_stage().multiply_adds == cost.multiply_adds
    if published.name in MULTIPLY_ADDS:
        digits, unit = MULTIPLY_ADDS[published.name].split()
        decimals = len(digits.split(".")[1])
        assert round(cost.multiply_adds / {"G": 1e9, "M": 1e6}[unit], decimals) == float(digits)


def test_names_and_shapes_of_variables_stay(published):
    """Saved files must stay loadable. `make generate` writes the file of a new architecture."""
    golden = VARIABLES / f"{published.name}.txt"
    assert golden.exists(), "run make generate"
    assert variables_of(published) == golden.read_text()


def test_readme_has_the_numbers(published):
    row = table_row(ARCHITECTURES[published.name], keras_arch.cost(published))
    assert row in read_table("models", README.read_text()), "run make generate"


def test_cifar_parameters_by_hand():
    def by_hand(n):
        convolutions = 9 * (
            3 * 16
            + 2 * n * 16 * 16
            + 16 * 32
            + (2 * n - 1) * 32 * 32
            + 32 * 64
            + (2 * n - 1) * 64 * 64
        )
        return convolutions + 2 * (16 + 2 * n * (16 + 32 + 64)) + 64 * 10 + 10

    assert [by_hand(n) for n in (3, 5, 7, 9, 18)] == [
        ARCHITECTURES[f"resnet{depth}"].parameters for depth in (20, 32, 44, 56, 110)
    ]
    assert count(keras_arch.ResNet8().trainable_weights) == by_hand(1)
    assert count(keras_arch.ResNet14().trainable_weights) == by_hand(2)


# --- options ---


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize("name", with_slow(KINDS, "resnet50"))
def test_features_without_top(name):
    features = small(name, include_top=False)
    assert len(features.output_shape) == 4
    assert features.count_params() < classifier(name).count_params()


@pytest.mark.parametrize("name", with_slow(HEADS, "googlenet"))
def test_pooled_features(name, tmp_path):
    options = {"include_top": False, **({"width": 0.25} if name == "googlenet" else {})}  # faster
    features = small(name, **options)
    features.save_weights(tmp_path / "own.weights.h5")
    images = np.random.default_rng(0).uniform(0, 255, (2, *SHAPE)).astype("float32")
    expected = features(images).numpy()
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = small(name, pooling=pooling, weights=tmp_path / "own.weights.h5", **options)
        np.testing.assert_allclose(
            pooled(images).numpy(), reduce(expected, axis=(1, 2)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("googlenet", {"batch_norm": False}, marks=pytest.mark.slow),
        (
            "resnet8",
            {"squeeze_excitation_ratio": 1 / 4, "stochastic_depth_rate": 0.2, "variant": "d"},
        ),
        pytest.param("resnet20v2", {"variant": "d"}, marks=pytest.mark.slow),
    ],
)
def test_options_convert_and_round_trip(name, options, tmp_path):
    model = small(name, **options)
    images = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype("float32")
    expected = model(images).numpy()
    model.save(tmp_path / "model.keras")
    write_tflite(model, tmp_path / "model.tflite")
    for file in ("model.keras", "model.tflite"):
        np.testing.assert_allclose(
            keras_arch.open_artifact(tmp_path / file).predict(images), expected, atol=1e-4
        )
    assert not any(
        layer.name.endswith("_shortcut_bn") for layer in model.layers if name.endswith("v2")
    )


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize("name", KINDS)
def test_one_channel_any_size_and_input_tensor(name):
    images = keras.Input((None, None, 1), name="mine")
    model = keras_arch.build(name, input_tensor=images, classes=10)
    assert [tensor.name for tensor in model.inputs] == ["mine"]
    for height, width in ((32, 32), (33, 47)):
        assert model(np.zeros((1, height, width, 1), "float32")).shape == (1, 10)


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize("name", ["resnet18", "resnet50", *HEADS])
def test_smallest_image(name):
    with pytest.raises(keras_arch.InputError, match=r"at least \d+x\d+ pixels") as excinfo:
        keras_arch.build(name, input_shape=(3, 3, 3))
    least = int(re.search(r"at least (\d+)x", str(excinfo.value))[1])
    with pytest.raises(keras_arch.InputError):
        keras_arch.build(name, input_shape=(least, least - 1, 3))
    assert (
        min(
            keras_arch.build(name, input_shape=(least, least, 3), include_top=False).output_shape[
                1:3
            ]
        )
        == 1
    )


def test_option_b_projects():
    assert count(keras_arch.ResNet20(shortcut="projection").trainable_weights) == 272_474


@pytest.mark.usefixtures("zero_kernels")
def test_cifar_stem_keeps_small_images():
    assert keras_arch.ResNet18(
        include_top=False, stem="cifar", input_shape=(32, 32, 3)
    ).output_shape[1:3] == (4, 4)
    assert keras_arch.ResNet18(include_top=False, input_shape=(32, 32, 3)).output_shape[1:3] == (
        1,
        1,
    )


def test_normalization_is_torchvisions():
    """(x / 255 - mean) / std with the constants that torchvision documents for its weights."""
    model = keras_arch.ResNet20()
    normalized = keras.Model(model.input, model.get_layer("normalize").output)
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    expected = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalized(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet8", 1),
        ("resnet8", 4),
        ("plain20", 3),
        ("resnet20v2", 3),
        ("nin", 1),
        *((name, 3) for name in HEADS),
    ],
)
def test_mean_and_std(name, channels):
    """(x / 255 - mean) / std with other numbers."""
    mean, std = np.linspace(0.3, 0.6, channels), np.linspace(0.2, 0.3, channels)
    shape = (*SHAPE[:2], channels)
    model = small(name, input_shape=shape, mean=tuple(mean), std=std.tolist())
    normalized = keras.Model(model.input, model.get_layer("normalize").output)
    images = np.random.default_rng(0).uniform(0, 255, (1, *shape)).astype("float32")
    np.testing.assert_allclose(
        normalized(images), (images / 255 - mean) / std, rtol=1e-5, atol=1e-5
    )
    again = keras.models.model_from_json(model.to_json())
    assert again.get_layer("normalize").get_config() == model.get_layer("normalize").get_config()


@pytest.mark.parametrize("name", keras_arch.available())
def test_every_builder_takes_mean_and_std_as_keywords(name):
    parameters = inspect.signature(BUILDERS[name]).parameters
    assert [parameters[option].kind for option in ("mean", "std")] == [KEYWORD_ONLY] * 2
    assert all(f"    {option}: " in inspect.getdoc(BUILDERS[name]) for option in ("mean", "std"))


def test_mean_with_the_default_std():
    """Images with four channels use the average of the RGB values."""
    model = small("resnet8", input_shape=(32, 32, 4), mean=(0.1, 0.2, 0.3, 0.4))
    normalized = keras.Model(model.input, model.get_layer("normalize").output)
    images = np.full((1, 32, 32, 4), 51, "float32")
    expected = (0.2 - np.array([0.1, 0.2, 0.3, 0.4])) / ((0.229 + 0.224 + 0.225) / 3)
    np.testing.assert_allclose(normalized(images)[0, 0, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (0.5,)}, r"`mean` must be 3 .* Received: mean=\(0.5,\)"),
        (
            {"std": (0.2, 0.2, 0.2), "input_shape": (32, 32, 1)},
            r"`std` must be 1 .* Received: std=",
        ),
        ({"std": (0.2, 0.0, 0.2)}, r"`std` must be 3 .* greater than 0.* Received: std="),
        ({"std": (0.2, -0.1, 0.2)}, r"`std` must be 3 .* greater than 0.* Received: std="),
        ({"mean": (0.5, float("nan"), 0.5)}, r"`mean` must be 3 .* Received: mean="),
        ({"std": (0.5, float("inf"), 0.5)}, r"`std` must be 3 .* Received: std="),
        ({"mean": {0.3, 0.4, 0.5}}, r"`mean` must be 3 .* Received: mean=\{"),
        ({"std": {0.3: 0, 0.4: 1, 0.5: 2}}, r"`std` must be 3 .* Received: std=\{"),
        ({"input_shape": {3, 64, 32}}, r"`input_shape` must be .* Received: \{"),
        ({"mean": 0.5}, r"`mean` must be 3 .* Received: mean=0.5"),
        ({"mean": "0.5"}, r"`mean` must be 3 .* Received: mean='0.5'"),
        ({"mean": (123.7, 116.3, 103.5)}, r"`mean` must be 3 .*0 to 1.* Received: mean=\(123.7"),
    ],
)
def test_invalid_mean_and_std(options, message):
    with pytest.raises(keras_arch.InputError, match=message):
        small("resnet8", **options)


def model_names(model):
    return {layer.name for layer in model.layers}


def shortcut_names(add):
    """Return the possible layer names of a shortcut that changes the shape."""
    stem = add.name.removesuffix("_add") + "_shortcut"
    return stem, f"{stem}_pad", f"{stem}_subsample"


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50", "resnet20v2", "resnet50v2"])
def test_zero_init_residual_makes_every_block_the_identity(name):
    """Blocks that keep the shape return their input, in ResNets of 2015 after another ReLU."""
    model = small(name, zero_init_residual=True)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    skips = [
        add for add in adds if not any(name in model_names(model) for name in shortcut_names(add))
    ]
    assert len(adds) > len(skips) >= len(adds) - 4  # all but the first block of a stage
    values = keras.Model(
        model.input, [tensor for add in skips for tensor in (add.input[0], add.output)]
    )(images)
    for entering, leaving in zip(values[::2], values[1::2], strict=True):
        np.testing.assert_array_equal(
            leaving if name.endswith("v2") else np.maximum(leaving, 0), entering
        )
    plain = classifier(name)
    assert not any(
        np.all(layer.gamma == 0)
        for layer in plain.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )


@pytest.mark.usefixtures("zero_kernels")
def test_resnet_d():
    """timm's ResNet-50-D has 25,576,264 parameters."""
    model = keras_arch.ResNet50(variant="d")
    assert count(model.trainable_weights) == 25_576_264
    assert model.get_layer("stage2_block1_shortcut_pool").pool_size == (2, 2)
    assert small("resnet50", variant="d", input_shape=(97, 97, 3)).output_shape == (None, 10)
    assert small("resnet20", variant="d").get_layer("stem_conv").kernel.shape == (3, 3, 3, 16)


@pytest.mark.usefixtures("zero_kernels")
def test_squeeze_and_excitation():
    """Cadene's SE-ResNet-50, after the paper, has 28,088,024 parameters."""
    model = keras_arch.ResNet50(squeeze_excitation_ratio=1 / 16)
    assert count(model.trainable_weights) == 28_088_024


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet20v2"])
def test_stochastic_depth_grows_linearly_and_drops_complete_branches(name):
    model = small(name, stochastic_depth_rate=0.5)
    drops = [layer for layer in model.layers if layer.name.endswith("_stochastic_depth")]
    blocks = [layer for layer in model.layers if layer.name.endswith("_add")]
    np.testing.assert_allclose(
        [layer.rate for layer in drops], 0.5 * np.arange(1, len(blocks) + 1) / len(blocks)
    )
    branch = drops[-1](np.ones((1000, 2, 2, 3), "float32"), training=True)
    values = keras.ops.convert_to_numpy(branch).reshape(1000, -1)
    assert {0.0, 2.0} == set(values.ravel())  # dropped, or scaled up by 1 / (1 - 0.5)
    assert (values == values[:, :1]).all()
    assert 400 < (values[:, 0] == 0).sum() < 600
    assert len(classifier(name).layers) == len(model.layers) - len(drops)


@pytest.mark.usefixtures("zero_kernels")
def test_googlenets_options():
    paper = keras_arch.GoogLeNet(batch_norm=False)
    assert count(paper.trainable_weights) == 6_998_552
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in paper.layers)
    assert count(keras_arch.GoogLeNet(kernel_5x5=3).trainable_weights) == 6_624_904
    kept = small("googlenet", stem="cifar", include_top=False)
    assert kept.output_shape == (None, 8, 8, 1024)
    assert small("googlenet", include_top=False).output_shape == (None, 1, 1, 1024)


@pytest.mark.usefixtures("zero_kernels")
def test_googlenet_slimmer_and_with_a_stride():
    """Width 0.5 has half of the filters and a quarter of the multiply-adds in Inception modules."""
    model = keras_arch.GoogLeNet(
        width=0.5, stem="cifar_stride2", input_shape=(32, 32, 3), classes=10
    )
    complete = keras_arch.GoogLeNet(stem="cifar", input_shape=(16, 16, 3), classes=10)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert layer.filters == complete.get_layer(layer.name).filters / 2
            assert layer.output.shape[1:3] == complete.get_layer(layer.name).output.shape[1:3]
    costs = [
        sum(
            row.multiply_adds
            for row in keras_arch.cost(network).layers
            if row.name.startswith("inception")
        )
        for network in (model, complete)
    ]
    assert costs[0] == costs[1] / 4
    with pytest.raises(keras_arch.InputError, match="`width` must be a number above 0"):
        keras_arch.GoogLeNet(width=0)


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize("name", ["resnet20", "resnet50", "resnet20v2", "plain18"])
def test_wider_residual_networks(name):
    """Width 2 doubles the filters of every convolution. The layers are the same."""
    shape = {"input_shape": (32, 32, 3), "classes": 10}
    model, wide = (keras_arch.build(name, width=width, **shape) for width in (1, 2))
    assert [layer.name for layer in model.layers] == [layer.name for layer in wide.layers]
    for layer in wide.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert layer.filters == 2 * model.get_layer(layer.name).filters
    odd = keras_arch.build(name, width=0.3, **shape)
    assert odd(np.zeros((1, 32, 32, 3))).shape == (1, 10)
    assert keras_arch.build(name, width=0.001, **shape).layers[-1].input.shape[-1] >= 1
    with pytest.raises(keras_arch.InputError, match="`width` must be a number above 0"):
        keras_arch.build(name, width=17)


@pytest.mark.usefixtures("zero_kernels")
def test_googlenets_feature_maps_are_those_of_table_1():
    model = keras_arch.GoogLeNet()
    shapes = {
        name: model.get_layer(f"inception_{name}_concat").output.shape[1:]
        for name in ("3a", "3b", "4a", "4e", "5b")
    }
    assert shapes == {
        "3a": (28, 28, 256),
        "3b": (28, 28, 480),
        "4a": (14, 14, 512),
        "4e": (14, 14, 832),
        "5b": (7, 7, 1024),
    }


def test_strip_auxiliary_heads(tmp_path):
    slim = {"classes": 10, "width": 0.25}  # faster
    model = keras_arch.GoogLeNet(auxiliary_heads=True, input_shape=(112, 112, 3), **slim)
    assert [output.shape for output in model.outputs] == [(None, 10)] * 3
    images = np.random.default_rng(0).uniform(0, 255, (2, 112, 112, 3)).astype("float32")
    main = keras_arch.strip_auxiliary_heads(model)
    assert keras_arch.strip_auxiliary_heads(main) is main
    np.testing.assert_array_equal(main(images).numpy(), model(images)[0].numpy())
    assert main.count_params() == keras_arch.GoogLeNet(**slim).count_params()
    model.save(tmp_path / "model.keras")
    assert keras_arch.open_artifact(tmp_path / "model.keras").predict(images).shape == (2, 10)
    for options in ({"input_shape": (32, 32, 3)}, {"include_top": False}):
        with pytest.raises(keras_arch.InputError, match="auxiliary_heads=False"):
            keras_arch.GoogLeNet(auxiliary_heads=True, **options)


def test_local_response_normalization_by_its_formula(tmp_path):
    """Krizhevsky et al. 2012, section 3.3, in a loop. The layer converts to built-in operators."""
    images = keras.Input((4, 4, 7))
    model = keras.Model(images, local_response_norm(images, "norm"))
    values = np.random.default_rng(0).uniform(0, 100, (2, 4, 4, 7)).astype("float32")
    expected = np.empty_like(values)
    for channel in range(7):
        near = values[..., max(0, channel - 2) : channel + 3]
        expected[..., channel] = (
            values[..., channel] / (1 + 1e-4 / 5 * (near**2).sum(axis=-1)) ** 0.75
        )
    np.testing.assert_allclose(model(values), expected, rtol=1e-5)
    write_tflite(model, tmp_path / "norm.tflite")


def test_network_in_network_by_hand():
    """Count kernels and biases: 5x5, 1x1, 1x1, 5x5, 1x1, 1x1, 3x3, 1x1, 1x1."""
    rows = [
        (5, 3, 192),
        (1, 192, 160),
        (1, 160, 96),
        (5, 96, 192),
        *[(1, 192, 192)] * 2,
        (3, 192, 192),
        (1, 192, 192),
        (1, 192, 10),
    ]
    by_hand = [size * size * before * after + after for size, before, after in rows]
    assert sum(by_hand) == 966_986
    assert [
        layer.count_params()
        for layer in keras_arch.NetworkInNetwork().layers
        if layer.count_params()
    ] == by_hand


# --- claims of docs/architectures.md ---


def test_one_by_one_convolution_is_a_dense_layer_at_every_pixel():
    values = np.random.default_rng(0).standard_normal((2, 5, 7, 12)).astype("float32")
    images = keras.Input((5, 7, 12))
    convolution = keras.Model(images, conv(images, 3, 1, use_bias=True, name="conv"))
    dense = keras.Model(images, keras.layers.Dense(3)(images))
    kernel, bias = convolution.get_weights()
    dense.set_weights([kernel[0, 0], bias])
    np.testing.assert_allclose(convolution(values), dense(values), rtol=1e-4, atol=1e-5)
    assert (
        keras_arch.cost(convolution).multiply_adds
        == keras_arch.cost(dense).multiply_adds
        == 5 * 7 * 12 * 3
    )


def test_bottleneck_of_1x1_convolutions_cuts_120_million_multiplications_to_12():
    images = keras.Input((28, 28, 192))
    straight = keras.layers.Conv2D(32, 5, padding="same")(images)
    reduced = keras.layers.Conv2D(16, 1)(images)
    reduced = keras.layers.Conv2D(32, 5, padding="same")(reduced)
    assert keras_arch.cost(keras.Model(images, straight)).multiply_adds == 120_422_400
    cost = keras_arch.cost(keras.Model(images, reduced))
    assert [layer.multiply_adds for layer in cost.layers] == [0, 2_408_448, 10_035_200]
    assert cost.multiply_adds == 12_443_648


def test_naive_inception_module_only_grows():
    images = keras.Input((28, 28, 192))
    row = keras_arch.Inception("3a", 64, 96, 128, 16, 32, 32)
    naive = keras.Model(images, keras_arch.naive_inception_module(images, row))
    reduced = keras.Model(images, keras_arch.inception_module(images, row))
    assert naive.output_shape == (None, 28, 28, 64 + 128 + 32 + 192)
    assert reduced.output_shape == (None, 28, 28, 256)
    by_hand = 28 * 28 * 192 * (64 + 9 * 128 + 25 * 32)
    assert keras_arch.cost(naive).multiply_adds == by_hand == 303_464_448
    assert keras_arch.cost(reduced).multiply_adds == 128_049_152


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("stem_conv1_bn", "stem"),
        ("stage2_block1_conv1", "stage2"),
        ("inception_3a_reduce_3x3", "inception_3a"),
        ("mlpconv1_mlp1_relu", "mlpconv1"),
        ("pool_4_pad", "pool_4"),
        ("fire2_squeeze", "fire2"),
        ("final_bn", "final"),
        ("avg_pool", "avg_pool"),
        ("predictions", "predictions"),
        *((name, name) for name in ("conv2d_1", "max_pooling2d_3", "batch_normalization_2")),
    ],
)
def test_stage_of_a_layer(name, stage):
    """Names that Keras gives have no stage."""
    assert LayerCost(name, "Conv2D", (8, 8, 3), 0, 0, 0).stage == stage


def test_cost_rejects_other_kernels():
    images = keras.Input((8, 8, 3))
    with pytest.raises(keras_arch.InputError, match="ConvLSTM1D"):
        keras_arch.cost(keras.Model(images, keras.layers.ConvLSTM1D(4, 3)(images)))


def test_cost_needs_a_size():
    with pytest.raises(keras_arch.InputError, match="fixed image size"):
        keras_arch.cost(keras_arch.ResNet20(input_shape=(None, None, 3)))


def test_option_a_subsamples_and_pads_with_zeros():
    model = keras_arch.ResNet20(include_top=False, input_shape=(32, 32, 3))
    add = model.get_layer("stage2_block1_add")
    before, shortcut = (
        keras.Model(model.input, tensor)(
            np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
        )
        for tensor in (model.get_layer("stage1_block3_out").output, add.input[0])
    )
    np.testing.assert_array_equal(shortcut[..., :16], before[:, ::2, ::2])
    np.testing.assert_array_equal(shortcut[..., 16:], 0)


def test_weights_file(tmp_path):
    model = small("resnet8")
    model.save_weights(tmp_path / "own.weights.h5")
    again = small("resnet8", weights=tmp_path / "own.weights.h5")
    for mine, theirs in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(keras_arch.InputError, match=r"resnet8 with output \(None, 7\)"):
        small("resnet8", classes=7, weights=tmp_path / "own.weights.h5")
    with pytest.raises(keras_arch.InputError, match="must hold weights of a resnet20"):
        small("resnet20", weights=tmp_path / "own.weights.h5")
    with pytest.raises(keras_arch.InputError, match="does not exist"):
        small("resnet8", weights=tmp_path / "none.weights.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, r"`classes` must be an integer >= 2\. Received: classes=1\."),
        ({"classes": "5"}, r"`classes` must be an integer >= 2\. Received: classes='5'\."),
        ({"input_shape": (16, 16, 3)}, r"at least 32x32 pixels.* Received: 16x16"),
        ({"input_shape": (32, 32)}, r"\(height, width, channels\)"),
        ({"input_shape": 32}, r"\(height, width, channels\)"),
        ({"stem": "huge"}, r"`stem` must be one of imagenet, deep, cifar.* Received: stem='huge'"),
        ({"shortcut": "c"}, r"`shortcut` must be one of projection.* Received: shortcut='c'"),
        ({"variant": "e"}, r"`variant` must be one of b, d.* Received: variant='e'"),
        (
            {"stochastic_depth_rate": 1},
            r"`stochastic_depth_rate` must be a number from 0 to below 1",
        ),
        (
            {"squeeze_excitation_ratio": 16},
            r"`squeeze_excitation_ratio` must be a number from 0 to 1",
        ),
        ({"classifier_activation": "sotfmax"}, r"`classifier_activation` must be .*'sotfmax'"),
        (
            {"include_top": False, "pooling": "sum"},
            r"`pooling` must be None, 'avg' or 'max'\. Received: pooling='sum'",
        ),
        ({"depth": 18}, r"an option of resnet18\. Received: 'depth'"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        keras_arch.build("resnet18", **options)


@pytest.mark.parametrize(
    ("option", "value"),
    [("zero_init_residual", True), ("shortcut", "projection"), ("stochastic_depth_rate", 0.1)],
)
def test_plain_networks_take_no_residual_options(option, value):
    message = rf"no skip connections.*`{option}`\. Received: {option}=.* Use ResNet20\."
    with pytest.raises(ValueError, match=message):
        keras_arch.Plain20(**{option: value})


def test_plain_networks_have_no_skip_connections():
    assert not any(isinstance(layer, keras.layers.Add) for layer in keras_arch.Plain20().layers)


# --- what editors show ---


def arguments_of(function):
    """Return (name, kind) of each argument in order."""
    parameters = inspect.signature(function).parameters.values()
    return [(item.name, item.kind) for item in parameters if item.name != "self"]


RESIDUAL_BUILDERS = [name for name in BUILDERS if name.startswith(("resnet", "plain"))]


@pytest.mark.parametrize("name", RESIDUAL_BUILDERS)
def test_residual_builders_have_the_signature_of_the_protocol(name):
    builder = BUILDERS[name]
    assert arguments_of(builder) == arguments_of(Builder.__call__)
    assert builder.__annotations__ == Builder.__call__.__annotations__
    defaults = inspect.signature(Builder.__call__).parameters
    for argument in inspect.signature(builder).parameters.values():
        assert defaults[argument.name].default in (..., argument.default)


@pytest.mark.parametrize("name", keras_arch.available())
def test_builders_share_the_arguments_of_keras_applications(name):
    shared = [item for item in arguments_of(Builder.__call__) if item[1] != KEYWORD_ONLY]
    assert arguments_of(BUILDERS[name])[: len(shared)] == shared
    assert all(kind == KEYWORD_ONLY for _, kind in arguments_of(BUILDERS[name])[len(shared) :])


@pytest.mark.parametrize("name", keras_arch.available())
def test_docstrings_of_builders(name):
    text = inspect.getdoc(BUILDERS[name])
    assert re.match(r"Build [A-Z].*\.\n", text)
    sections = re.findall(r"^(\w+):$", text, re.MULTILINE)
    assert sections == ["Args", "Returns", "Raises", "Reference", "Example"]
    documented = re.findall(r"^    (\w+): ", text.partition("Returns:")[0], re.MULTILINE)
    assert documented == [argument for argument, _ in arguments_of(BUILDERS[name])]


PUBLIC_FUNCTIONS = [
    *(f"{kind}_block" for kind in ("basic", "bottleneck", "plain")),
    *(f"preactivation_{kind}_block" for kind in ("basic", "bottleneck")),
    *("inception_module", "naive_inception_module", "mlpconv", "available", "build", "cost"),
    *("load_torchvision_weights", "transfer_weights", "strip_auxiliary_heads"),
    *(row.builder for row in ARCHITECTURES.values()),
]


@pytest.mark.parametrize("name", PUBLIC_FUNCTIONS)
def test_public_functions_are_typed(name):
    signature = inspect.signature(getattr(keras_arch, name))
    assert signature.return_annotation is not inspect.Signature.empty
    for argument in signature.parameters.values():
        assert argument.annotation is not inspect.Parameter.empty, argument.name
