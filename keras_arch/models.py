"""What holds for any Keras classifier, whoever built it."""

import re

import numpy as np

from .errors import InputError
from .text import brief, shorten

SCOPE = r"[A-Za-z0-9_.\\/>-]*"  # names of layers that TensorFlow can trace
ROUNDING = 1e-3  # by which a probability, or the sum of an image's probabilities, may be off


def check_model(model):
    """Raise InputError unless `model` is a `keras.Model` with inputs and outputs."""
    import keras

    if not isinstance(model, keras.Model) or not hasattr(model, "outputs"):
        raise InputError(
            f"`model` must be a functional or a built Sequential `keras.Model`. Received: {type(model).__name__}. Build "
            "it with keras_arch.build."
        )


def are_probabilities(outputs):
    """Return whether the outputs of a classifier are probabilities, not logits or independent scores.

    Args:
        outputs: array (images, classes) of what the model computes for some images.

    Returns:
        True if every number is between 0 and 1 and each row sums to 1, both to rounding.
    """
    outputs = np.asarray(outputs, "float64")
    inside = (outputs >= -ROUNDING) & (outputs <= 1 + ROUNDING)
    return bool(inside.all() and np.allclose(outputs.sum(axis=-1), 1, rtol=0, atol=ROUNDING))


def plain_model(model, name="classifier"):
    """Return the same classifier, sharing all layers, in the form that TensorFlow can trace and that every caller knows.

    Its one image is no list or dict, and neither is its only output; several are a list.

    Args:
        model: a functional `keras.Model` of one image.
        name: of the new model. TensorFlow cannot trace models with names such as "modèle".

    Raises:
        InputError (a ValueError): the model has several inputs, or a layer whose name TensorFlow cannot trace.
    """
    import keras

    if len(model.inputs) != 1:
        raise InputError(
            f"{shorten(model.name)} must have one input, the image. Received: {len(model.inputs)} inputs: "
            f"{shorten(', '.join(image.name for image in model.inputs[:5]), 60)}. Build a model that takes the image alone."
        )
    names = [layer.name for layer in all_layers(model) if not re.fullmatch(SCOPE, layer.name)]
    if names:
        raise InputError(
            "Names of layers must be letters A-Z, digits and _ . - / for TensorFlow to trace them. "
            f"Received: {brief(names[0])}. Rename the layer and copy the weights."
        )
    outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
    return keras.Model(model.inputs[0], outputs, name=name)


def all_layers(model):
    """Yield every layer of a model, each nested model followed by its layers."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from all_layers(layer)


def layer_of(tensor):
    """Return the layer that computes a symbolic tensor. It may be inside a nested model."""
    layer, _, index = tensor._keras_history
    return layer_of(layer.outputs[index]) if hasattr(layer, "layers") and hasattr(layer, "outputs") else layer


def check_backend(function):
    """Raise InputError unless Keras runs on TensorFlow.

    Args:
        function: name of the public function that needs TensorFlow, for the message.
    """
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        raise InputError(
            f"`{function}` needs Keras on TensorFlow. Received: the backend {backend}. Save the model, set "
            "KERAS_BACKEND=tensorflow before Keras is imported, and load it again."
        )
