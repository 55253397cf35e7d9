"""Loading of weights files of any kind into a model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..class_names import (
    LABELS,
    check_class_names,
    first_difference,
    read_labels,
    read_packed_labels,
)
from ..errors import DataWarning, InputError, first_line
from ..files import find_in_run, link_with_suffix
from ..models import check_model, head_names, load_keras
from ..published import PUBLISHED, is_hub_name, is_published
from ..text import brief, join_first
from .checks import (
    check_fits_published,
    describe,
    fit_normalization,
    get_normalization,
    is_close,
)
from .download import download
from .files import (
    AUXILIARY_PREFIX,
    KERAS,
    SAFETENSORS,
    TORCH,
    detect_kind,
    find_weights_file,
    has_head,
    list_differences,
)
from .hub import download_from_hub
from .torchvision import assign_tensors, choose_names, read_tensors, torchvision_name

if TYPE_CHECKING:
    import keras


def load_weights(model: keras.Model, weights: str | Path, architecture: str) -> None:
    """Load the `weights` argument of a builder. The model is unchanged if this fails.

    Issues a `DataWarning` if layers start from scratch or a kernel is summed.

    Args:
        model: A model from a builder of keras_arch, with any name.
        weights: Source of weights, as in `transfer_weights`. Class names are not compared.
        architecture: Name of the builder in `keras_arch.available()`.

    Raises:
        InputError (a ValueError): There is no such file or checkpoint, the download fails, or the
            file is damaged or does not fit the model.
    """
    copy_all(model, weights, architecture, "weights")


def transfer_weights(
    model: keras.Model,
    source: str | Path,
    architecture: str,
    class_names: Sequence[str] | None = None,
) -> set[str]:
    """Load the weights of another training. A head for other classes is not loaded.

    If the model takes grayscale images and the weights are for RGB, the first kernel is summed over
    its channels. A `DataWarning` names the layers that start from scratch and a summed kernel.

    Args:
        model: A model from a builder of keras_arch.
        source: A run directory, a .keras, .safetensors or .pth file with any number of classes, a
            .weights.h5 file with the same number of classes, or the name of published weights:
            "imagenet" and "imagenet_v2" of torchvision, "cifar10" for the CIFAR networks, or
            "hf://OWNER/REPOSITORY" on the Hugging Face Hub. They are downloaded once.
            "cifar10_jpeg" for ResNet20 is in this package.
        architecture: Name of the builder in `keras_arch.available()`.
        class_names: Class names of the model, in the order of its outputs. The head is not loaded
            if the source has other names or another order: a .keras file, labels.txt in a run
            directory, or "cifar10". Without names in both, only the numbers of classes are
            compared.

    Returns:
        Names of the layers that keep their initial weights: none, or those of the head and of
        auxiliary classifiers.

    Raises:
        InputError (a ValueError): There is no such source, or it is damaged or of another network,
            or the class names are not a list. The model is unchanged.

    Example:
        model = keras_arch.ResNet18(classes=5)
        keras_arch.transfer_weights(model, "imagenet", "resnet18")  # {"predictions"}
    """
    check_model(model)
    if class_names is not None:
        class_names = check_class_names(class_names)
    difference = None
    if class_names is not None and model.outputs[0].shape[1:] == (len(class_names),):
        difference = find_class_difference(source, class_names)
    if difference is None:
        return copy_all(model, source, architecture, "source")
    head = {name: model.get_layer(name).get_weights() for name in head_names(model)}
    skipped = copy_all(model, source, architecture, "source")
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


def copy_all(model: keras.Model, source: str | Path, architecture: str, option: str) -> set[str]:
    """Copy all weights that fit from a source of `transfer_weights`. Messages call it `option`.

    Issues a `DataWarning` if layers start from scratch or a kernel is summed.

    Returns:
        The names of the layers that start from scratch.
    """
    path = find_file(model, source, architecture, option)
    kind = detect_kind(path)
    if kind in (SAFETENSORS, TORCH):
        skipped, summed = copy_tensors(model, path, source)
    elif kind == KERAS:
        skipped, summed = copy_weights(model, load_keras(path), path)
    else:
        load_keras_weights(model, path, kind)
        skipped, summed = set(), set()
    heads_first = sorted(skipped, key=lambda name: (name.startswith(AUXILIARY_PREFIX), name))
    names = {
        "layers from scratch": heads_first,
        "kernel summed over red, green and blue": list(summed),
    }
    if changes := [f"{title}: {join_first(some, 3)}" for title, some in names.items() if some]:
        warnings.warn(
            f"{model.name} with weights from {source}: {'; '.join(changes)}.",
            DataWarning,
            stacklevel=3,
        )
    return skipped


def find_file(model: keras.Model, source: str | Path, architecture: str, option: str) -> Path:
    """Return the path of a weights file. Download a published one after checks that it fits."""
    if is_hub_name(source):
        return download_from_hub(model, source)
    if is_published(source):
        check_fits_published(model, source, architecture)
        return download(source, architecture)
    return find_weights_file(option, source)


def copy_tensors(model: keras.Model, path: Path, source: str | Path) -> tuple[set[str], set[str]]:
    """Copy the tensors of a PyTorch file into a model. Messages name it `source`.

    Returns:
        The names of the layers that start from scratch, and of those with a summed kernel.
    """
    tensors = read_tensors(model, path)
    bias, gray = tensors.get("fc.bias", np.empty(0)), model.input_shape[-1] == 1
    other_head = not has_head(model) or (bias.ndim == 1 and len(bias) != model.outputs[0].shape[-1])
    assign_tensors(model, tensors, source, skip_head=other_head, sum_channels=gray)
    skipped = {layer.name for layer in model.layers if layer.name.startswith(AUXILIARY_PREFIX)}
    skipped |= head_names(model) if has_head(model) and other_head else set()
    first = next(layer.name for layer in model.layers if hasattr(layer, "kernel"))
    kernel = tensors[torchvision_name(first, "kernel", choose_names(model))]
    summed = {first} if gray and kernel.shape[1] == 3 else set()
    return {name for name in skipped if model.get_layer(name).weights}, summed


def copy_weights(
    model: keras.Model, other: keras.Model, path: str | Path
) -> tuple[set[str], set[str]]:
    """Copy weights between layers of the same name.

    Returns:
        The names of the layers that start from scratch, and of those with a summed kernel.

    Raises:
        InputError: Layers differ that are not in a head.
    """
    theirs, ours = get_compared_layers(other), get_compared_layers(model)
    head, other_head = head_names(model), head_names(other)
    skipped, summed, missing, misshapen, values = set(), set(), [], [], {}
    for name, layer in ours.items():
        arrays = theirs[name].get_weights() if name in theirs else None
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if arrays and model.input_shape[-1] == 1 and is_for_rgb(arrays[0].shape, shapes[0]):
            arrays[0] = arrays[0].sum(axis=2, keepdims=True)
            summed.add(name)
        if arrays is not None and [array.shape for array in arrays] == shapes:
            values[layer] = arrays
        elif name.startswith(AUXILIARY_PREFIX) or (
            name in head and (name in other_head or arrays is None)
        ):
            skipped.add(name)
        elif arrays is None:
            missing.append(name)
        else:
            misshapen.append(f"{name} is {arrays[0].shape} and not {shapes[0]}")
    unexpected = [
        name
        for name in theirs
        if name not in ours and name not in other_head and not name.startswith(AUXILIARY_PREFIX)
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
    return skipped, summed


def is_for_rgb(shape: Sequence[int], gray: Sequence[int]) -> bool:
    """Return whether a kernel is for RGB images, and otherwise has a shape for grayscale images."""
    return len(shape) == 4 and shape[2] == 3 and (*shape[:2], 1, shape[3]) == tuple(gray)


def list_normalization_differences(model: keras.Model, other: keras.Model) -> list[str]:
    """Return the difference between the normalizations of two models, as zero or one texts."""
    if not all(
        any(layer.name == "normalize" for layer in network.layers) for network in (model, other)
    ):
        return []
    ours, theirs = get_normalization(model), get_normalization(other)
    if is_close(ours, fit_normalization(theirs, len(ours.mean))):
        return []
    return [f"normalization is {describe(theirs)} and not {describe(ours)}"]


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
    source: str | Path, class_names: Sequence[str] | None
) -> tuple[int, str, str] | None:
    """Return the first difference between the class names of a weights file and `class_names`.

    It is (index, name in the file, name in `class_names`), or None if there is no difference or
    either names are unknown.
    """
    labels = None if class_names is None else find_class_names(source)
    if class_names is None or labels is None:
        return None
    return first_difference(labels, class_names)


def find_class_names(source: str | Path) -> Sequence[str] | None:
    """Return the class names of a source of weights, or None if they are unknown."""
    if is_published(source):
        return PUBLISHED[source].class_names
    if is_hub_name(source):
        return None
    path = find_weights_file("weights", source)
    labels = read_packed_labels(path) if detect_kind(path) == KERAS else None
    if labels is None and (file := find_in_run(path, LABELS)):
        labels = read_labels(file)
    return labels
