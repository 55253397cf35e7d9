"""Weights files: torchvision's logits are reproduced, and files that do not fit are rejected.

tests/golden/make_torchvision_goldens.py computed the golden logits with torchvision. Its rule
rebuilds the weights here from names and shapes.
"""

import functools
import json
import sys
import zlib

import h5py
import keras
import numpy as np
import pytest
from conftest import ROOT, zero_kernels
from safetensors.numpy import save_file
from serving import small_state, torch_order
from torch_files import write_torch_file

import keras_arch
from keras_arch.class_names import pack_labels
from keras_arch.weights.torchvision import choose_names, torchvision_name

GOLDENS = json.loads((ROOT / "tests" / "golden" / "torchvision_logits.json").read_text())
CASES = [
    *((name, 97) for name in ("resnet18", "resnet34", "resnet50", "googlenet")),
    *(
        pytest.param(name, 224, marks=pytest.mark.slow)
        for name in ("resnet18", "resnet34", "resnet50", "googlenet")
    ),
    pytest.param("resnet101", 97, marks=pytest.mark.slow),
    pytest.param("resnet152", 97, marks=pytest.mark.slow),
]


def build(name, size=64, **options):
    options = {"kernel_5x5": 3, **options} if name == "googlenet" else options
    return keras_arch.build(
        name, input_shape=(size, size, 3), classifier_activation=None, **options
    )


def rebuilt(key, shape, scale):
    """Return the weights of the golden file's rule."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if len(shape) >= 2:
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif key.endswith("weight"):
        value = rng.uniform(*scale, shape)
    elif key.endswith("running_var"):
        value = rng.uniform(0.5, 1.5, shape)
    else:
        value = 0.1 * rng.standard_normal(shape)
    return value.astype("float32")


def state_dict(model):
    """Return torchvision's state_dict for a model. Names and shapes seed the weights."""
    state = {}
    for variable in model.variables:
        layer, _, kind = variable.path.rpartition("/")
        if kind != "seed_generator_state":
            key = torchvision_name(layer, kind, choose_names(model))
            scale = GOLDENS[model.name]["batch_norm_scale"]
            state[key] = rebuilt(key, torch_shape(variable), scale)
    return state


def torch_shape(variable):
    shape = tuple(variable.shape)
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize(("name", "size"), CASES)
def test_torchvisions_logits(name, size):
    model = build(name, size)
    keras_arch.load_torchvision_weights(model, state_dict(model))
    images = (
        np.random.default_rng(0)
        .uniform(-2, 2, (2, 3, size, size))
        .astype("float32")
        .transpose(0, 2, 3, 1)
    )
    # The goldens are for normalized images. Our models normalize raw images.
    mean, std = (
        (0.5, 0.5) if name == "googlenet" else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    logits = model(((images * std + mean) * 255).astype("float32")).numpy()
    golden = GOLDENS[name]["logits"][str(size)]
    np.testing.assert_allclose(np.linalg.norm(logits, axis=1), golden["l2_norm"], rtol=1e-4)
    scale = np.abs(golden["first_ten"]).max()
    np.testing.assert_allclose(logits[:, :10], golden["first_ten"], rtol=1e-4, atol=1e-4 * scale)
    assert logits.argmax(axis=1).tolist() == golden["argmax"]


@pytest.mark.usefixtures("zero_kernels")
def test_parameters_are_torchvisions():
    model = build("googlenet", 224, auxiliary_heads=True)
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trainable == GOLDENS["googlenet"]["parameters"]


# --- invalid tensors: the model is unchanged ---


@pytest.fixture(scope="module")
def state():
    with zero_kernels():  # only names and shapes matter
        return state_dict(build("resnet18"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer3.1.bn2.running_mean": None}, "missing: layer3.1.bn2.running_mean"),
        ({"layer9.weight": np.zeros(3, "float32")}, "unexpected: layer9.weight"),
        (
            {"conv1.weight": np.zeros((64, 3, 3, 3), "float32")},
            r"conv1.weight is \(3, 3, 3, 64\) and not \(7, 7, 3, 64\)",
        ),
        ({"fc.weight": np.zeros((7, 512), "float32")}, r"fc.weight is .*skip_head=True"),
    ],
)
def test_rejected_and_nothing_changed(state, change, message):
    model = build("resnet18")
    before = model.get_weights()
    changed = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.load_torchvision_weights(model, changed)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_skip_head(state):
    model = build("resnet18", classes=7)
    head = model.get_layer("predictions").get_weights()
    keras_arch.load_torchvision_weights(model, state, skip_head=True)
    np.testing.assert_array_equal(model.get_layer("predictions").get_weights()[0], head[0])
    np.testing.assert_array_equal(
        model.get_layer("stem_conv").kernel, state["conv1.weight"].transpose(2, 3, 1, 0)
    )


@pytest.mark.usefixtures("zero_kernels")
def test_sum_channels(state):
    """The summed kernel gives a grayscale image the features of equal RGB channels."""
    model = keras_arch.ResNet18(input_shape=(64, 64, 1))
    with pytest.raises(keras_arch.InputError, match="sum_channels=True"):
        keras_arch.load_torchvision_weights(model, state)
    keras_arch.load_torchvision_weights(model, state, sum_channels=True)
    expected = state["conv1.weight"].sum(axis=1).transpose(1, 2, 0)[:, :, np.newaxis]
    np.testing.assert_allclose(model.get_layer("stem_conv").kernel, expected, rtol=1e-6)


@pytest.mark.usefixtures("zero_kernels")
def test_deeper_and_other_networks_are_rejected(state):
    for name in ("resnet34", "plain18"):
        with pytest.raises(keras_arch.InputError, match=r"missing|unexpected"):
            keras_arch.load_torchvision_weights(
                keras_arch.build(name, input_shape=(64, 64, 3)), state
            )


# --- files and downloads ---


def same_weights(model, state):
    return all(
        np.array_equal(
            state[torchvision_name(*variable.path.rsplit("/", 1))], torch_order(variable)
        )
        for variable in model.variables
    )


@pytest.mark.usefixtures("zero_kernels")
def test_safetensors(state, tmp_path):
    save_file(state, tmp_path / "theirs.safetensors")
    assert same_weights(build("resnet18", weights=tmp_path / "theirs.safetensors"), state)
    features = keras_arch.ResNet18(
        include_top=False, input_shape=(64, 64, 3), weights=tmp_path / "theirs.safetensors"
    )
    assert same_weights(features, state)
    complete = (tmp_path / "theirs.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(complete[: len(complete) // 2])
    with pytest.raises(keras_arch.InputError, match="cannot be read as tensors"):
        build("resnet18", weights=tmp_path / "cut.safetensors")


@pytest.mark.usefixtures("zero_kernels")
def test_pth(state, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # an import would fail
    write_torch_file(tmp_path / "theirs.pth", state)
    assert same_weights(build("resnet18", weights=tmp_path / "theirs.pth"), state)
    (tmp_path / "cut.pth").write_bytes((tmp_path / "theirs.pth").read_bytes()[:100_000])
    with pytest.raises(keras_arch.InputError, match="or it is damaged"):
        build("resnet18", weights=tmp_path / "cut.pth")


# --- shortcuts that tensors do not describe ---


@pytest.fixture(scope="module")
def zero_padding_state():
    """Return a state_dict with PyTorch's names and every tensor of ResNet8."""
    model = keras_arch.ResNet8(classes=10)
    named = {
        torchvision_name(*variable.path.rsplit("/", 1)): torch_order(variable)
        for variable in model.variables
    }
    return {name: np.ascontiguousarray(tensor) for name, tensor in named.items()}


@pytest.mark.parametrize("way", ["mapping", "builder", "transfer"])
def test_pytorch_weights_are_rejected_where_shortcuts_pad_with_zeros(
    zero_padding_state, tmp_path, way
):
    """PyTorch networks pad channels on one side or both, with the same tensors."""
    path = tmp_path / "theirs.safetensors"
    save_file(zero_padding_state, path)
    model = keras_arch.ResNet8()
    before = model.get_weights()
    load = {
        "mapping": lambda: keras_arch.load_torchvision_weights(model, zero_padding_state),
        "builder": lambda: keras_arch.ResNet8(weights=path),
        "transfer": lambda: keras_arch.transfer_weights(model, path, "resnet8"),
    }[way]
    with pytest.raises(
        keras_arch.InputError, match=r"pad channels with zeros.* Received: .*shortcut='projection'"
    ):
        load()
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_pytorch_weights_of_a_projection_load(tmp_path):
    model = keras_arch.ResNet8(shortcut="projection")
    theirs = {
        torchvision_name(*variable.path.rsplit("/", 1)): torch_order(variable)
        for variable in model.variables
    }
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in theirs.items()},
        tmp_path / "b.safetensors",
    )
    assert same_weights(
        keras_arch.ResNet8(shortcut="projection", weights=tmp_path / "b.safetensors"), theirs
    )


@pytest.mark.usefixtures("zero_kernels")
def test_zero_padding_is_rejected_before_a_download(downloads):
    with pytest.raises(keras_arch.InputError, match=r"a resnet18 with .* parameters"):
        build("resnet18", shortcut="zero_padding", weights="imagenet")
    with pytest.raises(keras_arch.InputError, match=r"a resnet18 with .* parameters"):
        keras_arch.transfer_weights(
            build("resnet18", shortcut="zero_padding"), "imagenet", "resnet18"
        )
    assert downloads == []


@pytest.mark.parametrize("name", ["own.keras", "own.weights.h5"])
def test_own_files_of_zero_padding_still_load(name, tmp_path):
    model = keras_arch.ResNet8()
    (model.save if name.endswith(".keras") else model.save_weights)(tmp_path / name)
    again, other = keras_arch.ResNet8(weights=tmp_path / name), keras_arch.ResNet8()
    assert keras_arch.transfer_weights(other, tmp_path / name, "resnet8") == set()
    for mine, loaded, transferred in zip(
        *(m.get_weights() for m in (model, again, other)), strict=True
    ):
        np.testing.assert_array_equal(mine, loaded)
        np.testing.assert_array_equal(mine, transferred)


# --- weights that were trained with another normalization ---


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize("way", ["builder", "transfer"])
@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_imagenet_weights_need_their_own_normalization(downloads, name, way):
    cifar = {"mean": (0.491, 0.482, 0.447), "std": (0.247, 0.243, 0.262)}
    with pytest.raises(
        keras_arch.InputError, match=r"normaliz.* Received: mean=.*0\.491.*, std=.*0\.247"
    ):
        if way == "builder":
            build(name, weights="imagenet", **cifar)
        else:
            keras_arch.transfer_weights(build(name, **cifar), "imagenet", name)
    assert downloads == []


OTHER_NETWORKS = {
    "plain20": ({}, "missing: stage1_block1_add"),
    "resnet20": (
        {"mean": (0.4, 0.4, 0.4)},
        r"normalization is mean=\[0.4, 0.4, 0.4\], std=.* and not mean=\[0.485, 0.456, 0.406\]",
    ),
}


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_a_keras_file_of_another_network_is_rejected(name, tmp_path):
    """Both have the weights of ResNet20 in the same order."""
    options, message = OTHER_NETWORKS[name]
    keras_arch.build(name, **options).save(tmp_path / "other.keras")
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.ResNet20(weights=tmp_path / "other.keras")
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.transfer_weights(keras_arch.ResNet20(), tmp_path / "other.keras", "resnet20")


def test_features_take_the_weights_of_a_complete_network(tmp_path):
    """The head of the file is skipped."""
    complete = keras_arch.ResNet8(mean=(0.4, 0.4, 0.4))
    complete.save(tmp_path / "complete.keras")
    features = keras_arch.ResNet8(
        include_top=False, mean=(0.4, 0.4, 0.4), weights=tmp_path / "complete.keras"
    )
    np.testing.assert_array_equal(features.get_weights()[-1], complete.get_weights()[-3])


# --- state dicts as training scripts save them ---


@pytest.fixture(scope="module")
def projection_state():
    return small_state()


def write_complete(state, kind, folder):
    """Write the weights of ResNet8 to a file of PyTorch or of Keras."""
    if kind == "safetensors":
        save_file(state, folder / "theirs.safetensors")
        return folder / "theirs.safetensors"
    model = keras_arch.ResNet8(shortcut="projection")
    keras_arch.load_torchvision_weights(model, state).save(folder / "theirs.keras")
    return folder / "theirs.keras"


FITTED = {  # options -> what the warning says
    "7 classes": ({"classes": 7}, r"theirs\.\w+: layers from scratch: predictions\.$"),
    "grayscale": (
        {"input_shape": (32, 32, 1)},
        r"theirs\.\w+: kernel summed over red, green and blue: stem_conv\.$",
    ),
    "both": (
        {"input_shape": (32, 32, 1), "classes": 7},
        r"theirs\.\w+: layers from scratch: predictions; kernel summed .*: stem_conv\.$",
    ),
}


@pytest.mark.parametrize("kind", ["safetensors", "keras"])
@pytest.mark.parametrize("case", FITTED)
def test_weights_are_fitted_to_the_task_with_a_warning(projection_state, tmp_path, case, kind):
    """A builder and `transfer_weights` fit a file to other classes and to grayscale images."""
    path = write_complete(projection_state, kind, tmp_path)
    options, warning = FITTED[case]
    options = {"input_shape": (32, 32, 3), "shortcut": "projection", **options}
    with pytest.warns(keras_arch.DataWarning, match=warning):
        built = keras_arch.ResNet8(weights=path, **options)
    model = keras_arch.ResNet8(**options)
    skipped = {"predictions"} if "classes" in options else set()
    with pytest.warns(keras_arch.DataWarning, match=warning):
        assert keras_arch.transfer_weights(model, path, "resnet8") == skipped
    kernel = projection_state["conv1.weight"].transpose(2, 3, 1, 0)
    if options["input_shape"][2] == 1:
        kernel = kernel.sum(axis=2, keepdims=True)
    for each in (built, model):
        np.testing.assert_allclose(each.get_layer("stem_conv").kernel, kernel, rtol=1e-6)
        last = each.get_layer("stage3_block1_conv2").kernel
        np.testing.assert_array_equal(
            last, projection_state["layer3.0.conv2.weight"].transpose(2, 3, 1, 0)
        )
        bias = each.get_layer("predictions").get_weights()[1]
        assert np.array_equal(bias, projection_state["fc.bias"]) == (not skipped)


def test_weights_of_grayscale_images_are_not_summed(tmp_path):
    """They fit without a warning."""
    model = keras_arch.ResNet8(shortcut="projection", input_shape=(32, 32, 1))
    state = {
        torchvision_name(*variable.path.rsplit("/", 1)): np.ascontiguousarray(torch_order(variable))
        for variable in model.variables
    }
    save_file(state, tmp_path / "gray.safetensors")
    options = {"shortcut": "projection", "input_shape": (32, 32, 1)}
    assert same_weights(keras_arch.ResNet8(weights=tmp_path / "gray.safetensors", **options), state)


def test_features_take_weights_of_other_classes(tmp_path):
    """No layer of the backbone starts from scratch."""
    complete = keras_arch.ResNet8()
    complete.save(tmp_path / "model.keras")
    pack_labels(tmp_path / "model.keras", list("abcdefghij"))
    features = keras_arch.ResNet8(include_top=False)
    source = tmp_path / "model.keras"
    assert keras_arch.transfer_weights(features, source, "resnet8", list("xyz")) == set()
    for mine, theirs in zip(features.get_weights(), complete.get_weights(), strict=False):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": np.array(1, "float32")}, r"fc.bias is \(\) and not \(10,\)\.$"),
        ({"linear.bias": np.zeros(10, "float32")}, "unexpected: linear.bias"),
    ],
)
def test_strange_heads_are_rejected(projection_state, change, message, tmp_path):
    write_torch_file(tmp_path / "a.pth", {**projection_state, **change})
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.ResNet8(shortcut="projection", weights=tmp_path / "a.pth")


def test_complete_weights_are_loaded_without_a_warning(projection_state, tmp_path):
    path = write_complete(projection_state, "safetensors", tmp_path)
    model = keras_arch.ResNet8(shortcut="projection")
    assert keras_arch.transfer_weights(model, path, "resnet8") == set()
    assert same_weights(model, projection_state)


def prefixed(state, prefix):
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPED = {
    "data parallel": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "compiled in data parallel": lambda state: prefixed(state, "module._orig_mod."),
    "averaged": lambda state: {"n_averaged": np.array(7), **prefixed(state, "module.")},
    "state_dict": lambda state: {"epoch": 90, "state_dict": prefixed(state, "module.")},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {}},
    "model": lambda state: {"args": None, "model": state, "optimizer": {"state": {}}},
    "model of a state_dict": lambda state: {"model": {"state_dict": state}},
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_wrapped_state_dicts_load(projection_state, wrap):
    model = keras_arch.ResNet8(shortcut="projection")
    keras_arch.load_torchvision_weights(model, WRAPPED[wrap](projection_state))
    assert same_weights(model, projection_state)


def test_files_of_wrapped_state_dicts_load(projection_state, tmp_path):
    checkpoint = {"epoch": 90, "state_dict": prefixed(projection_state, "module.")}
    write_torch_file(tmp_path / "a.pth", checkpoint)
    save_file(prefixed(projection_state, "_orig_mod."), tmp_path / "b.safetensors")
    for name in ("a.pth", "b.safetensors"):
        assert same_weights(
            keras_arch.ResNet8(shortcut="projection", weights=tmp_path / name), projection_state
        )
        model = keras_arch.ResNet8(shortcut="projection", classes=7)
        with pytest.warns(keras_arch.DataWarning, match="layers from scratch: predictions"):
            keras_arch.transfer_weights(model, tmp_path / name, "resnet8")


def test_a_state_dict_of_torch_loads(projection_state):
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    parameters = {
        name: torch.nn.Parameter(torch.from_numpy(value))
        for name, value in projection_state.items()
    }
    model = keras_arch.ResNet8(shortcut="projection")
    assert same_weights(keras_arch.load_torchvision_weights(model, parameters), projection_state)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_files_of_other_precisions_load(kind, projection_state, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    tensors = {
        name: torch.from_numpy(value).to(getattr(torch, kind))
        for name, value in projection_state.items()
    }
    torch.save(tensors, tmp_path / "a.pth")
    assert same_weights(
        keras_arch.ResNet8(shortcut="projection", weights=tmp_path / "a.pth"),
        {name: tensor.float().numpy() for name, tensor in tensors.items()},
    )


def test_a_prefix_that_tells_two_tensors_apart_stays(projection_state):
    both = {**projection_state, "module.fc.bias": projection_state["fc.bias"] + 1}
    with pytest.raises(keras_arch.InputError, match=r"unexpected: module\.fc\.bias"):
        keras_arch.load_torchvision_weights(keras_arch.ResNet8(shortcut="projection"), both)


def test_both_missing_and_unexpected_tensors_are_named(projection_state):
    other = {name.replace("layer", "blocks"): tensor for name, tensor in projection_state.items()}
    with pytest.raises(keras_arch.InputError) as excinfo:
        keras_arch.load_torchvision_weights(keras_arch.ResNet8(shortcut="projection"), other)
    message = str(excinfo.value)
    assert "missing: layer1.0.conv1.weight and" in message
    assert "unexpected: blocks1.0.conv1.weight and" in message
    assert len(message) < 300
    assert "skip_head" not in message  # no shape is wrong


def test_both_missing_and_unexpected_layers_are_named(tmp_path):
    """ResNet20 has two more blocks in each stage and no weights in shortcuts."""
    keras_arch.ResNet20(input_shape=(8, 8, 3)).save(tmp_path / "other.keras")
    model = keras_arch.ResNet8(input_shape=(8, 8, 3), shortcut="projection")
    with pytest.raises(keras_arch.InputError) as excinfo:
        keras_arch.transfer_weights(model, tmp_path / "other.keras", "resnet8")
    message = str(excinfo.value).replace(str(tmp_path), "")
    assert "missing: stage2_block1_shortcut and" in message
    assert "unexpected: stage1_block2_conv1 and" in message
    assert len(message) < 300


# --- kinds of files ---


def same_arrays(model, other):
    return all(
        np.array_equal(*pair) for pair in zip(model.get_weights(), other.get_weights(), strict=True)
    )


@pytest.fixture(scope="module")
def trained():
    model = keras_arch.ResNet8(shortcut="projection")
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.uniform(0.5, 1, array.shape).astype("float32") for array in model.get_weights()]
    )
    return model


def write_torch(model, path, zipped=True):
    state = {
        torchvision_name(*variable.path.rsplit("/", 1)): torch_order(variable)
        for variable in model.variables
    }
    write_torch_file(path, state, zipped)


def write_safetensors(model, path):
    state = {
        torchvision_name(*variable.path.rsplit("/", 1)): torch_order(variable)
        for variable in model.variables
    }
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in state.items()}, path)


def write_keras(model, path):
    keras.saving.save_model(model, path.with_name("written.keras"))
    path.with_name("written.keras").rename(path)


def write_weights(model, path):
    model.save_weights(path.with_name("written.weights.h5"))
    path.with_name("written.weights.h5").rename(path)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def write_keras_2(model, path):
    """Write the HDF5 format of Keras 2, which also had the suffix .weights.h5."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("theirs.th", write_torch),
        ("theirs.tar", write_torch),
        ("theirs.bin", write_torch),
        ("theirs.ckpt", functools.partial(write_torch, zipped=False)),
        ("theirs.keras", write_safetensors),
        ("theirs", write_safetensors),
        ("model.keras.bak", write_keras),
        ("epoch_3.h5", write_weights),
        ("epoch_3.ckpt", write_weights),
        ("old.weights.h5", write_keras_2),
    ],
)
def test_files_are_known_by_their_contents(name, write, trained, tmp_path):
    write(trained, tmp_path / name)
    assert same_arrays(keras_arch.ResNet8(shortcut="projection", weights=tmp_path / name), trained)
    model = keras_arch.ResNet8(shortcut="projection")
    assert keras_arch.transfer_weights(model, str(tmp_path / name), "resnet8") == set()
    assert same_arrays(model, trained)


@pytest.mark.parametrize("word", ["imagenet21k", "random", "ImageNet", "", 5, True])
def test_a_word_that_is_no_file_lists_the_words_there_are(word):
    with pytest.raises(
        keras_arch.InputError, match=r"a weights file, .* or one of 'imagenet', .*Received: "
    ) as excinfo:
        keras_arch.ResNet8(weights=word)
    assert repr(word) in str(excinfo.value)
    with pytest.raises(
        keras_arch.InputError, match=r"a weights file, .* or one of 'imagenet', .*Received: "
    ):
        keras_arch.transfer_weights(keras_arch.ResNet8(), word, "resnet8")


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"PK\x03\x04 and no end", b"version https://git-lfs.github.com/spec/v1"],
)
def test_a_file_of_no_weights_is_rejected(content, tmp_path):
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(
        keras_arch.InputError,
        match=r"model.keras holds no weights.* Received: a file that begins with",
    ):
        keras_arch.ResNet8(weights=tmp_path / "model.keras")


STRANGE_TENSORS = {
    "integer keys": {0: np.zeros(3), 1: np.zeros(3)},
    "keys of two types": {"fc.weight": np.zeros(3), 1: np.zeros(3)},
    "a value that is no array": {"fc.weight": "text", "fc.bias": np.zeros(3)},
    "nested without a known name": {"net": {"fc.weight": np.zeros(3)}},
    "nothing": {},
    "a list": [np.zeros(3)],
    "a tensor": np.zeros(3),
    "none": None,
}


@pytest.mark.parametrize("content", STRANGE_TENSORS)
def test_what_is_no_state_dict_is_rejected(content, tmp_path):
    model = keras_arch.ResNet8(shortcut="projection")
    before = model.get_weights()
    state = STRANGE_TENSORS[content]
    write_torch_file(tmp_path / "strange.pth", state)
    for load in (
        lambda: keras_arch.ResNet8(shortcut="projection", weights=tmp_path / "strange.pth"),
        lambda: keras_arch.transfer_weights(model, tmp_path / "strange.pth", "resnet8"),
    ):
        with pytest.raises(
            keras_arch.InputError, match=r"strange.pth .*state_dict.* Received: "
        ) as excinfo:
            load()
        assert len(str(excinfo.value).replace(str(tmp_path), "")) < 300
    if isinstance(state, dict):
        with pytest.raises(keras_arch.InputError, match=r"A mapping .*state_dict.* Received: "):
            keras_arch.load_torchvision_weights(model, state)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_pickled_module_is_rejected_and_not_executed(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is an optional extra")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(keras_arch.InputError, match=r"module.pth .*state_dict"):
        keras_arch.ResNet8(shortcut="projection", weights=tmp_path / "module.pth")


@keras.saving.register_keras_serializable("test_torchvision")
class Subclassed(keras.Model):
    """A subclassed model, which has no graph."""

    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(2, activation="softmax")

    def call(self, x):
        return self.dense(keras.ops.mean(x, (1, 2)))


def shared_layer():
    image = keras.Input((8, 8, 3))
    convolution = keras.layers.Conv2D(3, 1)
    pooled = keras.layers.GlobalAveragePooling2D()(convolution(convolution(image)))
    return keras.Model(image, keras.layers.Dense(10, activation="softmax")(pooled))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


STRANGE_MODELS = {
    "not built": lambda: keras.Sequential(
        [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    ),
    "subclassed": subclassed,
    "shared layer": shared_layer,
}


@pytest.mark.filterwarnings("ignore:.*has not yet been built:UserWarning")
@pytest.mark.parametrize("kind", STRANGE_MODELS)
def test_keras_files_of_other_kinds_of_models_are_rejected(kind, tmp_path):
    STRANGE_MODELS[kind]().save(tmp_path / "strange.keras")
    for load in (
        lambda: keras_arch.ResNet8(weights=tmp_path / "strange.keras"),
        lambda: keras_arch.transfer_weights(
            keras_arch.ResNet8(), tmp_path / "strange.keras", "resnet8"
        ),
    ):
        with pytest.raises(keras_arch.InputError, match=r"strange.keras .* Received: ") as excinfo:
            load()
        assert len(str(excinfo.value).replace(str(tmp_path), "")) < 300


@pytest.mark.parametrize("write", [write_keras, write_weights, write_torch, write_safetensors])
def test_damaged_files_of_every_kind_are_rejected(write, trained, tmp_path):
    """One file is cut in half. In the other, every 97th byte is changed."""
    write(trained, tmp_path / "complete")
    complete = (tmp_path / "complete").read_bytes()
    changed = bytearray(complete)
    changed[64:-64:97] = b"\xff" * len(changed[64:-64:97])
    model = keras_arch.ResNet8(shortcut="projection")
    before = model.get_weights()
    for content in (complete[: len(complete) // 2], bytes(changed)):
        (tmp_path / "damaged").write_bytes(content)
        with pytest.raises(keras_arch.InputError, match="Received: ") as excinfo:
            keras_arch.transfer_weights(model, tmp_path / "damaged", "resnet8")
        assert len(str(excinfo.value).replace(str(tmp_path), "")) < 300
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# --- checks before a download ---


@pytest.fixture
def downloads(monkeypatch):
    """Replace the download. Return a list to which it appends names."""
    names = []

    def download(name, architecture):
        names.append((name, architecture))
        raise keras_arch.InputError("downloaded")

    monkeypatch.setattr("keras_arch.weights.transfer.download", download)
    return names


OTHER_SHAPES = [
    ("resnet18", {"input_shape": (64, 64, 4)}, "4 channels"),
    ("resnet18", {"stem": "cifar"}, "parameters"),
    ("resnet18", {"stem": "deep", "include_top": False}, "parameters"),
    ("resnet18", {"variant": "d"}, "parameters"),
    ("resnet18", {"squeeze_excitation_ratio": 1 / 16}, "parameters"),
    ("resnet18", {"shortcut": "average_pool"}, "shortcuts with an average pool"),
    ("googlenet", {}, "kernel_5x5=3"),
    ("googlenet", {"kernel_5x5": 3, "width": 0.5}, "parameters"),
    ("googlenet", {"kernel_5x5": 3, "batch_norm": False}, "parameters"),
]


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize(("name", "options", "message"), OTHER_SHAPES)
def test_other_shapes_are_rejected_before_a_download(name, options, message, downloads):
    options = {"input_shape": (64, 64, 3), **options}
    with pytest.raises(
        keras_arch.InputError, match=rf"weights='imagenet'.* Received: .*{message}"
    ) as excinfo:
        keras_arch.build(name, weights="imagenet", **options)
    assert len(str(excinfo.value)) < 300
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.transfer_weights(keras_arch.build(name, **options), "imagenet", name)
    assert downloads == []


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {}),
        ("resnet18", {"include_top": False}),
        ("resnet18", {"classes": 7}),
        ("resnet18", {"input_shape": (64, 64, 1)}),
        ("resnet34", {}),
        ("resnet50", {"zero_init_residual": True, "stochastic_depth_rate": 0.2}),
        ("googlenet", {"kernel_5x5": 3}),
        ("googlenet", {"kernel_5x5": 3, "auxiliary_heads": True, "input_shape": (96, 96, 3)}),
        pytest.param("resnet101", {}, marks=pytest.mark.slow),
        pytest.param("resnet152", {}, marks=pytest.mark.slow),
    ],
)
def test_networks_that_fit_are_downloaded(name, options, downloads):
    with pytest.raises(keras_arch.InputError, match="downloaded"):
        keras_arch.build(name, weights="imagenet", **{"input_shape": (64, 64, 3), **options})
    assert downloads == [("imagenet", name)]


@pytest.mark.usefixtures("zero_kernels")
@pytest.mark.parametrize(("channels", "classes"), [(1, 1000), (3, 7), (1, 7)])
def test_transfer_downloads_for_other_heads_and_one_channel(channels, classes, downloads):
    model = keras_arch.ResNet18(input_shape=(64, 64, channels), classes=classes)
    model.trainable = False
    with pytest.raises(keras_arch.InputError, match="downloaded"):
        keras_arch.transfer_weights(model, "imagenet", "resnet18")
    assert downloads == [("imagenet", "resnet18")]
