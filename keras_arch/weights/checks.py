"""Checks that published weights fit a model. They run before the download."""

import math
from collections.abc import Sequence

import keras
import numpy as np

from ..errors import InputError
from ..published import PUBLISHED, Normalization
from .files import AUXILIARY_PREFIX


def check_published(name: str, architecture: str) -> None:
    """Raise InputError unless the collection `name` has a checkpoint of an architecture."""
    checkpoints = PUBLISHED[name].checkpoints
    if architecture not in checkpoints:
        raise InputError(
            f"weights={name!r} exists for {', '.join(checkpoints)}. Received: {architecture!r}. "
            "Use weights=None or a weights file."
        )


def check_fits_published(model: keras.Model, name: str, architecture: str) -> None:
    """Raise InputError unless a published checkpoint fits a model.

    Another number of classes fits, because the head starts from scratch then. Grayscale images fit,
    because the first kernel is summed over its channels.

    Args:
        model: A model from a builder of keras_arch.
        name: Name of the collection, a key of `PUBLISHED`.
        architecture: Name of the builder in `keras_arch.available()`.
    """
    check_published(name, architecture)
    checkpoint, channels = PUBLISHED[name].checkpoints[architecture], model.input_shape[-1]
    if channels not in (1, 3):
        raise misfit_error(name, f"images of {channels} channels", "images of 1 or 3 channels")
    found = count_backbone_parameters(model)
    if found != checkpoint.parameters:
        default = " and kernel_5x5=3" if architecture == "googlenet" else ""
        raise misfit_error(
            name,
            f"a {architecture} with {found:,} parameters without its classifier instead of "
            f"{checkpoint.parameters:,}",
            f"the builder's default options{default}",
        )
    if any(layer.name.endswith("_shortcut_pool") for layer in model.layers):
        raise misfit_error(name, "shortcuts with an average pool", "the default of `shortcut`")
    check_normalization(model, checkpoint.normalization, name)


def misfit_error(name: str, received: str, fix: str) -> InputError:
    return InputError(
        f"weights={name!r} needs the network of its training. Received: {received}. Use {fix}."
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


def check_normalization(model: keras.Model, trained: Normalization, source: object) -> None:
    """Raise InputError unless a model normalizes images as the training of its weights did."""
    own = get_normalization(model)
    wanted = fit_normalization(trained, model.input_shape[-1])
    if not is_close(own, wanted):
        raise InputError(
            f"{source} needs the normalization of its training. Received: {describe(own)}. "
            f"Pass {describe(wanted)}."
        )


def fit_normalization(normalization: Normalization, channels: int) -> Normalization:
    """Return a normalization for images of `channels` channels: for grayscale, the averages."""
    if channels == len(normalization.mean):
        return normalization
    return Normalization(*([float(np.mean(values))] for values in normalization))


def is_close(one: Normalization, other: Normalization) -> bool:
    return len(one.mean) == len(other.mean) and all(
        np.allclose(*pair, atol=1e-6) for pair in zip(one, other, strict=True)
    )


def get_normalization(model: keras.Model) -> Normalization:
    """Return the normalization of a model from a builder of keras_arch."""
    layer = model.get_layer("normalize")
    std = 1 / (255 * np.asarray(layer.scale))
    return Normalization((-np.asarray(layer.offset) * std).tolist(), std.tolist())


def describe(normalization: Normalization) -> str:
    """Return a normalization as arguments of a builder."""
    return ", ".join(
        f"{name}={format_numbers(values)}" for name, values in normalization._asdict().items()
    )


def format_numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"
