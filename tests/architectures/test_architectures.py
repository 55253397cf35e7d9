"""Builders: numbers as published, options, refusals."""

import inspect
import math
import re

import keras
import numpy as np
import pytest
from conftest import ROOT, write_tflite
from golden.write_variables import variables_of

import keras_arch
from keras_arch.architectures.googlenet import local_response_norm
from keras_arch.architectures.layers import conv
from keras_arch.architectures.registry import BUILDERS

# Trainable parameters and moving statistics: torchvision's for the ImageNet family; CIFAR's counted from section 4.2.
TRAINABLE = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    # The plain networks have what the residual ones have, less the projections of three stages: 1x1 kernels and norms.
    "plain18": 11_689_512 - (64 * 128 + 128 * 256 + 256 * 512) - 2 * (128 + 256 + 512),
    "plain34": 21_797_672 - (64 * 128 + 128 * 256 + 256 * 512) - 2 * (128 + 256 + 512),
    "plain20": 269_722,
    "plain32": 464_154,
    "plain44": 658_586,
    "plain56": 853_018,
    # keras.applications' ResNet50V2 has 25,568,360, 101V2 44,577,896 and 152V2 60,236,904: with biases where ours has none (four projections, the last
    # convolution of 16 blocks, the stem), and without batch norm behind the stem.
    "resnet50v2": 25_568_360
    - (256 + 512 + 1024 + 2048)
    - (3 * 256 + 4 * 512 + 6 * 1024 + 3 * 2048)
    - 64
    + 2 * 64,
    "resnet101v2": 44_577_896
    - (256 + 512 + 1024 + 2048)
    - (3 * 256 + 4 * 512 + 23 * 1024 + 3 * 2048)
    - 64
    + 2 * 64,
    "resnet152v2": 60_236_904
    - (256 + 512 + 1024 + 2048)
    - (3 * 256 + 8 * 512 + 36 * 1024 + 3 * 2048)
    - 64
    + 2 * 64,
    "googlenet": 7_005_832,
    "nin": 966_986,
}
MOVING = {
    "resnet18": 9_600,
    "resnet34": 17_024,
    "resnet50": 53_120,
    "resnet101": 105_344,
    "resnet152": 151_424,
}

# Multiply-adds for one image of the published size, in units of the last digit: 224 pixels, 32 for CIFAR's.
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

# One of each kind of block; what the deeper ones add is repetition.
KINDS = [
    "googlenet",
    "nin",
    "plain20",
    "resnet8",
    "resnet18",
    "resnet50",
    "resnet20v2",
    "resnet50v2",
]
SHAPE = (32, 32, 3)


def count(weights):
    return sum(math.prod(weight.shape) for weight in weights)


def small(name, **options):
    """The architecture for small images and ten classes, as nearly every test wants it."""
    return keras_arch.build(name, **{"input_shape": SHAPE, "classes": 10, **options})


# --- as published ---


@pytest.fixture(scope="module", params=keras_arch.available())
def published(request):
    """Every registered model as its builder makes it of itself."""
    return keras_arch.build(request.param)


def test_parameters_are_those_published(published):
    if published.name in TRAINABLE:
        assert count(published.trainable_weights) == TRAINABLE[published.name]
    if published.name in MOVING:
        assert count(published.non_trainable_weights) == MOVING[published.name]
    assert published.name in {*TRAINABLE, *UNPUBLISHED}


# The papers and other libraries give no exact number for these; they are of the same blocks as those above.
UNPUBLISHED = {"resnet8", "resnet20v2", "resnet56v2", "resnet110v2", "resnet164v2"}


def test_cost_is_that_published(published):
    cost = keras_arch.cost(published)
    assert cost.parameters == count(published.trainable_weights)
    assert cost.by_stage().multiply_adds == cost.multiply_adds
    if published.name in MULTIPLY_ADDS:
        digits, unit = MULTIPLY_ADDS[published.name].split()
        decimals = len(digits.split(".")[1])
        assert round(cost.multiply_adds / {"G": 1e9, "M": 1e6}[unit], decimals) == float(digits)


def test_names_and_shapes_of_variables_stay(published):
    """A file saved today opens tomorrow. `python tests/golden/write_variables.py` writes the goldens anew."""
    golden = ROOT / "tests" / "golden" / "variables" / f"{published.name}.txt"
    assert variables_of(published) == golden.read_text()


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
        TRAINABLE[f"resnet{depth}"] for depth in (20, 32, 44, 56, 110)
    ]
    assert count(keras_arch.ResNet8().trainable_weights) == by_hand(1)


# --- options ---


@pytest.mark.parametrize("name", KINDS)
def test_features_without_top(name):
    features = small(name, include_top=False)
    assert len(features.output_shape) == 4
    assert features.count_params() < small(name).count_params()


@pytest.mark.parametrize("name", ["resnet8", "googlenet", "nin"])
def test_pooled_features(name, tmp_path):
    features = small(name, include_top=False)
    features.save_weights(tmp_path / "own.weights.h5")
    images = np.random.default_rng(0).uniform(0, 255, (2, *SHAPE)).astype("float32")
    expected = features(images).numpy()
    for pooling, reduce in (("avg", np.mean), ("max", np.max)):
        pooled = small(
            name, include_top=False, pooling=pooling, weights=tmp_path / "own.weights.h5"
        )
        np.testing.assert_allclose(
            pooled(images).numpy(), reduce(expected, axis=(1, 2)), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("googlenet", {"batch_norm": False}, marks=pytest.mark.slow),
        ("resnet8", {"squeeze_excitation_ratio": 1 / 4}),
        ("resnet8", {"stochastic_depth_rate": 0.2}),
        ("resnet8", {"variant": "d"}),
        ("resnet20v2", {"variant": "d"}),
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


@pytest.mark.parametrize("name", KINDS)
def test_one_channel_any_size_and_an_input_of_ones_own(name):
    images = keras.Input((None, None, 1), name="mine")
    model = keras_arch.build(name, input_tensor=images, classes=10)
    assert [tensor.name for tensor in model.inputs] == ["mine"]
    for height, width in ((32, 32), (33, 47)):
        assert model(np.zeros((1, height, width, 1), "float32")).shape == (1, 10)


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50", "googlenet", "nin"])
def test_smallest_image(name):
    with pytest.raises(keras_arch.InputError, match=r"at least \d+x\d+ pixels") as refusal:
        keras_arch.build(name, input_shape=(3, 3, 3))
    least = int(re.search(r"at least (\d+)x", str(refusal.value))[1])
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


def test_cifar_stem_keeps_small_images():
    assert keras_arch.ResNet18(
        include_top=False, stem="cifar", input_shape=(32, 32, 3)
    ).output_shape[1:3] == (4, 4)
    assert keras_arch.ResNet18(include_top=False, input_shape=(32, 32, 3)).output_shape[1:3] == (
        1,
        1,
    )


def test_normalisation_is_torchvisions():
    """(x / 255 - mean) / std with the constants that torchvision documents for its weights."""
    model = keras_arch.ResNet20()
    normalised = keras.Model(model.input, model.get_layer("normalise").output)
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    expected = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalised(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet8", 1),
        ("resnet8", 3),
        ("resnet8", 4),
        ("plain20", 3),
        ("resnet20v2", 3),
        ("googlenet", 3),
        ("nin", 1),
    ],
)
def test_mean_and_std_of_ones_own(name, channels):
    """(x / 255 - mean) / std with the numbers of another training."""
    mean, std = np.linspace(0.3, 0.6, channels), np.linspace(0.2, 0.3, channels)
    shape = (*SHAPE[:2], channels)
    model = small(name, input_shape=shape, mean=tuple(mean), std=std.tolist())
    normalised = keras.Model(model.input, model.get_layer("normalise").output)
    images = np.random.default_rng(0).uniform(0, 255, (1, *shape)).astype("float32")
    np.testing.assert_allclose(
        normalised(images), (images / 255 - mean) / std, rtol=1e-5, atol=1e-5
    )
    again = keras.models.model_from_json(model.to_json())
    assert again.get_layer("normalise").get_config() == model.get_layer("normalise").get_config()


@pytest.mark.parametrize("name", keras_arch.available())
def test_every_builder_takes_mean_and_std_as_keywords(name):
    parameters = inspect.signature(BUILDERS[name]).parameters
    assert [parameters[option].kind for option in ("mean", "std")] == [
        inspect.Parameter.KEYWORD_ONLY
    ] * 2
    assert all(f"        {option}: " in BUILDERS[name].__doc__ for option in ("mean", "std"))


def test_mean_of_ones_own_and_the_default_std():
    """Images of four channels take the average of red, green and blue."""
    model = small("resnet8", input_shape=(32, 32, 4), mean=(0.1, 0.2, 0.3, 0.4))
    normalised = keras.Model(model.input, model.get_layer("normalise").output)
    images = np.full((1, 32, 32, 4), 51, "float32")
    expected = (0.2 - np.array([0.1, 0.2, 0.3, 0.4])) / ((0.229 + 0.224 + 0.225) / 3)
    np.testing.assert_allclose(normalised(images)[0, 0, 0], expected, rtol=1e-5, atol=1e-6)


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
        ({"mean": 0.5}, r"`mean` must be 3 .* Received: mean=0.5"),
        ({"mean": "0.5"}, r"`mean` must be 3 .* Received: mean='0.5'"),
        ({"mean": (123.7, 116.3, 103.5)}, r"`mean` must be 3 .*0 to 1.* Received: mean=\(123.7"),
    ],
)
def test_mean_and_std_that_cannot_be_used(options, message):
    with pytest.raises(keras_arch.InputError, match=message):
        small("resnet8", **options)


def model_names(model):
    return {layer.name for layer in model.layers}


def shortcut_names(add):
    """What the layers of a shortcut that changes the shape would be called."""
    stem = add.name.removesuffix("_add") + "_shortcut"
    return stem, f"{stem}_pad", f"{stem}_subsample"


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50", "resnet20v2", "resnet50v2"])
def test_zero_init_residual_makes_every_block_the_identity(name):
    """Where the shapes agree: what enters leaves unchanged; in 2015's blocks up to their ReLU, which it has met before."""
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
    plain = small(name)
    assert not any(
        np.all(layer.gamma == 0)
        for layer in plain.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )


def test_resnet_d():
    """timm's ResNet-50-D has 25,576,264 parameters."""
    model = keras_arch.ResNet50(variant="d")
    assert count(model.trainable_weights) == 25_576_264
    assert model.get_layer("stage2_block1_shortcut_pool").pool_size == (2, 2)
    assert small("resnet50", variant="d", input_shape=(97, 97, 3)).output_shape == (None, 10)
    assert small("resnet20", variant="d").get_layer("stem_conv").kernel.shape == (3, 3, 3, 16)


def test_squeeze_and_excitation():
    """Cadene's SE-ResNet-50, after the paper, has 28,088,024 parameters."""
    model = keras_arch.ResNet50(squeeze_excitation_ratio=1 / 16)
    assert count(model.trainable_weights) == 28_088_024


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet20v2"])
def test_stochastic_depth_grows_linearly_and_drops_whole_branches(name):
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
    assert len(small(name).layers) == len(model.layers) - len(drops)


def test_googlenets_options():
    paper = keras_arch.GoogLeNet(batch_norm=False)
    assert count(paper.trainable_weights) == 6_998_552
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in paper.layers)
    assert count(keras_arch.GoogLeNet(kernel_5x5=3).trainable_weights) == 6_624_904
    kept = small("googlenet", stem="cifar", include_top=False)
    assert kept.output_shape == (None, 8, 8, 1024)
    assert small("googlenet", include_top=False).output_shape == (None, 1, 1, 1024)


def test_googlenet_slimmer_and_with_a_stride():
    """Half of the filters in each convolution; table 1's multiply-adds of the same feature map, a quarter of the whole."""
    model = keras_arch.GoogLeNet(
        width=0.5, stem="cifar_stride2", input_shape=(32, 32, 3), classes=10
    )
    whole = keras_arch.GoogLeNet(stem="cifar", input_shape=(16, 16, 3), classes=10)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert layer.filters == whole.get_layer(layer.name).filters / 2
            assert layer.output.shape[1:3] == whole.get_layer(layer.name).output.shape[1:3]
    costs = [
        sum(
            row.multiply_adds
            for row in keras_arch.cost(network).layers
            if row.name.startswith("inception")
        )
        for network in (model, whole)
    ]
    assert costs[0] == costs[1] / 4
    with pytest.raises(keras_arch.InputError, match="width to be greater than 0"):
        keras_arch.GoogLeNet(width=0)


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


def test_auxiliary_heads_come_off(tmp_path):
    model = keras_arch.GoogLeNet(auxiliary_heads=True, classes=10, input_shape=(112, 112, 3))
    assert [output.shape for output in model.outputs] == [(None, 10)] * 3
    images = np.random.default_rng(0).uniform(0, 255, (2, 112, 112, 3)).astype("float32")
    main = keras_arch.strip_auxiliary_heads(model)
    assert keras_arch.strip_auxiliary_heads(main) is main
    np.testing.assert_array_equal(main(images).numpy(), model(images)[0].numpy())
    assert main.count_params() == keras_arch.GoogLeNet(classes=10).count_params()
    model.save(tmp_path / "model.keras")
    assert keras_arch.open_artifact(tmp_path / "model.keras").predict(images).shape == (2, 10)
    for options in ({"input_shape": (32, 32, 3)}, {"include_top": False}):
        with pytest.raises(keras_arch.InputError, match="auxiliary_heads=False"):
            keras_arch.GoogLeNet(auxiliary_heads=True, **options)


def test_local_response_normalisation_by_its_formula(tmp_path):
    """Krizhevsky et al. 2012, section 3.3, summed in a loop; and it converts to built-in operators."""
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
    """Kernel and bias of each of the nine convolutions: 5x5, 1x1, 1x1; 5x5, 1x1, 1x1; 3x3, 1x1, 1x1."""
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


# --- the claims of the lecture ---


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


def test_cost_refuses_what_it_cannot_count():
    images = keras.Input((8, 8, 3))
    with pytest.raises(keras_arch.InputError, match="SeparableConv2D"):
        keras_arch.cost(keras.Model(images, keras.layers.SeparableConv2D(4, 3)(images)))


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
    with pytest.raises(keras_arch.InputError, match="expected weights saved by a resnet20"):
        small("resnet20", weights=tmp_path / "own.weights.h5")
    with pytest.raises(keras_arch.InputError, match="does not exist"):
        small("resnet8", weights=tmp_path / "none.weights.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, r"classes to be a whole number of 2 or more, got 1"),
        ({"classes": "5"}, r"classes to be a whole number of 2 or more, got '5'"),
        ({"input_shape": (16, 16, 3)}, r"at least 32x32 pixels .* got 16x16"),
        ({"input_shape": (32, 32)}, r"\(height, width, channels\)"),
        ({"input_shape": 32}, r"\(height, width, channels\)"),
        ({"stem": "huge"}, r"`stem` must be one of imagenet, deep, cifar.* Received: stem='huge'"),
        ({"shortcut": "c"}, r"`shortcut` must be one of projection.* Received: shortcut='c'"),
        ({"variant": "e"}, r"`variant` must be one of b, d.* Received: variant='e'"),
        ({"stochastic_depth_rate": 1}, r"stochastic_depth_rate to be from 0 to below 1"),
        ({"squeeze_excitation_ratio": 16}, r"squeeze_excitation_ratio to be from 0 to 1"),
        ({"classifier_activation": "sotfmax"}, r"an activation of Keras"),
        (
            {"include_top": False, "pooling": "sum"},
            r"pooling to be None, 'avg' or 'max', got 'sum'",
        ),
        ({"depth": 18}, r"an option of resnet18\. Received: 'depth'"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        keras_arch.build("resnet18", **options)


def test_plain_networks_have_no_skip_to_change():
    for options in (
        {"zero_init_residual": True},
        {"shortcut": "projection"},
        {"stochastic_depth_rate": 0.1},
    ):
        with pytest.raises(ValueError, match=r"nothing skips in it; ResNet20 would work"):
            keras_arch.Plain20(**options)
    assert not any(isinstance(layer, keras.layers.Add) for layer in keras_arch.Plain20().layers)


def test_unknown_name_offers_the_nearest():
    with pytest.raises(ValueError, match=r"Did you mean .*resnet50"):
        keras_arch.build("resnet5O")
    assert keras_arch.build("ResNet8").name == "resnet8"


# --- features of images of any size ---


@pytest.mark.parametrize("name", ["resnet8", "resnet20v2", "googlenet", "nin"])
def test_features_without_input_shape_take_any_size(name):
    """As in keras.applications; the features of an image are those of a model of its size."""
    features = keras_arch.build(name, include_top=False)
    assert features.input_shape == (None, None, None, 3)
    assert features.output_shape[:3] == (None, None, None)
    images = np.random.default_rng(0).uniform(0, 255, (1, 40, 56, 3)).astype("float32")
    fixed = keras_arch.build(name, include_top=False, input_shape=(40, 56, 3))
    fixed.set_weights(features.get_weights())
    np.testing.assert_allclose(features(images), fixed(images), rtol=1e-4, atol=1e-4)


def test_pooled_features_without_input_shape_are_a_vector():
    pooled = keras_arch.ResNet8(include_top=False, pooling="avg")
    assert pooled.input_shape == (None, None, None, 3)
    assert pooled.output_shape == (None, 64)


@pytest.mark.parametrize("name", ["resnet8", "googlenet", "nin"])
def test_the_docstring_says_which_size_none_is(name):
    size = {"resnet8": "(32, 32, 3)", "googlenet": "(224, 224, 3)", "nin": "(32, 32, 3)"}[name]
    text = " ".join(inspect.getdoc(BUILDERS[name]).split())
    assert (
        f"input_shape: (height, width, channels). None is {size}, or (None, None, 3) without the top."
        in text
    )


# --- arguments of other types ---


@pytest.mark.parametrize("name", ["resnet8", "googlenet", "nin"])
def test_integers_of_numpy(name):
    side, channels = np.int32(32), np.int64(3)
    shape = (side, side, channels)
    model = keras_arch.build(name, input_shape=shape, classes=np.int64(7))
    assert model.output_shape == (None, 7)
    assert model.input_shape == (None, 32, 32, 3)
    again = keras.models.model_from_json(
        model.to_json()
    )  # no number of NumPy is left in the configuration
    assert again.output_shape == (None, 7)
    assert keras_arch.build(name, input_shape=np.array([32, 32, 3]), classes=7).input_shape == (
        None,
        32,
        32,
        3,
    )


def test_numbers_of_numpy_for_the_other_options():
    options = {
        "stochastic_depth_rate": np.float32(0.2),
        "squeeze_excitation_ratio": np.float64(0.25),
    }
    model = small("resnet8", zero_init_residual=np.True_, **options)
    assert keras.models.model_from_json(model.to_json()).count_params() == model.count_params()
    model = small("googlenet", width=np.float32(0.5), kernel_5x5=np.int64(3))
    assert keras.models.model_from_json(model.to_json()).count_params() == model.count_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_tensor": "x"}, r"`input_tensor` must .* Received: a str"),
        ({"input_tensor": np.zeros((1, 32, 32, 3))}, r"`input_tensor` must .* Received: a ndarray"),
        ({"input_tensor": keras.Input((32, 32, None))}, r"Received: .*None"),
        ({"input_tensor": keras.Input((32, 32))}, r"Received: .*\(32, 32\)"),
        ({"input_shape": (64.0, 64.0, 3)}, r"`input_shape` must .* Received: .*\(64.0, 64.0, 3\)"),
        ({"input_shape": ("64", "64", 3)}, r"`input_shape` must .* Received: .*'64'"),
        ({"input_shape": (64, 64, 3.0)}, r"`input_shape` must .* Received: .*3.0"),
        ({"input_shape": (64, 64, True)}, r"`input_shape` must .* Received: .*True"),
        ({"input_shape": (64, 64, 0)}, r"`input_shape` must .* Received: .*0\)"),
        ({"input_shape": (64, 64, None)}, r"`input_shape` must .* Received: .*None\)"),
        ({"input_shape": "64"}, r"`input_shape` must .* Received: .*'64'"),
        ({"input_shape": np.zeros((500, 500))}, r"`input_shape` must .* Received: "),
        ({"name": "a/b"}, r"`name` must .* Received: name='a/b'"),
        ({"name": 5}, r"`name` must .* Received: name=5"),
        ({"name": ""}, r"`name` must .* Received: name=''"),
        ({"classes": 10.0}, r"classes .* 10.0"),
        ({"classes": True}, r"classes .* True"),
        ({"classes": None}, r"classes .* None"),
        ({"pooling": 5, "include_top": False}, r"pooling .* 5"),
        ({"stochastic_depth_rate": "0.2"}, r"stochastic_depth_rate .* '0.2'"),
        ({"stochastic_depth_rate": float("nan")}, r"stochastic_depth_rate .* nan"),
        ({"squeeze_excitation_ratio": None}, r"squeeze_excitation_ratio .* None"),
        ({"stem": ["cifar"]}, r"Received: stem=\['cifar'\]"),
        ({"classifier_activation": 5}, r"activation of Keras .* 5"),
    ],
)
def test_arguments_of_another_type(options, message):
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        keras_arch.ResNet8(**options)
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": "1"}, "width .* '1'"),
        ({"width": math.inf}, "width .* inf"),
        ({"kernel_5x5": [5]}, r"kernel_5x5 .*\[5\]"),
    ],
)
def test_googlenets_arguments_of_another_type(options, message):
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.GoogLeNet(**options)


@pytest.mark.parametrize("name", ["resnet8", "googlenet", "nin"])
@pytest.mark.parametrize(
    "options", [{"classes": None}, {"classes": 1}, {"classifier_activation": "none"}]
)
def test_without_a_top_the_classifier_is_ignored(name, options):
    """As in keras.applications."""
    features = keras_arch.build(name, include_top=False, **options)
    assert features.output_shape[:-1] == (None, None, None)
