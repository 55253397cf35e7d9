"""Checkpoints with torchvision's names of tensors: reading and loading."""

import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ..errors import InputError, first_line
from ..models import check_model
from ..published import is_hub_name, is_published
from .files import (
    AUXILIARY_PREFIX,
    SAFETENSORS,
    TORCH,
    detect_kind,
    find_weights_file,
    list_differences,
)
from .torch_file import read_torch_file
from .zero_padding import is_centered, reorder_channels

# Names of a state_dict in a larger checkpoint.
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and torch.compile
# Names in CIFAR collections, and torchvision's.
ALIASES = ((r"^linear\.", "fc."), (r"\.shortcut\.", ".downsample."))
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
            arrays (convolutions: out, in, height, width). A .pth file is read without PyTorch. It
            is refused if it would run code. The state_dict may be the "state_dict",
            "model_state_dict" or "model" of a larger checkpoint. Prefixes `module.` and
            `_orig_mod.` are removed.
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
    return assign_tensors(
        model,
        read_tensors(model, source),
        describe_source(source),
        skip_head,
        sum_channels,
        " Pass skip_head=True for other classes or sum_channels=True for one channel.",
    )


def assign_tensors(
    model: keras.Model,
    state: Mapping[str, np.ndarray],
    source: str | Path,
    skip_head: bool,
    sum_channels: bool,
    hint: str = "",
) -> keras.Model:
    """Assign a state_dict to the variables of a model. Messages name it `source`.

    `hint` ends the message if a shape is wrong.
    """
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
        fix = hint if misshapen else ""
        raise InputError(
            f"{source} does not fit {model.name}. Received: {'; '.join(problems)}.{fix}"
        )
    for variable in model.variables:
        if variable.path in values:
            variable.assign(values[variable.path])
    return model


def describe_source(source: Any) -> Any:
    """Return the name of a source of tensors for messages."""
    return "A mapping" if hasattr(source, "items") else source


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


def read_tensors(model: keras.Model, source: Any) -> dict[str, np.ndarray]:
    """Return the tensors of a file or a state_dict by name, in the model's order of channels.

    Raises:
        InputError: The source cannot be read, or the model pads channels with zeros and the side on
            which the source's network pads is unknown. Its tensors would load without an error
            and classify worse.
    """
    centered = pads_channels(model) and is_centered(source)
    if not centered:
        refuse_padding(model, source)
    state = source if hasattr(source, "items") else read_file(source)
    tensors = extract_tensors(state, describe_source(source))
    return reorder_channels(tensors) if centered else tensors


def refuse_padding(model: keras.Model, source: Any) -> None:
    """Raise InputError if a model has `shortcut="zero_padding"`."""
    if pads_channels(model):
        raise InputError(
            f"{model.name} has shortcuts that pad channels with zeros. PyTorch's tensors do not "
            f"show on which side. Received: {describe_source(source)}. Use "
            "shortcut='projection' and weights that were trained with it, or a Keras file."
        )


def pads_channels(model: keras.Model) -> bool:
    """Return whether a model has `shortcut="zero_padding"`."""
    return any(layer.name.endswith("_shortcut_pad") for layer in model.layers)


def read_file(path: str | Path) -> Any:
    """Return the contents of a .safetensors or .pth file."""
    if is_published(path) or is_hub_name(path):
        raise InputError(
            f"`source` must be a file or a state_dict. Received: {path!r}, the name of published "
            "weights. Use transfer_weights."
        )
    kind = detect_kind(find_weights_file("source", path))
    if kind not in (SAFETENSORS, TORCH):
        raise InputError(
            f"{path} must hold PyTorch's tensors. Received: a {kind} file. "
            "Pass it to `weights` of a builder."
        )
    if kind == TORCH:
        return read_torch_file(path)
    try:
        from safetensors.numpy import load_file

        return load_file(path)
    except Exception as error:  # damaged bytes can raise any exception
        raise InputError(
            f"{path} cannot be read as tensors. Received: {first_line(error)}. "
            "Save a state_dict: safetensors.torch.save_file(model.state_dict(), FILE)."
        ) from error


def extract_tensors(state: Any, source: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state_dict, also in a larger checkpoint, without wrapper prefixes."""
    state = unwrap(state)
    if problem := find_state_dict_problem(state):
        raise InputError(
            f"{source} must hold a state_dict, a tensor for each name. Received: {problem}. "
            "Save it with torch.save(model.state_dict(), FILE)."
        )
    plain = {PREFIXES.sub("", name): name for name in state}
    names = plain if len(plain) == len(state) else {name: name for name in state}
    renamed = {rename(name): original for name, original in names.items()}
    names = renamed if len(renamed) == len(names) else names
    return {name: to_array(state[original]) for name, original in names.items()}


def unwrap(state: Any, levels: int = 3) -> Any:
    """Return the state_dict in a larger checkpoint. A damaged file can contain itself."""
    inner = [state[key] for key in WRAPPERS if key in state] if hasattr(state, "items") else []
    if levels and inner and hasattr(inner[0], "items"):
        return unwrap(inner[0], levels - 1)
    return state


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


def rename(name: str) -> str:
    """Return torchvision's name for a tensor of a CIFAR collection. Other names are unchanged."""
    for pattern, torchvisions in ALIASES:
        name = re.sub(pattern, torchvisions, name)
    return name


def to_array(tensor: Any) -> np.ndarray:
    """Return a tensor of PyTorch, or anything like an array, as a NumPy array."""
    return (
        tensor.detach().cpu().float().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)
    )
