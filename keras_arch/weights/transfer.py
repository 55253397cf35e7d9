"""Load weights into a model from a file of any kind."""

import warnings

import numpy as np

from ..class_names import LABELS, first_difference, read_labels
from ..errors import DataWarning, InputError, first_line
from ..files import find_in_run, link_with_suffix
from ..models import check_model, head_names, load_keras
from ..text import brief
from .files import (
    KERAS,
    SAFETENSORS,
    TORCH,
    TRAINING_HEADS,
    detect_kind,
    differences,
    find_weights_file,
    has_head,
    is_published,
)
from .torchvision import (
    assign_tensors,
    check_shortcuts,
    download_for,
    format_numbers,
    load_torchvision_weights,
    normalization_of,
    read_tensors,
)


def load_weights(model, weights, architecture):
    """What a builder's `weights` argument does: load into `model`, or leave it as it was and say why not.

    Args:
        model: a model that a builder of ours made, under whatever name.
        architecture: what `keras_arch.build` calls it.
        weights: "imagenet" for torchvision's checkpoint, downloaded once into Keras's cache; or a file: .weights.h5 or
            .keras of such a model, .safetensors or .pth of torchvision's. The contents count, whatever the suffix. Names
            of classes are not compared; `transfer_weights` compares them.

    Raises:
        InputError (a ValueError): no such file or checkpoint, no network, damaged, or made for another model.
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


def transfer_weights(model, source, architecture, class_names=None):
    """Begin where another training ended: the weights of `source`, all but those of a head for other classes.

    Issues a `DataWarning` if the head of `source` has as many classes but starts from scratch.

    Args:
        model: a model that a builder of ours made.
        source: a run folder that scripts/train.py wrote; a .keras file of such a model, with any number of classes;
            "imagenet" for torchvision's checkpoint, or a .safetensors or .pth file of it; or a .weights.h5 file of a
            model with the same classes.
        architecture: what `keras_arch.build` calls it.
        class_names: those of the model, in the order of its outputs. The head starts from scratch if the labels.txt in the
            run of `source` has others, or the same in another order. Without these names or that file, only the numbers
            of classes are compared.

    Returns:
        Names of the layers that start anew: none, or those of the head and of training heads.

    Raises:
        InputError (a ValueError): no such source, damaged, or of another network; the model is as it was.
    """
    check_model(model)
    path = source if is_published(source) else find_weights_file("source", source)
    difference = class_difference(path, class_names)
    head = (
        {}
        if difference is None
        else {name: model.get_layer(name).get_weights() for name in head_names(model)}
    )
    anew = copy_all(model, path, architecture)
    for name, arrays in head.items():
        model.get_layer(name).set_weights(arrays)
    if taken := head.keys() - anew:
        number, theirs, ours = difference
        warnings.warn(
            f"Class {number} of {source} is {brief(theirs)} and not {brief(ours)}. The head starts from scratch: "
            f"{', '.join(sorted(taken))}",
            DataWarning,
            stacklevel=2,
        )
    return anew | head.keys()


def copy_weights(model, other, path):
    """Copy the weights of layers of the same name; the head may differ, the rest may not."""
    head, theirs, ours = head_names(model), layers_that_matter(other), layers_that_matter(model)
    anew, missing, misshapen, values = set(), [], [], {}
    for name, layer in ours.items():
        found = [weight.shape for weight in theirs[name].weights] if name in theirs else None
        if found == [weight.shape for weight in layer.weights]:
            values[layer] = theirs[name].get_weights()
        elif name in head or name.startswith(TRAINING_HEADS):
            anew.add(name)
        elif found:
            misshapen.append(f"{name} is {found[0]} and not {layer.weights[0].shape}")
        else:
            missing.append(name)
    unexpected = [
        name for name in theirs if name not in ours and not name.startswith(TRAINING_HEADS)
    ]
    if problems := [
        *differences(missing, unexpected, misshapen),
        *different_normalization(model, other),
    ]:
        raise InputError(
            f"The layers in {path} do not fit {model.name}. Received: {'; '.join(problems)}."
        )
    for layer, arrays in values.items():
        layer.set_weights(arrays)
    return anew


def different_normalization(model, other):
    """What is wrong with taking the weights of `other`, as a list of none or one: it normalizes images otherwise."""
    if not all(
        any(layer.name == "normalise" for layer in network.layers) for network in (model, other)
    ):
        return []
    ours, theirs = normalization_of(model), normalization_of(other)
    if np.allclose(ours.mean, theirs.mean, atol=1e-6) and np.allclose(
        ours.std, theirs.std, atol=1e-6
    ):
        return []
    return [
        f"normalization is mean={format_numbers(theirs.mean)}, std={format_numbers(theirs.std)} and not "
        f"mean={format_numbers(ours.mean)}, std={format_numbers(ours.std)}"
    ]


def check_same_network(model, other, path):
    """Raise InputError unless branches meet in the same places, and images are normalized by the same numbers.

    Keras pairs weights by their order, and a plain network has those of a residual one.
    """
    meeting, expected = (
        {layer.name for layer in net.layers if isinstance(layer.input, list)}
        for net in (other, model)
    )
    problems = [f"{name} is missing" for name in sorted(expected - meeting)]
    problems += [f"{name} is unexpected" for name in sorted(meeting - expected)]
    problems += different_normalization(model, other)
    if problems:
        raise InputError(
            f"{path} holds the weights of another network than {model.name}. Received: {problems[0]}."
        )


def layers_that_matter(model):
    """By name, the layers with weights, and those where branches meet: without them a plain network looks like a ResNet."""
    return {
        layer.name: layer
        for layer in model.layers
        if layer.weights or isinstance(layer.input, list)
    }


def load_keras_weights(model, path, kind):
    """Load a file of Keras into `model`, or leave the model as it was and say why not."""
    before = model.get_weights()
    try:
        with warnings.catch_warnings(), link_with_suffix(path, kind) as file:
            warnings.simplefilter(
                "error", UserWarning
            )  # Keras only warns when layers of the model are not in the file
            model.load_weights(file)
    except Exception as error:  # a damaged file raises whatever its bytes happen to mean
        model.set_weights(before)
        raise InputError(
            f"expected weights saved by a {model.name} with output {model.output_shape}, got {path}: "
            f"{first_line(error)}"
        ) from error


def class_difference(path, class_names):
    """The first class of a weights file that is called otherwise than in `class_names`, as `first_difference` gives it.

    None if there is none, or if either names are unknown.
    """
    labels = None if is_published(path) else find_in_run(path, LABELS)
    return (
        None
        if labels is None or class_names is None
        else first_difference(read_labels(labels), class_names)
    )


def copy_all(model, path, architecture):
    """Copy all weights whose shapes fit, from "imagenet" or a file, and return the names of the layers that start anew."""
    kind = TORCH if is_published(path) else detect_kind(path)
    if kind in (SAFETENSORS, TORCH):
        check_shortcuts(model, path)
        tensors = read_tensors(
            download_for(model, architecture, fits_any=True) if is_published(path) else path
        )
        anew = (
            head_names(model)
            if len(tensors.get("fc.bias", ())) != model.outputs[0].shape[-1]
            else set()
        )
        assign_tensors(
            model, tensors, path, skip_head=bool(anew), sum_channels=model.input_shape[-1] == 1
        )
        return anew | {
            layer.name
            for layer in model.layers
            if layer.weights and layer.name.startswith(TRAINING_HEADS)
        }
    if kind == KERAS:
        return copy_weights(model, load_keras(path), path)
    load_keras_weights(model, path, kind)
    return set()
