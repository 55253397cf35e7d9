"""torchvision's checkpoints: names, reading and download."""

import hashlib
import math
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from ..errors import InputError, first_line, is_disk_full
from ..models import check_model
from .files import (
    SAFETENSORS,
    TORCH,
    TRAINING_HEADS,
    detect_kind,
    differences,
    find_weights_file,
    has_head,
)

TORCHVISION = "https://download.pytorch.org/models/"
# torchvision's IMAGENET1K_V1 checkpoints; a file's name ends in the first eight digits of its SHA-256.
PUBLISHED = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "googlenet": "googlenet-1378be20.pth",
}


class Normalization(NamedTuple):
    """The input of a network is (x / 255 - mean) / std. One number for each of red, green and blue."""

    mean: Sequence[float]
    std: Sequence[float]


IMAGENET = Normalization(
    (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
)  # of ImageNet's training images
HALVES = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # -1 to 1
# Parameters of the same networks, all but those of the classifier for 1000 classes.
PARAMETERS = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
    "resnet152": 58_143_808,
    "googlenet": 5_599_904,
}
IMAGENET_CLASSES = 1000
TRAINED_WITH = {name: HALVES if name == "googlenet" else IMAGENET for name in PUBLISHED}

CACHE_DIR = None  # Keras's own, ~/.keras


WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
)  # what training scripts call a state_dict in a larger checkpoint
PREFIXES = re.compile(r"^(module\.|_orig_mod\.)+")  # of DataParallel and torch.compile
COUNTERS = ("num_batches_tracked", "n_averaged")  # of steps; evaluation does not use them


def load_torchvision_weights(model, source, skip_head=False, sum_channels=False):
    """Load a torchvision checkpoint into a ResNet (18 to 152) or a GoogLeNet with kernel_5x5=3.

    Args:
        model: a model that a builder of ours made; its own normalisation is what torchvision's weights expect.
        source: a mapping from names to arrays as in a state_dict (convolutions: out, in, height, width), or the path
            of a .safetensors file, or of a .pth file, which is read by torch (`pip install torch`) with
            weights_only=True. The state_dict may be the "state_dict", "model_state_dict" or "model" of a larger
            checkpoint. A `module.` or `_orig_mod.` before the names is left out.
        skip_head: leave the model's own classifier, for another number of classes or a model without one.
        sum_channels: sum the first convolution over red, green and blue, for a model of one channel: it then answers
            to a grey image about as the original to the same grey in all three.

    Returns:
        The model.

    Raises:
        InputError (a ValueError): tensors are missing, unexpected or of another shape; they are named, and the model
            is as it was. Or the model has shortcuts that pad channels with zeros, as ResNet20 has by default.
    """
    check_model(model)
    check_shortcuts(model, source)
    return assign_tensors(model, read_tensors(source), named(source), skip_head, sum_channels)


def assign_tensors(model, state, source, skip_head, sum_channels):
    """Load the state_dict of `load_torchvision_weights`, which messages call `source`."""
    tensors = {
        name: tensor
        for name, tensor in state.items()
        if not name.endswith(COUNTERS)
        and not name.startswith(("aux1.", "aux2."))  # GoogLeNet's training heads
    }
    if skip_head:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
    values, missing, misshapen = {}, [], []
    for variable in model.variables:
        layer, _, kind = variable.path.rpartition("/")
        if (
            kind == "seed_generator_state"
            or (skip_head and layer == "predictions")
            or layer.startswith(TRAINING_HEADS)
        ):
            continue
        name = torchvision_name(layer, kind)
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
    if problems := differences(missing, list(tensors), misshapen):
        fix = (
            " skip_head=True loads all but the classifier, sum_channels=True is for one channel."
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


def check_shortcuts(model, source):
    """Raise InputError if a shortcut of the model pads channels with zeros.

    PyTorch's networks of this kind put the zeros behind the channels, before them or on both sides. Their tensors have
    the same names and shapes, so that weights of another network load without an error and classify worse.
    """
    if any(layer.name.endswith("_shortcut_pad") for layer in model.layers):
        raise InputError(
            f"{model.name} has shortcuts that pad channels with zeros, and PyTorch's tensors do not show on which side. "
            f"Received: {named(source)}. Use shortcut='projection' and weights trained so, or a file of Keras."
        )


def named(source):
    """What a message calls a source of tensors."""
    return "A mapping" if hasattr(source, "items") else source


def check_normalization(model, architecture):
    """Raise InputError unless the model normalizes images as torchvision did when it trained `architecture`."""
    mean, std = normalization_of(model)
    wanted = TRAINED_WITH[architecture]
    if model.input_shape[-1] != 3:
        wanted = Normalization(*([float(np.mean(values))] for values in wanted))
    if not (np.allclose(mean, wanted.mean, atol=1e-6) and np.allclose(std, wanted.std, atol=1e-6)):
        raise InputError(
            "weights='imagenet' need the normalization that they were trained with. "
            f"Received: mean={format_numbers(mean)}, std={format_numbers(std)}. Leave out `mean` and `std`."
        )


def normalization_of(model):
    """The `Normalization` of a model that a builder of ours made."""
    layer = model.get_layer("normalise")
    std = 1 / (255 * np.asarray(layer.scale))
    return Normalization((-np.asarray(layer.offset) * std).tolist(), std.tolist())


def format_numbers(values):
    return f"({', '.join(f'{value:.4g}' for value in values)})"


# What torchvision calls our layers; it counts blocks from 0.
TORCHVISION_NAMES = (
    (r"predictions", "fc"),
    (r"stem_conv(_bn)?", "{conv_or_bn}1"),
    (
        r"stage(?P<stage>\d+)_block(?P<block>\d+)_conv(?P<conv>\d+)(_bn)?",
        "layer{stage}.{block}.{conv_or_bn}{conv}",
    ),
    (
        r"stage(?P<stage>\d+)_block(?P<block>\d+)_shortcut(_bn)?",
        "layer{stage}.{block}.downsample.{zero_or_one}",
    ),
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


def torchvision_name(layer, kind):
    """What torchvision calls the variable `kind` of our `layer`; our own path where it has no such thing."""
    for pattern, name in TORCHVISION_NAMES:
        match = re.fullmatch(pattern, layer)
        if match:
            is_bn = layer.endswith("_bn")
            parts = {
                "conv_or_bn": "bn" if is_bn else "conv",
                "zero_or_one": int(is_bn),
                **match.groupdict(),
            }
            if "block" in parts:
                parts["block"] = int(parts["block"]) - 1
            return f"{name.format(**parts)}.{TORCHVISION_KINDS[kind]}"
    return f"{layer}.{kind}"


def read_tensors(source):
    """A mapping from names to NumPy arrays, from what `load_torchvision_weights` takes."""
    return tensors_of(source if hasattr(source, "items") else read_file(source), named(source))


def read_file(path):
    """What a .safetensors or .pth file holds."""
    kind = detect_kind(find_weights_file("source", path))
    if kind not in (SAFETENSORS, TORCH):
        raise InputError(
            f"{path} must hold PyTorch's tensors. Received: a {kind} file. Use `weights=` of a builder."
        )
    try:
        if kind == SAFETENSORS:
            from safetensors.numpy import load_file

            return load_file(path)
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    except ImportError:
        raise InputError(
            f"expected torch to be installed, which reads {path}; pip install torch would work, or a .safetensors file"
        ) from None
    except Exception as error:  # a damaged file raises whatever its bytes happen to mean
        raise InputError(
            f"{path} cannot be read as tensors. Received: {first_line(error)} Save a state_dict: "
            "torch.save(model.state_dict(), FILE)."
        ) from error


def tensors_of(state, source):
    """The tensors of a state_dict as NumPy arrays, out of a larger checkpoint and without prefixes of wrappers."""
    inner = [state[key] for key in WRAPPERS if key in state] if hasattr(state, "items") else []
    if inner and hasattr(inner[0], "items"):
        return tensors_of(inner[0], source)
    if problem := not_a_state_dict(state):
        raise InputError(
            f"{source} must hold a state_dict, a tensor for each name. Received: {problem}. Save it with "
            "torch.save(model.state_dict(), FILE)."
        )
    plain = {PREFIXES.sub("", name): name for name in state}
    names = plain if len(plain) == len(state) else {name: name for name in state}
    return {name: as_array(state[original]) for name, original in names.items()}


def not_a_state_dict(state):
    """Why something is no state_dict, as a text; None if it is one."""
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


def as_array(tensor):
    """A tensor of PyTorch or anything like an array as a NumPy array."""
    return (
        tensor.detach().cpu().float().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)
    )


def download_for(model, architecture, fits_any=False):
    """Download torchvision's checkpoint, unless it would be wrong for the model: then raise InputError at once.

    Args:
        model: a model that a builder of ours made.
        architecture: what `keras_arch.build` calls it.
        fits_any: whether another number of classes and images of one channel are fine, as for `transfer_weights`.
    """
    if architecture in PUBLISHED:  # else `download` says which are
        check_shortcuts(model, "imagenet")
        check_normalization(model, architecture)
        check_shapes(model, architecture, fits_any)
    return download(architecture)


def check_shapes(model, architecture, fits_any):
    """Raise InputError unless the model has the parameters of the published network, whose shapes are those of ours."""
    channels, classes = model.input_shape[-1], model.outputs[0].shape[-1]
    if channels != 3 and not (fits_any and channels == 1):
        raise shape_refusal(
            f"images of {channels} channel{'s' * (channels > 1)}", "images of 3 channels"
        )
    if has_head(model) and not fits_any and classes != IMAGENET_CLASSES:
        raise shape_refusal(
            f"classes={classes}",
            "classes=1000, or keras_arch.transfer_weights for a new classifier",
        )
    found = backbone_parameters(model)
    if found != PARAMETERS[architecture]:
        default = " and kernel_5x5=3" if architecture == "googlenet" else ""
        raise shape_refusal(
            f"a {architecture} of {found:,} parameters without its classifier, where the published one has "
            f"{PARAMETERS[architecture]:,}",
            f"the builder's default options{default}",
        )


def shape_refusal(received, fix):
    return InputError(
        f"weights='imagenet' need the network that they were trained in. Received: {received}. Use {fix}."
    )


def backbone_parameters(model):
    """Number of parameters of a model for images of three channels, without its classifier and training heads."""
    kernels = [variable.shape for variable in model.variables if len(variable.shape) == 4]
    first = math.prod(kernels[0]) // kernels[0][2]  # of one channel
    counted = (
        math.prod(variable.shape)
        for variable in model.variables
        if not variable.path.startswith(("predictions/", TRAINING_HEADS))
        and variable.path.rpartition("/")[2] in ("kernel", "bias", "gamma", "beta")
    )
    return sum(counted) + (3 - kernels[0][2]) * first


def download(name):
    """Torchvision's checkpoint for the model called `name`, from Keras's cache or the network, its hash checked."""
    if name not in PUBLISHED:
        raise InputError(
            f"expected weights='imagenet' for a model that torchvision has published ({', '.join(PUBLISHED)}), got "
            f"{name!r}; weights=None or a file would work"
        )
    file = PUBLISHED[name]
    try:
        path = keras.utils.get_file(
            file, TORCHVISION + file, cache_subdir="models/keras_arch", cache_dir=CACHE_DIR
        )
    except Exception as error:  # urllib's many; Keras wraps them in a bare Exception
        if is_disk_full(error):
            raise InputError(f"There is no room for {file}: {first_line(error)}") from error
        raise InputError(
            f"expected a network to download {TORCHVISION + file} from, got {first_line(error)}; weights='FILE.pth' takes a "
            "copy of it"
        ) from error
    digest = Path(file).stem.split("-")[
        -1
    ]  # the first eight digits, and get_file compares whole hashes only
    if not hashlib.sha256(Path(path).read_bytes()).hexdigest().startswith(digest):
        Path(path).unlink()
        raise InputError(
            f"expected {file} with a SHA-256 that begins with {digest}, got a broken download; try again"
        )
    return path
