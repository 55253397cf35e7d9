"""timm's checkpoints: timm's logits are reproduced.

tests/golden/make_timm_goldens.py computed the golden logits with timm. Its rule rebuilds the
weights here from names and shapes.
"""

import json

import keras
import numpy as np
import pytest
from conftest import ROOT
from test_weights import GOLDENS as TORCHVISION_GOLDENS
from test_weights import rebuilt, torch_shape

import keras_arch
from keras_arch.weights.torchvision import choose_names, torchvision_name

GOLDENS = json.loads((ROOT / "tests" / "golden" / "timm_logits.json").read_text())
SQUEEZE = {"squeeze_excitation_ratio": 1 / 16}
# {timm's name: our name and options}
SAME_NETWORK = {
    "resnet50c": ("resnet50", {"stem": "deep"}),
    "resnet18d": ("resnet18", {"variant": "d"}),
    "resnet34d": ("resnet34", {"variant": "d"}),
    "resnet50d": ("resnet50", {"variant": "d"}),
    "resnet101d": ("resnet101", {"variant": "d"}),
    "resnet152d": ("resnet152", {"variant": "d"}),
    "seresnet50": ("resnet50", SQUEEZE),
    "seresnet152d": ("resnet152", {"variant": "d", **SQUEEZE}),
}
CASES = [
    pytest.param(name, size, marks=[] if (name, size) == ("resnet18d", 97) else pytest.mark.slow)
    for name in SAME_NETWORK
    for size in (97, 224)
]


def build(name, size=64):
    ours, options = SAME_NETWORK[name]
    return keras_arch.build(
        ours, input_shape=(size, size, 3), classifier_activation=None, **options
    )


def rebuild_state(model, scale):
    """Return timm's state_dict for a model. Names and shapes seed the weights."""
    names = choose_names(model)
    state = {}
    for variable in model.variables:
        name = torchvision_name(*variable.path.rsplit("/", 1), names)
        state[name] = rebuilt(name, torch_shape(variable), scale)
    return state


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize(("name", "size"), CASES)
def test_timms_logits(name, size):
    model = build(name, size)
    keras_arch.load_torchvision_weights(
        model, rebuild_state(model, GOLDENS[name]["batch_norm_scale"])
    )
    images = np.random.default_rng(0).uniform(-2, 2, (2, 3, size, size)).astype("float32")
    # The goldens are for normalized images. Our models normalize raw images.
    network = keras.Model(model.get_layer("normalize").output, model.output)
    logits = network(images.transpose(0, 2, 3, 1)).numpy()
    golden = GOLDENS[name]["logits"][str(size)]
    np.testing.assert_allclose(np.linalg.norm(logits, axis=1), golden["l2_norm"], rtol=1e-4)
    scale = np.abs(golden["first_ten"]).max()
    np.testing.assert_allclose(logits[:, :10], golden["first_ten"], rtol=1e-4, atol=1e-4 * scale)
    assert logits.argmax(axis=1).tolist() == golden["argmax"]
    parameters = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert parameters == GOLDENS[name]["parameters"]


@pytest.mark.parametrize("size", ["97", "224"])
def test_timms_resnet50_is_torchvisions(size):
    theirs, torchvisions = (
        goldens["resnet50"]["logits"][size] for goldens in (GOLDENS, TORCHVISION_GOLDENS)
    )
    np.testing.assert_allclose(theirs["first_ten"], torchvisions["first_ten"], atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "kind", "expected"),
    [
        ("stem_conv2_bn", "moving_mean", "conv1.4.running_mean"),
        ("stem_conv3_bn", "gamma", "bn1.weight"),
        ("stage4_block3_se_reduce", "kernel", "layer4.2.se.fc1.weight"),
        ("stage4_block3_se_expand", "bias", "layer4.2.se.fc2.bias"),
        ("stage4_block1_shortcut", "kernel", "layer4.0.downsample.0.weight"),
    ],
)
def test_names(layer, kind, expected):
    assert torchvision_name(layer, kind) == expected


def test_shortcuts_with_and_without_a_pool_have_other_names():
    """The shapes are the same. Without the names, weights would load and classify worse."""
    pooled, projected = (
        keras_arch.ResNet8(shortcut=shortcut) for shortcut in ("average_pool", "projection")
    )
    for model, other, found in (
        (pooled, projected, r"downsample\.0"),
        (projected, pooled, r"downsample\.2"),
    ):
        before = model.get_weights()
        with pytest.raises(keras_arch.InputError, match=rf"unexpected: layer2\.0\.{found}"):
            keras_arch.load_torchvision_weights(model, rebuild_state(other, (0.3, 0.9)))
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
