"""Divide the logits of a Keras classifier by a temperature, in the weights of a layer.

No layer is added, so every file of the model, also an integer one, has the calibrated
probabilities.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
from keras import activations, layers

from ..errors import InputError
from ..keras_private import input_tensors, operation_of, output_index
from ..models import layer_of, plain_model, strip_auxiliary_heads
from ..text import shorten

# Layers with f(x / t) = f(x) / t, so that the temperature can be applied before them.
HOMOGENEOUS = (
    *(layers.Flatten, layers.Reshape, layers.Permute, layers.LeakyReLU),
    *(layers.Dropout, layers.SpatialDropout2D, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.AveragePooling2D, layers.GlobalAveragePooling2D),
    *(layers.MaxPooling2D, layers.GlobalMaxPooling2D),
)
HOMOGENEOUS_ACTIVATIONS = (activations.linear, activations.relu, activations.leaky_relu)
# {layers: the weights that scale the output}
SCALED = {
    (layers.Dense, layers.Conv2D): ("kernel", "bias"),
    (layers.BatchNormalization,): ("gamma", "beta"),
}


def copy_model(model: keras.Model) -> keras.Model:
    """Return a copy of a classifier, without auxiliary classifiers. Weights are copied.

    Raises:
        InputError (a ValueError): the model does not have one image as input and one output.
    """
    model = plain_model(strip_auxiliary_heads(model), model.name)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


@contextmanager
def without_softmax(model: keras.Model) -> Iterator[keras.Model]:
    """Yield a model of the logits. It shares all layers with `model`.

    The softmax is an activation, a layer or an operation. An activation is linear in the block.

    Raises:
        InputError (a ValueError): the model does not end in a softmax over the classes.
    """
    output = model.outputs[0]
    last = layer_of(output)
    if getattr(last, "activation", None) is activations.softmax:
        last.activation = activations.linear
        try:
            yield keras.Model(model.inputs[0], output, name=model.name)
        finally:
            last.activation = activations.softmax
    elif last is operation_of(output) and is_softmax(last):
        (logits,) = input_tensors(output)
        yield keras.Model(model.inputs[0], logits, name=model.name)
    else:
        raise InputError(
            f"{shorten(model.name)} must end in a softmax, whose temperature is fitted. Received: "
            f"the layer {shorten(last.name)} ({type(last).__name__}). Train the model with a "
            "softmax."
        )


def is_softmax(operation: keras.Operation) -> bool:
    """Return whether an operation or layer is a softmax over the last axis of (batch, classes)."""
    return type(operation).__name__ == "Softmax" and operation.axis in (-1, 1)


def find_scaled_layers(logits: keras.KerasTensor) -> list[keras.Operation]:
    """Return the layer whose weights scale symbolic logits, and the layers after it.

    The layer may be inside a nested model.

    Raises:
        InputError (a ValueError): another kind of layer is in between.
    """
    operation = operation_of(logits)
    if hasattr(operation, "layers") and hasattr(operation, "outputs"):
        return find_scaled_layers(operation.outputs[output_index(logits)])
    if scaled_weights(operation) and is_homogeneous(operation):
        return [operation]
    sources = input_tensors(logits)
    if len(sources) == 1 and is_homogeneous(operation):
        return [*find_scaled_layers(sources[0]), operation]
    raise InputError(
        "The logits must come from a Dense, Conv2D or BatchNormalization layer, directly or through "
        f"pooling, ReLU and Flatten. Received: {shorten(operation.name)} "
        f"({type(operation).__name__}). End the model with a Dense layer."
    )


def is_homogeneous(operation: keras.Operation) -> bool:
    """Return whether dividing the input, or the weights, divides the output by the same number."""
    if isinstance(operation, layers.ReLU):
        return operation.max_value is None and not operation.threshold
    if hasattr(operation, "activation"):  # also of a Dense or Conv2D layer
        return operation.activation in HOMOGENEOUS_ACTIVATIONS
    return isinstance(operation, HOMOGENEOUS) or bool(scaled_weights(operation))


def scaled_weights(operation: keras.Operation) -> list[keras.Variable]:
    """Return the weights of a layer that scale its output. An empty list: it has none."""
    for kinds, names in SCALED.items():
        first, second = (getattr(operation, name, None) for name in names)
        if isinstance(operation, kinds) and first is not None:
            return [first] if second is None else [first, second]
    return []


def scale_layer(layer: keras.layers.Layer, temperature: float) -> None:
    """Divide the output of a layer by a temperature."""
    for weight in scaled_weights(layer):
        weight.assign(weight / temperature)
