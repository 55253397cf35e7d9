"""Loading of weights files of any kind into a model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..class_names import LABELS, first_difference, read_labels, read_packed_labels
from ..errors import DataWarning, InputError, first_line
from ..files import find_in_run, link_with_suffix
from ..models import check_model, head_names, load_keras
from ..text import brief
from .files import (
    AUXILIARY_PREFIX,
    KERAS,
    SAFETENSORS,
    TORCH,
    detect_kind,
    find_weights_file,
    has_head,
    is_published,
    list_differences,
)
from .torchvision import (
    assign_tensors,
    check_shortcuts,
    download_for,
    format_numbers,
    get_normalization,
    load_torchvision_weights,
    read_tensors,
)

if TYPE_CHECKING:
    import keras


def load_weights(model: keras.Model, weights: str | Path, architecture: str) -> None:
    """Load the `weights` argument of a builder. The model is unchanged if this fails.

    Args:
        model: A model from a builder of keras_arch, with any name.
        weights: "imagenet" for torchvision's checkpoint, downloaded once into Keras's cache, or the
            path of a file of any kind and suffix, detected by its contents. Class names are not
            compared.
        architecture: Name of the builder in `keras_arch.available()`.

    Raises:
        InputError (a ValueError): There is no such file or checkpoint, the download fails, or the
            file is damaged or does not fit the model.
    """
    if is_published(weights):
        load_torchvision_weights(
            model, download_for(model, architecture), skip_head=not has_head(model)
        )
        return
    kind = detect_kind(find_weights_file("weights", weights))
    if kind in (SAFETENSORS, TORCH):
        load_torchvision_weights(model, weights, skip_head=not has_head(model))
        return
    if kind == KERAS:
        check_same_network(model, load_keras(weights), weights)
    load_keras_weights(model, weights, kind)


def transfer_weights(
    model: keras.Model,
    source: str | Path,
    architecture: str,
    class_names: Sequence[str] | None = None,
) -> set[str]:
    """Load the weights of another training. A head for other classes is not loaded.

    Issues a `DataWarning` if a head with the same number of classes is not loaded.

    Args:
        model: A model from a builder of keras_arch.
        source: A run directory, a .keras file with any number of classes, a .weights.h5 file with
            the same number of classes, "imagenet" for torchvision's checkpoint, or a .safetensors
            or .pth file.
        architecture: Name of the builder in `keras_arch.available()`.
        class_names: Class names of the model, in the order of its outputs. The head is not loaded
            if the .keras file or labels.txt in the run directory has other names or another order.
            Without names in both, only the numbers of classes are compared.

    Returns:
        Names of the layers that keep their initial weights: none, or those of the head and of
        auxiliary classifiers.

    Raises:
        InputError (a ValueError): There is no such source, or it is damaged or of another network.
            The model is unchanged.

    Example:
        model = keras_arch.ResNet18(classes=5)
        keras_arch.transfer_weights(model, "imagenet", "resnet18")  # {"predictions"}
    """
    check_model(model)
    path = source if is_published(source) else find_weights_file("source", source)
    difference = find_class_difference(path, class_names)
    if difference is None:
        return copy_all(model, path, architecture)
    head = {name: model.get_layer(name).get_weights() for name in head_names(model)}
    skipped = copy_all(model, path, architecture)
    for name, arrays in head.items():
        model.get_layer(name).set_weights(arrays)
    if reset := head.keys() - skipped:
        number, theirs, ours = difference
        warnings.warn(
            f"Class {number} of {source} is {brief(theirs)} and not {brief(ours)}. "
            f"The head starts from scratch: {', '.join(sorted(reset))}",
            DataWarning,
            stacklevel=2,
        )
    return skipped | head.keys()


def copy_weights(model: keras.Model, other: keras.Model, path: str | Path) -> set[str]:
    """Copy weights between layers of the same name. Return the names of head layers that differ.

    Raises:
        InputError: Other layers differ.
    """
    head, theirs, ours = head_names(model), get_compared_layers(other), get_compared_layers(model)
    skipped, missing, misshapen, values = set(), [], [], {}
    for name, layer in ours.items():
        found = [weight.shape for weight in theirs[name].weights] if name in theirs else None
        if found == [weight.shape for weight in layer.weights]:
            values[layer] = theirs[name].get_weights()
        elif name in head or name.startswith(AUXILIARY_PREFIX):
            skipped.add(name)
        elif found:
            misshapen.append(f"{name} is {found[0]} and not {layer.weights[0].shape}")
        else:
            missing.append(name)
    unexpected = [
        name for name in theirs if name not in ours and not name.startswith(AUXILIARY_PREFIX)
    ]
    if problems := [
        *list_differences(missing, unexpected, misshapen),
        *list_normalization_differences(model, other),
    ]:
        raise InputError(
            f"The layers in {path} do not fit {model.name}. Received: {'; '.join(problems)}."
        )
    for layer, arrays in values.items():
        layer.set_weights(arrays)
    return skipped


def list_normalization_differences(model: keras.Model, other: keras.Model) -> list[str]:
    """Return the difference between the normalizations of two models, as zero or one texts."""
    if not all(
        any(layer.name == "normalize" for layer in network.layers) for network in (model, other)
    ):
        return []
    ours, theirs = get_normalization(model), get_normalization(other)
    if np.allclose(ours.mean, theirs.mean, atol=1e-6) and np.allclose(
        ours.std, theirs.std, atol=1e-6
    ):
        return []
    return [
        f"normalization is mean={format_numbers(theirs.mean)}, std={format_numbers(theirs.std)} "
        f"and not mean={format_numbers(ours.mean)}, std={format_numbers(ours.std)}"
    ]


def check_same_network(model: keras.Model, other: keras.Model, path: str | Path) -> None:
    """Raise InputError unless two models merge branches and normalize images in the same way.

    Keras pairs weights by order, and a plain network has the same weights as a residual network.
    """
    merging, expected = (
        {layer.name for layer in net.layers if isinstance(layer.input, list)}
        for net in (other, model)
    )
    problems = [f"{name} is missing" for name in sorted(expected - merging)]
    problems += [f"{name} is unexpected" for name in sorted(merging - expected)]
    problems += list_normalization_differences(model, other)
    if problems:
        raise InputError(
            f"{path} must hold the weights of {model.name}. "
            f"Received: another network: {problems[0]}."
        )


def get_compared_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return the layers with weights and the layers that merge branches, by name.

    Layers that merge branches distinguish a ResNet from a plain network.
    """
    return {
        layer.name: layer
        for layer in model.layers
        if layer.weights or isinstance(layer.input, list)
    }


def load_keras_weights(model: keras.Model, path: str | Path, kind: str) -> None:
    """Load a Keras file into a model. The model is unchanged if this raises InputError."""
    before = model.get_weights()
    try:
        with warnings.catch_warnings(), link_with_suffix(path, kind) as file:
            # Keras only warns if the file lacks layers of the model.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(file)
    except Exception as error:  # damaged bytes can raise any exception
        model.set_weights(before)
        raise InputError(
            f"{path} must hold weights of a {model.name} with output {model.output_shape}. "
            f"Received: {first_line(error)}"
        ) from error


def find_class_difference(
    path: str | Path, class_names: Sequence[str] | None
) -> tuple[int, str, str] | None:
    """Return the first difference between the class names of a weights file and `class_names`.

    It is (index, name in the file, name in `class_names`), or None if there is no difference or
    either names are unknown.
    """
    if is_published(path) or class_names is None:
        return None
    labels = read_packed_labels(path) if detect_kind(path) == KERAS else None
    if labels is None and (file := find_in_run(path, LABELS)):
        labels = read_labels(file)
    return None if labels is None else first_difference(labels, class_names)


def copy_all(model: keras.Model, path: str | Path, architecture: str) -> set[str]:
    """Copy all weights that fit from "imagenet" or a file. Return the names of other layers."""
    kind = TORCH if is_published(path) else detect_kind(path)
    if kind in (SAFETENSORS, TORCH):
        check_shortcuts(model, path)
        tensors = read_tensors(
            download_for(model, architecture, fits_any=True) if is_published(path) else path
        )
        classes = len(tensors.get("fc.bias", ()))
        skipped = head_names(model) if classes != model.outputs[0].shape[-1] else set()
        assign_tensors(
            model, tensors, path, skip_head=bool(skipped), sum_channels=model.input_shape[-1] == 1
        )
        return skipped | {
            layer.name
            for layer in model.layers
            if layer.weights and layer.name.startswith(AUXILIARY_PREFIX)
        }
    if kind == KERAS:
        return copy_weights(model, load_keras(path), path)
    load_keras_weights(model, path, kind)
    return set()
