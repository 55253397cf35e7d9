"""The published CIFAR-10 weights have the logits of the original code.

golden/cifar10_logits.json holds what the original code answers in PyTorch for noise. The weights
are not in the repository. Tests read them from KERAS_ARCH_TEST_DATA/../weights/cifar10.
"""

import json

import numpy as np
import pytest
from conftest import ROOT
from keras import layers
from safetensors.numpy import save_file
from serving import serve, torch_order
from test_weights import rebuilt, same_arrays

import keras_arch
from keras_arch.architectures.resnet.parts import SHORTCUTS
from keras_arch.published import PUBLISHED
from keras_arch.weights.checks import check_fits_published
from keras_arch.weights.torchvision import assign_tensors, torchvision_name
from keras_arch.weights.zero_padding import reorder_channels

GOLDENS = json.loads((ROOT / "tests" / "golden" / "cifar10_logits.json").read_text())["logits"]
NOISE = np.random.default_rng(7).integers(0, 256, (8, 32, 32, 3), dtype="uint8")
CHECKPOINTS = PUBLISHED["cifar10"].checkpoints


@pytest.fixture(scope="module")
def published(test_data):
    """The directory of the published files."""
    folder = test_data.parent / "weights" / "cifar10"
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: no published weights")
    return folder


@pytest.mark.parametrize("name", GOLDENS)
def test_logits_are_those_of_the_original_code(name, published):
    path = published / CHECKPOINTS[name].file
    model = keras_arch.build(name, weights=path, classifier_activation=None)
    np.testing.assert_allclose(model(NOISE.astype("float32")), GOLDENS[name], atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "resnet56")) for name in GOLDENS],
)
def test_weights_are_downloaded_by_name(name, published, tmp_path, monkeypatch):
    with serve(published, tmp_path, monkeypatch):
        model = keras_arch.build(name, weights="cifar10", classifier_activation=None)
    np.testing.assert_allclose(model(NOISE.astype("float32")), GOLDENS[name], atol=1e-4)


def test_the_head_of_other_classes_starts_from_scratch(published, tmp_path, monkeypatch):
    with serve(published, tmp_path, monkeypatch):
        model = keras_arch.ResNet20(weights="cifar10")
    with pytest.warns(
        keras_arch.DataWarning, match=r"cifar10: layers from scratch: predictions\.$"
    ):
        again = keras_arch.ResNet20(weights="cifar10", classes=5)  # from the cache
    np.testing.assert_array_equal(again.get_weights()[-3], model.get_weights()[-3])
    clothes = [f"clothes {number}" for number in range(10)]
    with pytest.warns(keras_arch.DataWarning, match="is 'airplane' and not 'clothes 0'"):
        skipped = keras_arch.transfer_weights(keras_arch.ResNet20(), "cifar10", "resnet20", clothes)
    assert skipped == {"predictions"}


def test_other_networks_are_refused_before_a_download(tmp_path, monkeypatch):
    with serve(tmp_path, tmp_path, monkeypatch):  # the server has no files
        for options, message in (
            ({"shortcut": "projection"}, "a resnet20 with 27.,... parameters"),
            (
                {"mean": (0.5, 0.5, 0.5)},
                r"mean=\[0.5, 0.5, 0.5\].* Pass mean=\[0.485, 0.456, 0.406\]",
            ),
        ):
            with pytest.raises(keras_arch.InputError, match=rf"cifar10.*Received: {message}"):
                keras_arch.ResNet20(weights="cifar10", **options)
        with pytest.raises(keras_arch.InputError, match=r"exists for resnet20, .*'resnet8'"):
            keras_arch.ResNet8(weights="cifar10")


# --- the order of channels ---


def centered(x, filters, stride, name):
    """Build the shortcut of the original code: subsampling, and zeros on both sides."""
    if stride > 1:
        x = layers.MaxPooling2D(1, stride, name=f"{name}_subsample")(x)
    side = (filters - x.shape[-1]) // 2
    if side:
        pad = ((0, 0), (side, side))
        x = layers.ZeroPadding2D(pad, data_format="channels_first", name=f"{name}_pad")(x)
    return x


def state_of(model):
    """Return random tensors with PyTorch's names for a model."""
    state = {}
    for variable in model.variables:
        name = torchvision_name(*variable.path.rsplit("/", 1))
        state[name] = rebuilt(name, torch_order(variable).shape, (0.5, 1.5))
    return state


@pytest.mark.parametrize("name", ["resnet8", "resnet20"])
def test_reordered_channels_have_the_logits_of_the_original_order(name, monkeypatch):
    ours = keras_arch.build(name, classifier_activation=None)
    monkeypatch.setitem(SHORTCUTS, "zero_padding", centered)
    theirs = keras_arch.build(name, classifier_activation=None)
    state = state_of(theirs)
    assign_tensors(theirs, state, "theirs", skip_head=False, sum_channels=False)
    assign_tensors(ours, reorder_channels(state), "ours", skip_head=False, sum_channels=False)
    expected = theirs(NOISE.astype("float32")).numpy()
    np.testing.assert_allclose(ours(NOISE.astype("float32")), expected, rtol=1e-4, atol=1e-4)
    assign_tensors(ours, state, "theirs", skip_head=False, sum_channels=False)
    assert np.abs(ours(NOISE.astype("float32")) - expected).max() > 0.1 * np.abs(expected).max()


def test_another_file_is_refused_because_it_does_not_show_its_order(tmp_path):
    save_file(state_of(keras_arch.ResNet8()), tmp_path / "theirs.safetensors")
    with pytest.raises(keras_arch.InputError, match="do not show on which side"):
        keras_arch.ResNet8(weights=tmp_path / "theirs.safetensors")


# --- other collections, with projections (option B) ---


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize(
    ("builder", "options"),
    [("resnet20", {"shortcut": "projection"}), ("resnet18", {"stem": "cifar", "classes": 10})],
)
def test_names_of_cifar_collections_load(builder, options, tmp_path):
    """Some collections call the classifier "linear" and a projection "shortcut"."""
    options = {"input_shape": (32, 32, 3), **options}
    model = keras_arch.build(builder, **options)
    state = state_of(model)
    assign_tensors(model, state, "state", skip_head=False, sum_channels=False)
    renamed = {
        name.replace("fc.", "linear.").replace("downsample", "shortcut"): np.ascontiguousarray(
            value
        )
        for name, value in state.items()
    }
    assert len(renamed.keys() - state.keys()) > 2
    save_file(renamed, tmp_path / "theirs.safetensors")
    loaded = keras_arch.build(builder, weights=tmp_path / "theirs.safetensors", **options)
    assert same_arrays(loaded, model)


# --- fine-tuning ---


@pytest.mark.slow
def test_the_recipe_fine_tunes_published_weights(
    published, script, data_dir, tmp_path, monkeypatch, capfd
):
    """Grayscale digits of 32 pixels: the head starts from scratch, the first kernel is summed."""
    words = "fine-tune --dataset digits --epochs 4 --freeze-epochs 2 --augment crop"
    with serve(published, tmp_path, monkeypatch):
        arguments = *words.split(), "--data-dir", data_dir, "--output", tmp_path / "run"
        assert script("train.py", *arguments) == 0
    printed = capfd.readouterr()
    (warning,) = [line for line in printed.err.splitlines() if "from scratch" in line]
    assert "is 'airplane' and not '0'. The head starts from scratch: predictions" in warning
    assert "2 epochs with a frozen backbone at 0.1, then 2 epochs at 0.01" in printed.out
    accuracy = json.loads((tmp_path / "run" / "run.json").read_text())["metrics"]["test"]["top1"]
    assert accuracy > 0.8  # 0.1 by chance


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize(
    ("name", "collection"),
    [
        pytest.param(name, collection, marks=[pytest.mark.slow] * ("1" in name[6:7]))
        for collection in PUBLISHED
        for name in PUBLISHED[collection].checkpoints
    ],
)
def test_every_row_fits_its_builder(name, collection):
    """The number of parameters in the table is that of the network."""
    options = {"kernel_5x5": 3} if name == "googlenet" else {}
    model = keras_arch.build(name, include_top=False, **options)
    check_fits_published(model, collection, name)
