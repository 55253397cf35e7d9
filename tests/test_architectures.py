"""Builders: parameters as published, the contract that every architecture keeps, options, and refusals."""

import keras
import numpy as np
import pytest

import keras_arch

# Trainable parameters and moving statistics: torchvision's for the ImageNet family; CIFAR's counted from section 4.2
# (stem 3x3x3x16 + 2x16; a block 3x3 convolutions and 2 scales and shifts each; a dense layer of 64x10 + 10).
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
}
MOVING = {"resnet18": 9_600, "resnet34": 17_024, "resnet50": 53_120, "resnet101": 105_344, "resnet152": 151_424}


def count(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def small(name, **options):
    """The architecture for images as small as digits, as nearly every test wants it."""
    return keras_arch.build(name, **{"input_shape": (32, 32, 3), "classes": 10, **options})


@pytest.mark.parametrize("name", TRAINABLE)
def test_parameters_are_those_published(name):
    model = keras_arch.build(name)
    assert count(model.trainable_weights) == TRAINABLE[name]
    if name in MOVING:
        assert count(model.non_trainable_weights) == MOVING[name]


def test_cifar_parameters_by_hand():
    def by_hand(n):
        convolutions = 9 * (
            3 * 16 + 2 * n * 16 * 16 + 16 * 32 + (2 * n - 1) * 32 * 32 + 32 * 64 + (2 * n - 1) * 64 * 64
        )
        return convolutions + 2 * (16 + 2 * n * (16 + 32 + 64)) + 64 * 10 + 10

    assert [by_hand(n) for n in (3, 5, 7, 9, 18)] == list(TRAINABLE.values())[5:]
    assert count(keras_arch.ResNet8().trainable_weights) == by_hand(1)


def test_option_b_projects():
    assert count(keras_arch.ResNet20(shortcut="projection").trainable_weights) == 272_474


@pytest.mark.parametrize("name", keras_arch.available())
def test_contract(name):
    model = small(name)
    assert model.name == name
    assert model.input_shape == (None, 32, 32, 3)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    probabilities = model.predict_on_batch(images)
    assert probabilities.shape == (2, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert {type(layer).__module__.split(".")[0] for layer in model.layers} == {"keras"}  # opens without keras_arch
    names = [layer.name for layer in model.layers]
    assert len(set(names)) == len(names)
    assert [layer.name for layer in small(name).layers] == names  # no counters of Keras's in them
    assert any(isinstance(layer, keras.layers.Add) for layer in model.layers)


@pytest.mark.parametrize("name", keras_arch.available())
def test_without_top(name):
    features = small(name, include_top=False)
    assert len(features.output_shape) == 4
    channels = features.output_shape[-1]
    for pooling in ("avg", "max"):
        assert small(name, include_top=False, pooling=pooling).output_shape == (None, channels)


def test_one_channel_and_free_size():
    model = keras_arch.ResNet20(input_shape=(None, None, 1))
    for side in (8, 33):
        assert model(np.zeros((1, side, side, 1), "float32")).shape == (1, 10)


def test_input_tensor():
    images = keras.Input((32, 32, 3), name="mine")
    model = keras_arch.ResNet20(input_tensor=keras.layers.RandomFlip()(images))
    assert [tensor.name for tensor in model.inputs] == ["mine"]


def test_cifar_stem_keeps_small_images():
    assert keras_arch.ResNet18(include_top=False, stem="cifar", input_shape=(32, 32, 3)).output_shape[1:3] == (4, 4)
    assert keras_arch.ResNet18(include_top=False, input_shape=(32, 32, 3)).output_shape[1:3] == (1, 1)


def test_normalisation_is_torchvisions():
    """(x / 255 - mean) / std with the constants that torchvision documents for its weights."""
    model = keras_arch.ResNet20()
    normalised = keras.Model(model.input, model.get_layer("normalise").output)
    images = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    expected = (images / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalised(images), expected, rtol=1e-5, atol=1e-5)


def model_names(model):
    return {layer.name for layer in model.layers}


def shortcut_names(add):
    """What the layers of a shortcut that changes the shape would be called."""
    stem = add.name.removesuffix("_add") + "_shortcut"
    return stem, f"{stem}_pad", f"{stem}_subsample"


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50"])
def test_zero_init_residual_makes_every_block_the_identity(name):
    """Where the shapes agree: what enters, which a ReLU has made non-negative already, leaves unchanged."""
    model = small(name, zero_init_residual=True)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    skips = [add for add in adds if not any(name in model_names(model) for name in shortcut_names(add))]
    assert len(adds) > len(skips) >= len(adds) - 4  # all but the first block of a stage
    values = keras.Model(model.input, [tensor for add in skips for tensor in (add.input[0], add.output)])(images)
    for entering, leaving in zip(values[::2], values[1::2], strict=True):
        np.testing.assert_array_equal(np.maximum(leaving, 0), entering)
    plain = small(name)
    assert not any(
        np.all(layer.gamma == 0) for layer in plain.layers if isinstance(layer, keras.layers.BatchNormalization)
    )


def test_option_a_subsamples_and_pads_with_zeros():
    model = keras_arch.ResNet20(include_top=False)
    add = model.get_layer("stage2_block1_add")
    before, shortcut = (
        keras.Model(model.input, tensor)(np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32"))
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
    with pytest.raises(keras_arch.InputError, match="no such file"):
        small("resnet8", weights=tmp_path / "none.weights.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "classes to be 2 or more, got 1"),
        ({"input_shape": (16, 16, 3)}, "at least 32x32 pixels .* got 16x16"),
        ({"input_shape": (32, 32)}, "(height, width, channels)"),
        ({"stem": "huge"}, "stem to be one of 'imagenet', 'cifar', got 'huge'"),
        ({"shortcut": "c"}, "shortcut to be one of"),
        ({"include_top": False, "pooling": "sum"}, "pooling to be None, 'avg' or 'max', got 'sum'"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message.replace("(h", r"\(h").replace("s)", r"s\)")):
        keras_arch.ResNet18(**options)


def test_unknown_name_offers_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean .*resnet50"):
        keras_arch.build("resnet5O")
    assert keras_arch.build("ResNet8").name == "resnet8"
