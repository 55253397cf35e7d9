"""Costs of any Keras model: by hand, and published numbers of keras.applications."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_arch


def cost_of(*stack, shape=(8, 8, 4)):
    """Return the cost of a model of a few layers."""
    image = x = keras.Input(shape)
    for layer in stack:
        x = layer(x)
    return keras_arch.cost(keras.Model(image, x))


BY_HAND = {  # name: (layer of an 8x8 image of 4 channels, multiply-adds, parameters)
    "convolution in 2 groups": (
        lambda: layers.Conv2D(6, 3, padding="same", groups=2, use_bias=False),
        64 * 6 * 9 * 2,
        6 * 9 * 2,
    ),
    "depthwise convolution": (
        lambda: layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2),
        16 * 9 * 8,
        9 * 8 + 8,
    ),
    "separable convolution": (
        lambda: layers.SeparableConv2D(5, 3, padding="same", depth_multiplier=2),
        64 * (9 * 8 + 8 * 5),
        9 * 8 + 8 * 5 + 5,
    ),
    "separable convolution with a stride": (
        lambda: layers.SeparableConv2D(5, 3, strides=2, padding="same"),
        16 * (9 * 4 + 4 * 5),
        9 * 4 + 4 * 5 + 5,
    ),
    "transposed convolution": (
        lambda: layers.Conv2DTranspose(5, 2, strides=2),
        64 * 4 * 4 * 5,
        4 * 4 * 5 + 5,
    ),
    "dense layer at each pixel": (lambda: layers.Dense(3), 64 * 4 * 3, 4 * 3 + 3),
    "einsum over the channels": (
        lambda: layers.EinsumDense("bhwc,cde->bhwde", (8, 8, 2, 3)),
        64 * 4 * 6,
        4 * 6,
    ),
    "einsum with an ellipsis": (lambda: layers.EinsumDense("...c,cd->...d", 3), 64 * 4 * 3, 4 * 3),
    "einsum over rows and channels": (
        lambda: layers.EinsumDense("bhwc,hcd->bwd", (8, 5)),
        8 * 8 * 4 * 5,
        8 * 4 * 5,
    ),
    "statistics of the data": (lambda: layers.Normalization(), 0, 0),
    "batch normalization": (lambda: layers.BatchNormalization(), 0, 8),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_cost_by_hand(name):
    layer, multiply_adds, parameters = BY_HAND[name]
    cost = cost_of(layer())
    assert (cost.multiply_adds, cost.parameters) == (multiply_adds, parameters)
    assert cost.activations == 8 * 8 * 4 + np.prod(cost.layers[-1].output_shape)


def test_channels_first():
    """A convolution of 2 channels of 6x8 pixels to 5 channels."""
    layer = layers.Conv2D(5, 3, padding="same", data_format="channels_first")
    assert cost_of(layer, shape=(2, 6, 8)).multiply_adds == 6 * 8 * 9 * 2 * 5


def test_a_layer_that_is_called_twice_counts_twice():
    image = keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 3, padding="same", use_bias=False)
    half = layers.AveragePooling2D(2)(shared(image))
    row = keras_arch.cost(keras.Model(image, shared(half))).layers[1]
    assert row.multiply_adds == (64 + 16) * 9 * 3 * 3
    assert (row.activations, row.parameters) == ((64 + 16) * 3, 9 * 3 * 3)


def test_nested_models_of_any_size():
    """A backbone that is built without a size counts at the size at which it is called."""
    backbone = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(4, 1, use_bias=False)])
    image = keras.Input((10, 6, 3))
    x = keras.Sequential([layers.RandomFlip(), layers.Rescaling(1 / 255)])(image)
    x = layers.GlobalAveragePooling2D()(backbone(x))
    model = keras.Model(image, layers.Dense(2, use_bias=False)(x))
    before = [layer.get_weights() for layer in model.layers]
    cost = keras_arch.cost(model)
    assert [row.multiply_adds for row in cost.layers] == [0, 0, 60 * 3 * 4, 0, 4 * 2]
    assert [row.parameters for row in cost.layers] == [0, 0, 12, 0, 8]
    # The input of a nested Sequential is no layer of it.
    assert [row.activations for row in cost.layers] == [180, 360, 240, 4, 2]
    # The model is as before: each layer has one output, and the same weights.
    assert [layer.output.shape[0] for layer in model.layers] == [None] * 5
    for layer, weights in zip(model.layers, before, strict=True):
        for one, other in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_open_sizes_need_an_input_shape():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, layers.Conv2D(4, 3, use_bias=False)(image))
    assert keras_arch.cost(model, input_shape=(8, 10, 3)).multiply_adds == 6 * 8 * 9 * 3 * 4
    with pytest.raises(keras_arch.InputError, match=r"image shape \(None, None, 3\)\. Pass"):
        keras_arch.cost(model)
    with pytest.raises(keras_arch.InputError, match=r"shape \(None, None, 3\)\. Received: \(8, 8,"):
        keras_arch.cost(model, (8, 8, 1))
    with pytest.raises(keras_arch.InputError, match="a size that the layers can take"):
        keras_arch.cost(model, (2, 2, 3))


def test_an_input_shape_may_not_change_a_fixed_size():
    """The dense layer would have another kernel."""
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(image)))
    assert keras_arch.cost(model, (8, 8, 1)) == keras_arch.cost(model)
    with pytest.raises(keras_arch.InputError, match=r"shape \(8, 8, 1\)\. Received: \(16, 16, 1"):
        keras_arch.cost(model, (16, 16, 1))


def test_operations_of_keras_that_do_not_multiply_kernels_count_nothing():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 1)(image)
    x = x * keras.ops.relu6(x + 3) / 6
    cost = keras_arch.cost(keras.Model(image, layers.Dense(2)(keras.ops.mean(x, axis=(1, 2)))))
    assert [row.multiply_adds for row in cost.layers] == [0, 64 * 3 * 4, 4 * 2]


UNCOUNTED = {
    "MultiHeadAttention": lambda x: layers.MultiHeadAttention(2, 2)(x, x),
    "LSTM": lambda x: layers.LSTM(2)(x),
    "Attention": lambda x: layers.Attention()([x, x]),
    "Matmul": lambda x: keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1))),
    "Einsum": lambda x: keras.ops.einsum("bij,bkj->bik", x, x),
}


@pytest.mark.parametrize("kind", UNCOUNTED)
def test_other_multiplications_are_refused(kind):
    rows = keras.Input((5, 4))
    with pytest.raises(
        keras_arch.InputError, match=rf"Received: '.*' \({kind}\), which multiplies"
    ):
        keras_arch.cost(keras.Model(rows, UNCOUNTED[kind](rows)))


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("block2a_expand_conv", "block2"),  # EfficientNet
        ("expanded_conv_4_project_bn", "expanded_conv_4"),  # MobileNetV3
        ("block_16_depthwise", "block_16"),  # MobileNetV2
        ("conv4_block6_3_conv", "conv4"),  # ResNet and DenseNet
        ("block13_sepconv2_bn", "block13"),  # Xception
        ("convnext_tiny_stage_2_block_1_gelu", "convnext_tiny_stage_2"),
    ],
)
def test_stages_of_keras_applications(name, stage):
    row = keras_arch.evaluation.cost.LayerCost(name, "Conv2D", (8, 8, 3), 0, 0, 0)
    assert row.stage == stage


# Published multiply-adds, and the relative tolerance of the number of digits.
PUBLISHED = {
    # Sandler et al. 2018 (arXiv:1801.04381), table 4
    "MobileNetV2": (224, 300e6, 0.005),
    # Howard et al. 2019 (arXiv:1905.02244), table 3: 56 M, of V3-Small 1.0
    "MobileNetV3Small": (224, 56e6, 0.01),
    # results/model_benchmark_amp_nchw_rtx3090.csv of timm: 8.4 G, of xception, a port of Keras'
    "Xception": (299, 8.4e9, 0.006),
    # README of google/automl/efficientnetv2: 0.72 B
    "EfficientNetV2B0": (224, 0.72e9, 0.007),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_of_keras_applications_are_those_published(name):
    size, expected, tolerance = PUBLISHED[name]
    model = getattr(keras.applications, name)(weights=None)  # V3 and EfficientNet of any size
    found = keras_arch.cost(model, (size, size, 3))
    assert found.multiply_adds == pytest.approx(expected, rel=tolerance)
    assert found.by_stage().multiply_adds == found.multiply_adds
    assert len(found.by_stage().layers) < len(found.layers) / 2
