"""Feature maps of the stages: sizes, strides and values."""

import functools
import math

import keras
import numpy as np
import pytest
from kinds import HEADS, KINDS

import keras_arch

SIZE = (97, 65)
IMAGES = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3)).astype("float32")
up, down = (lambda size: math.ceil(size / 2)), (lambda size: size // 2)

# {architecture: strides, and the rounding of each division by two before the map}
IMAGENET = ((4, 8, 16, 32), [(up,) * halvings for halvings in (2, 3, 4, 5)])
CIFAR = ((1, 2, 4), [(up,) * halvings for halvings in (0, 1, 2)])
EXPECTED = {
    "googlenet": ((8, 16, 32), [(up, *(down,) * halvings) for halvings in (2, 3, 4)]),
    "nin": ((1, 2, 4), [(), (down,), (down, up)]),
}


LISTED = [
    name for name in keras_arch.available() if name.startswith(("resnet", "plain", *EXPECTED))
]


def expected(name):
    depth = int("".join(filter(str.isdigit, name.removesuffix("v2"))) or 0)
    imagenet = depth in (18, 34, 50, 101, 152)
    return EXPECTED.get(name, IMAGENET if imagenet else CIFAR)


@functools.cache
def backbone(name):
    return keras_arch.build(name, include_top=False)


def builders(quick, names=None):
    """All architectures, or `names`. `make slowtest` adds those that are not in `quick`."""
    return [
        name if name in quick else pytest.param(name, marks=pytest.mark.slow)
        for name in names or keras_arch.available()
    ]


@pytest.mark.parametrize("name", builders(HEADS))
def test_a_stride_is_the_image_size_divided_by_the_size_of_the_map(name):
    """The quotient is rounded up or down."""
    model = backbone(name)
    strides = keras_arch.feature_strides(model)
    outputs = keras.Model(model.input, keras_arch.feature_maps(model))(IMAGES)
    for stage, stride in strides.items():
        for side, size in zip(outputs[stage].shape[1:3], SIZE, strict=True):
            assert size // stride <= side <= math.ceil(size / stride)


QUICK = [name for name in KINDS if "resnet50" not in name]


@pytest.mark.parametrize("name", builders(QUICK, LISTED))
def test_sizes_and_strides(name):
    """The sizes are computed by dividing the image size by two, each time rounded."""
    strides, roundings = expected(name)
    keys = [f"stage{number}" for number in range(1, len(strides) + 1)]
    maps = keras_arch.feature_maps(backbone(name))
    assert list(maps) == keys
    assert keras_arch.feature_strides(backbone(name)) == dict(zip(keys, strides, strict=True))
    outputs = keras.Model(backbone(name).input, maps)(IMAGES)
    for key, steps in zip(keys, roundings, strict=True):
        size = tuple(functools.reduce(lambda side, step: step(side), steps, side) for side in SIZE)
        assert outputs[key].shape[1:3] == size
        assert outputs[key].shape[3] == maps[key].shape[3]
        assert outputs[key].numpy().min() >= 0, "the map is not activated"
    np.testing.assert_array_equal(outputs[keys[-1]], backbone(name)(IMAGES))


@pytest.mark.parametrize("name", builders(HEADS))
def test_the_head_changes_no_map(name):
    """The same layers compute the maps as without the head."""
    model = keras_arch.build(name, input_shape=(64, 96, 3), classes=7)
    assert end_layers(model) == end_layers(backbone(name))
    assert keras_arch.feature_strides(model) == keras_arch.feature_strides(backbone(name))


def end_layers(model):
    """Return {stage: name of the layer whose output is its map}."""
    return {
        stage: layer.name
        for stage, tensor in keras_arch.feature_maps(model).items()
        for layer in model.layers
        if layer.output is tensor
    }


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet8", ("stage1_block1_out", "stage2_block1_out", "stage3_block1_out")),
        ("plain20", tuple(f"stage{stage}_block3_conv2_relu" for stage in (1, 2, 3))),
        ("resnet20v2", ("stage2_block1_preact_relu", "stage3_block1_preact_relu", "final_relu")),
        ("googlenet", ("inception_3b_concat", "inception_4e_concat", "inception_5b_concat")),
        ("nin", ("mlpconv1_mlp2_relu", "mlpconv2_mlp2_relu", "mlpconv3_mlp1_relu")),
    ],
)
def test_layers_that_end_the_stages(name, layers):
    assert tuple(end_layers(backbone(name)).values()) == layers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "strides"),
    [
        ({"stem": "cifar_stride2", "auxiliary_heads": True}, (2, 4, 8)),
        ({"batch_norm": False}, (8, 16, 32)),
    ],
)
def test_options_of_googlenet(options, strides):
    model = keras_arch.GoogLeNet(input_shape=(96, 96, 3), classes=3, width=0.1, **options)
    assert tuple(keras_arch.feature_strides(model).values()) == strides
    assert all(
        tensor.shape[1:3] == (96 // stride, 96 // stride)
        for tensor, stride in zip(keras_arch.feature_maps(model).values(), strides, strict=True)
    )


@pytest.mark.parametrize("builder", ["ResNet8", "ResNet20V2"])
def test_options_of_residual_networks(builder):
    """ResNet-D, squeeze and excitation, and stochastic depth add layers to the stages."""
    model = getattr(keras_arch, builder)(
        input_shape=(64, 64, 3),
        variant="d",
        stem="imagenet",
        squeeze_excitation_ratio=0.25,
        stochastic_depth_rate=0.5,
    )
    assert keras_arch.feature_strides(model) == {"stage1": 4, "stage2": 8, "stage3": 16}
    sizes = [tensor.shape[1] for tensor in keras_arch.feature_maps(model).values()]
    assert sizes == [16, 8, 4]


def test_a_loaded_model_and_augmentation_in_front(tmp_path):
    image = keras.Input((64, 64, 3))
    model = keras_arch.ResNet8(input_tensor=keras.layers.RandomFlip()(image))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    maps = keras_arch.feature_maps(loaded)
    assert keras_arch.feature_strides(loaded) == {"stage1": 1, "stage2": 2, "stage3": 4}
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    found = keras.Model(loaded.input, [*maps.values()])(images, training=False)
    own = keras.Model(model.input, [*keras_arch.feature_maps(model).values()])(
        images, training=False
    )
    for one, other in zip(found, own, strict=True):
        np.testing.assert_array_equal(one, other)


def other_models():
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    yield keras.Sequential([backbone("resnet8"), *head]), "Received: sequential"
    yield keras.applications.VGG16(False, None, input_shape=(32, 32, 3)), "Received: vgg16"
    yield keras.Sequential([keras.layers.Dense(2)]), "a built Sequential"
    yield "resnet8", "Received: str"


def test_models_of_others_are_refused():
    for model, message in other_models():
        for function in (keras_arch.feature_maps, keras_arch.feature_strides):
            with pytest.raises(keras_arch.InputError, match=message) as refused:
                function(model)
            assert len(str(refused.value)) < 290
