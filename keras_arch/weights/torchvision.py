"""Torchvision's checkpoints: download, reading and names."""

import hashlib
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from ..errors import InputError, first_line, is_disk_full, require
from ..models import check_model
from .files import (
    AUXILIARY_PREFIX,
    SAFETENSORS,
    TORCH,
    detect_kind,
    find_weights_file,
    has_head,
    list_differences,
)

TORCHVISION = "https://download.pytorch.org/models/"
# IMAGENET1K_V1 checkpoints. A file name ends in the first eight digits of the SHA-256.
PUBLISHED = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "googlenet": "googlenet-1378be20.pth",
}


class Normalization(NamedTuple):
    """Mean and standard deviation per channel. The input of a network is (x / 255 - mean) / std."""

    mean: Sequence[float]
    std: Sequence[float]


# Of ImageNet's training images.
IMAGENET_NORMALIZATION = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # -1 to 1
# Numbers of parameters without the classifier.
PARAMETERS = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
    "googlenet": 5_599_904,
}
IMAGENET_CLASSES = 1000
TRAINED_WITH = {
    name: HALVES if name == "googlenet" else IMAGENET_NORMALIZATION for name in PUBLISHED
}

CACHE_DIR = None  # the default of Keras, ~/.keras

# Names of a state_dict in a larger checkpoint.
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and torch.compile
COUNTERS = ("num_batches_tracked", "n_averaged")  # step counters, unused in inference


def load_torchvision_weights(
    model: keras.Model,
    source: str | Path | Mapping[str, Any],
    skip_head: bool = False,
    sum_channels: bool = False,
) -> keras.Model:
    """Load a torchvision checkpoint into a ResNet (18 to 152) or a GoogLeNet with `kernel_5x5=3`.

    Args:
        model: A model from a builder of keras_arch. It must normalize images as the checkpoint's
            training did. Torchvision's own checkpoints need the default `mean` and `std`.
        source: The path of a .safetensors or .pth file, or a state_dict: a mapping from names to
            arrays (convolutions: out, in, height, width). A .pth file needs torch, which reads it
            with `weights_only=True`. The state_dict may be the "state_dict", "model_state_dict" or
            "model" of a larger checkpoint. Prefixes `module.` and `_orig_mod.` are removed.
        skip_head: Whether to keep the classifier of the model, for another number of classes.
            Defaults to False.
        sum_channels: Whether to sum the first kernel over red, green and blue, for grayscale
            images. Defaults to False.

    Returns:
        `model`.

    Raises:
        InputError (a ValueError): Tensors are missing, unexpected or of another shape, or the model
            has `shortcut="zero_padding"`. The model is unchanged.

    Example:
        model = keras_arch.ResNet18(classes=5)
        keras_arch.load_torchvision_weights(model, "resnet18.safetensors", skip_head=True)
    """
    check_model(model)
    check_shortcuts(model, source)
    return assign_tensors(
        model, read_tensors(source), describe_source(source), skip_head, sum_channels
    )


def assign_tensors(
    model: keras.Model,
    state: Mapping[str, np.ndarray],
    source: str | Path,
    skip_head: bool,
    sum_channels: bool,
) -> keras.Model:
    """Assign a state_dict to the variables of a model. Messages name it `source`."""
    tensors = {
        name: tensor
        for name, tensor in state.items()
        if not name.endswith(COUNTERS)
        and not name.startswith(("aux1.", "aux2."))  # GoogLeNet's auxiliary classifiers
    }
    if skip_head:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    values, missing, misshapen = {}, [], []
    names = choose_names(model)
    for variable in model.variables:
        layer, _, kind = variable.path.rpartition("/")
        if (
            kind == "seed_generator_state"
            or (skip_head and layer == "predictions")
            or layer.startswith(AUXILIARY_PREFIX)
        ):
            continue
        name = torchvision_name(layer, kind, names)
        tensor = tensors.pop(name, None)
        if tensor is None:
            missing.append(name)
            continue
        value = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
        if sum_channels and value.ndim == 4 and value.shape[2] == 3 and variable.shape[2] == 1:
            value = value.sum(axis=2, keepdims=True)
        if value.shape != tuple(variable.shape):
            misshapen.append(f"{name} is {value.shape} and not {tuple(variable.shape)}")
        values[variable.path] = value
    if problems := list_differences(missing, list(tensors), misshapen):
        fix = (
            " Pass skip_head=True for other classes or sum_channels=True for one channel."
            if misshapen
            else ""
        )
        raise InputError(
            f"{source} does not fit {model.name}. Received: {'; '.join(problems)}.{fix}"
        )
    for variable in model.variables:
        if variable.path in values:
            variable.assign(values[variable.path])
    return model


def check_shortcuts(model: keras.Model, source: Any) -> None:
    """Raise InputError if a shortcut of the model pads channels with zeros.

    Such networks in PyTorch add the zeros after the channels, before them or on both sides. The
    tensors have the same names and shapes. So weights of another network would load without an
    error and classify worse.
    """
    if any(layer.name.endswith("_shortcut_pad") for layer in model.layers):
        raise InputError(
            f"{model.name} has shortcuts that pad channels with zeros. PyTorch's tensors do not "
            f"show on which side. Received: {describe_source(source)}. Use "
            "shortcut='projection' and weights that were trained with it, or a Keras file."
        )


def describe_source(source: Any) -> Any:
    """Return the name of a source of tensors for messages."""
    return "A mapping" if hasattr(source, "items") else source


def check_normalization(model: keras.Model, architecture: str) -> None:
    """Raise InputError unless the model normalizes images as torchvision's training did."""
    mean, std = get_normalization(model)
    wanted = TRAINED_WITH[architecture]
    if model.input_shape[-1] != 3:
        wanted = Normalization(*([float(np.mean(values))] for values in wanted))
    if not (np.allclose(mean, wanted.mean, atol=1e-6) and np.allclose(std, wanted.std, atol=1e-6)):
        raise InputError(
            "weights='imagenet' needs the normalization of its training. Received: "
            f"mean={format_numbers(mean)}, std={format_numbers(std)}. Leave out `mean` and `std`."
        )


def get_normalization(model: keras.Model) -> Normalization:
    """Return the normalization of a model from a builder of keras_arch."""
    layer = model.get_layer("normalize")
    std = 1 / (255 * np.asarray(layer.scale))
    return Normalization((-np.asarray(layer.offset) * std).tolist(), std.tolist())


def format_numbers(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)})"


# Patterns of our layer names, and PyTorch's names. PyTorch counts blocks from 0.
BLOCK, LAYER = r"stage(?P<stage>\d+)_block(?P<block>\d+)", "layer{stage}.{block}"
# torchvision's names. timm has the same names, and those of options that torchvision does not have.
RESNET_NAMES = (
    (r"predictions", "fc"),
    (r"stem_conv", "conv1"),
    (r"stem_conv_bn", "bn1"),
    (rf"{BLOCK}_conv(?P<conv>\d+)", f"{LAYER}.conv{{conv}}"),
    (rf"{BLOCK}_conv(?P<conv>\d+)_bn", f"{LAYER}.bn{{conv}}"),
    (rf"{BLOCK}_shortcut", f"{LAYER}.downsample.0"),
    (rf"{BLOCK}_shortcut_bn", f"{LAYER}.downsample.1"),
    # stem="deep"
    (r"stem_conv1", "conv1.0"),
    (r"stem_conv1_bn", "conv1.1"),
    (r"stem_conv2", "conv1.3"),
    (r"stem_conv2_bn", "conv1.4"),
    (r"stem_conv3", "conv1.6"),
    (r"stem_conv3_bn", "bn1"),
    # squeeze_excitation_ratio
    (rf"{BLOCK}_se_reduce", f"{LAYER}.se.fc1"),
    (rf"{BLOCK}_se_expand", f"{LAYER}.se.fc2"),
)
# shortcut="average_pool": the pool is downsample.0 in all shortcuts, also where it is the identity.
AVERAGE_POOL_NAMES = (
    (rf"{BLOCK}_shortcut", f"{LAYER}.downsample.1"),
    (rf"{BLOCK}_shortcut_bn", f"{LAYER}.downsample.2"),
    *RESNET_NAMES,  # the first pattern that matches is used
)
GOOGLENET_NAMES = (
    (r"predictions", "fc"),
    (r"stem_conv1(_bn)?", "conv1.{conv_or_bn}"),
    (r"stem_reduce(_bn)?", "conv2.{conv_or_bn}"),
    (r"stem_conv2(_bn)?", "conv3.{conv_or_bn}"),
    (r"inception_(?P<row>\w\w)_1x1(_bn)?", "inception{row}.branch1.{conv_or_bn}"),
    (r"inception_(?P<row>\w\w)_reduce_3x3(_bn)?", "inception{row}.branch2.0.{conv_or_bn}"),
    (r"inception_(?P<row>\w\w)_3x3(_bn)?", "inception{row}.branch2.1.{conv_or_bn}"),
    (r"inception_(?P<row>\w\w)_reduce_5x5(_bn)?", "inception{row}.branch3.0.{conv_or_bn}"),
    (r"inception_(?P<row>\w\w)_5x5(_bn)?", "inception{row}.branch3.1.{conv_or_bn}"),
    (r"inception_(?P<row>\w\w)_pool_projection(_bn)?", "inception{row}.branch4.1.{conv_or_bn}"),
)
TORCHVISION_KINDS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def choose_names(model: keras.Model) -> Sequence[tuple[str, str]]:
    """Return the table of PyTorch's names for a model."""
    layers = [layer.name for layer in model.layers]
    if any(name.startswith("inception_") for name in layers):
        return GOOGLENET_NAMES
    if any(name.endswith("_shortcut_pool") for name in layers):
        return AVERAGE_POOL_NAMES
    return RESNET_NAMES


def torchvision_name(layer: str, kind: str, names: Sequence[tuple[str, str]] = RESNET_NAMES) -> str:
    """Return PyTorch's name for a variable of our layer, or our name if it has none.

    Args:
        layer: Name of the layer.
        kind: Name of the variable in the layer, such as "kernel".
        names: The table of the model, from `choose_names`.
    """
    for pattern, name in names:
        match = re.fullmatch(pattern, layer)
        if match:
            parts: dict[str, Any] = {
                "conv_or_bn": "bn" if layer.endswith("_bn") else "conv",
                **match.groupdict(),
            }
            if "block" in parts:
                parts["block"] = int(parts["block"]) - 1
            return f"{name.format(**parts)}.{TORCHVISION_KINDS[kind]}"
    return f"{layer}.{kind}"


def read_tensors(source: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a file or a state_dict by name."""
    state = source if hasattr(source, "items") else read_file(source)
    return extract_tensors(state, describe_source(source))


def read_file(path: str | Path) -> Any:
    """Return the contents of a .safetensors or .pth file."""
    kind = detect_kind(find_weights_file("source", path))
    if kind not in (SAFETENSORS, TORCH):
        raise InputError(
            f"{path} must hold PyTorch's tensors. Received: a {kind} file. "
            "Pass it to `weights` of a builder."
        )
    try:
        if kind == SAFETENSORS:
            from safetensors.numpy import load_file

            return load_file(path)
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise InputError(
            f"A .pth file needs torch, which is not installed. Received: {path}. "
            'Run pip install "keras_arch[torch]", or use a .safetensors file.'
        ) from None
    except Exception as error:  # damaged bytes can raise any exception
        raise InputError(
            f"{path} cannot be read as tensors. Received: {first_line(error)} "
            "Save a state_dict: torch.save(model.state_dict(), FILE)."
        ) from error


def extract_tensors(state: Any, source: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state_dict, also in a larger checkpoint, without wrapper prefixes."""
    inner = [state[key] for key in WRAPPERS if key in state] if hasattr(state, "items") else []
    if inner and hasattr(inner[0], "items"):
        return extract_tensors(inner[0], source)
    if problem := find_state_dict_problem(state):
        raise InputError(
            f"{source} must hold a state_dict, a tensor for each name. Received: {problem}. "
            "Save it with torch.save(model.state_dict(), FILE)."
        )
    plain = {PREFIXES.sub("", name): name for name in state}
    names = plain if len(plain) == len(state) else {name: name for name in state}
    return {name: to_array(state[original]) for name, original in names.items()}


def find_state_dict_problem(state: Any) -> str | None:
    """Return why `state` is not a state_dict, or None if it is one."""
    if not hasattr(state, "items"):
        return f"a {type(state).__name__}"
    if not state:
        return "nothing"
    wrong = (
        (name, item)
        for name, item in state.items()
        if not (isinstance(name, str) and hasattr(item, "shape"))
    )
    return next(
        (f"a {type(item).__name__} called {reprlib.repr(name)}" for name, item in wrong), None
    )


def to_array(tensor: Any) -> np.ndarray:
    """Return a tensor of PyTorch, or anything like an array, as a NumPy array."""
    return (
        tensor.detach().cpu().float().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)
    )


def download_for(model: keras.Model, architecture: str, fits_any: bool = False) -> str:
    """Download torchvision's checkpoint for a model, after checks that it fits.

    Args:
        model: A model from a builder of keras_arch.
        architecture: Its name in `keras_arch.available()`.
        fits_any: Whether other numbers of classes and grayscale images are allowed, as in
            `transfer_weights`.

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: The checkpoint does not fit the model, or the download fails.
    """
    if architecture in PUBLISHED:  # otherwise `download` raises InputError
        check_shortcuts(model, "imagenet")
        check_normalization(model, architecture)
        check_tensor_shapes(model, architecture, fits_any)
    return download(architecture)


def check_tensor_shapes(model: keras.Model, architecture: str, fits_any: bool) -> None:
    """Raise InputError unless the model has the number of parameters of torchvision's network."""
    channels, classes = model.input_shape[-1], model.outputs[0].shape[-1]
    if channels != 3 and not (fits_any and channels == 1):
        raise tensor_shape_error(
            f"images of {channels} channel{'s' * (channels > 1)}", "images of 3 channels"
        )
    if has_head(model) and not fits_any and classes != IMAGENET_CLASSES:
        raise tensor_shape_error(
            f"classes={classes}",
            "classes=1000, or keras_arch.transfer_weights for a new classifier",
        )
    found = count_backbone_parameters(model)
    if found != PARAMETERS[architecture]:
        default = " and kernel_5x5=3" if architecture == "googlenet" else ""
        raise tensor_shape_error(
            f"a {architecture} with {found:,} parameters without its classifier instead of "
            f"{PARAMETERS[architecture]:,}",
            f"the builder's default options{default}",
        )


def tensor_shape_error(received: str, fix: str) -> InputError:
    return InputError(
        f"weights='imagenet' needs the network of its training. Received: {received}. Use {fix}."
    )


def count_backbone_parameters(model: keras.Model) -> int:
    """Return the number of parameters without classifiers, as if images had three channels."""
    kernels = [variable.shape for variable in model.variables if len(variable.shape) == 4]
    first = math.prod(kernels[0]) // kernels[0][2]  # parameters per channel
    counted = (
        math.prod(variable.shape)
        for variable in model.variables
        if not variable.path.startswith(("predictions/", AUXILIARY_PREFIX))
        and variable.path.rpartition("/")[2] in ("kernel", "bias", "gamma", "beta")
    )
    return sum(counted) + (3 - kernels[0][2]) * first


def check_published(name: str) -> None:
    """Raise InputError if torchvision has no checkpoint of an architecture, or torch is missing."""
    if name not in PUBLISHED:
        raise InputError(
            f"weights='imagenet' exists for {', '.join(PUBLISHED)}. Received: {name!r}. "
            "Use weights=None or a weights file."
        )
    if PUBLISHED[name].endswith(TORCH):
        require("torch")


def download(name: str) -> str:
    """Return the path of torchvision's checkpoint, from Keras's cache or the network.

    The SHA-256 is checked.
    """
    check_published(name)
    file = PUBLISHED[name]
    try:
        path = keras.utils.get_file(
            file, TORCHVISION + file, cache_subdir="models/keras_arch", cache_dir=CACHE_DIR
        )
    except Exception as error:  # Keras wraps those of urllib in a bare Exception
        if is_disk_full(error):
            raise InputError(
                f"There is no disk space for {file}. Received: {first_line(error)}. "
                "Free some space."
            ) from error
        raise InputError(
            f"{TORCHVISION + file} cannot be downloaded. Received: {first_line(error)}. "
            "Check the network, or pass a copy of the file as `weights`."
        ) from error
    # `get_file` compares complete hashes only, and the name has eight digits.
    digest = Path(file).stem.split("-")[-1]
    if not hashlib.sha256(Path(path).read_bytes()).hexdigest().startswith(digest):
        Path(path).unlink()
        raise InputError(
            f"{file} must have a SHA-256 that begins with {digest}. "
            "Received: a damaged download. Try again."
        )
    return path
