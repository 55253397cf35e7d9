"""Copy a model so that it computes with the rounding of an int8 file.

The copy has a `FakeQuantization` after each operator of the file. The converter fuses a batch norm
and a ReLU into the operator before them, so they get no rounding of their own. Batch norm uses its
moving statistics in training, too: only then do its weights fold into those of the convolution
(Krishnamoorthi 2018, arXiv:1806.08342, section 3.2.2).
"""

import math

import keras
import numpy as np
from keras import layers

from ..errors import InputError
from ..keras_private import operation_of, readers_of
from ..text import brief, shorten
from .layers import (
    FakeQuantization,
    FoldedBatchNormalization,
    Neighbors,
    QuantizedBatchNormalization,
    QuantizedConv2D,
    QuantizedDense,
    QuantizedDepthwiseConv2D,
    RoundedProduct,
    RoundedSum,
    RoundedWeights,
    is_range,
)

PIXELS = (0.0, 255.0)
WEIGHTED = {
    layers.Conv2D: QuantizedConv2D,
    layers.DepthwiseConv2D: QuantizedDepthwiseConv2D,
    layers.Dense: QuantizedDense,
}
# Layers whose output has the range of their input.
SAME_RANGE = (
    *(layers.AveragePooling2D, layers.MaxPooling2D, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.Flatten, layers.Reshape, layers.Dropout, layers.SpatialDropout2D),
)
MERGES = (layers.Add, layers.Subtract, layers.Multiply)
ACTIVATIONS = (layers.ReLU, layers.Activation, layers.Softmax)
OTHERS = (
    *(layers.InputLayer, layers.Rescaling, layers.BatchNormalization, layers.Concatenate),
    *(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D),
)
# Activations that are an operator of their own, and the range of its output. The runtime fixes it.
OPERATORS = {"softmax": None, "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}
FUSED = ("relu", "relu6")


def check_quantizable(model: keras.Model) -> None:
    """Raise InputError unless each layer of a model has an int8 operator that training simulates.

    Args:
        model: a functional `keras.Model`.
    """
    known = (*WEIGHTED, *SAME_RANGE, *MERGES, *ACTIVATIONS, *OTHERS)
    calls: dict[str, int] = {}
    for operation, _ in readers_of(model):
        calls[operation.name] = calls.get(operation.name, 0) + 1
        activation = activation_of(operation)
        kind = type(operation).__name__
        if type(operation) not in known:
            received = kind
        elif activation not in ("linear", *FUSED, *OPERATORS):
            received = f"{kind} with the activation {activation}"
        elif kind == "Conv2D" and operation.data_format == "channels_first":
            received = f"{kind} with channels_first"
        elif isinstance(operation, layers.BatchNormalization) and not is_over_channels(operation):
            received = f"{kind} of axis {operation.axis}"
        elif calls[operation.name] > 1:
            received = f"{kind} that is called twice"
        else:
            continue
        raise InputError(
            "int8 cannot be simulated for a layer of the model. Received: "
            f"{shorten(operation.name)}, {received}. Calibrate the int8 file: train without "
            "`quantize_aware` (--quantize-aware), or export without `ranges`."
        )


def is_over_channels(norm: layers.BatchNormalization) -> bool:
    """Return whether a batch norm has an average for each channel of an image."""
    return norm.axis in (-1, 3) and not norm.renorm


def activation_of(operation: keras.Operation) -> str:
    """Return the name of an operation's activation, "linear" if it has none."""
    if isinstance(operation, layers.ReLU):
        if operation.negative_slope or operation.threshold:
            return "leaky_relu"
        return {None: "relu", 6: "relu6"}.get(operation.max_value, "relu with another maximum")
    if isinstance(operation, layers.Softmax):
        return "softmax"
    activation = getattr(operation, "activation", None)
    if isinstance(activation, (layers.ReLU, layers.Softmax)):
        return activation_of(activation)
    if activation is None:
        return "linear"
    known = {getattr(keras.activations, name): name for name in ("linear", *FUSED, *OPERATORS)}
    return known.get(activation) or f"{getattr(activation, '__name__', activation)} (unknown)"


def quantized_copy(
    model: keras.Model, ranges: dict[str, tuple[float, float]] | None = None
) -> keras.Model:
    """Copy a model so that it computes with the rounding of an int8 file.

    Args:
        model: a functional `keras.Model` that `check_quantizable` accepts. It may also contain
            such copies, which stay as they are.
        ranges: {layer of the copy: (minimum, maximum)}, as `ranges_of` returns. None: the ranges
            must be trained.

    Returns:
        A `keras.Model` in float32. `plain_weights` are its weights without the ranges.

    Raises:
        InputError (a ValueError): a range is missing.
    """
    readers = dict(readers_of(model))
    folded = {  # {batch norm: the operation that computes it}
        after[0].name: operation.name
        for operation, after in readers.items()
        if folds(operation, after)
    }

    def clone(operation: keras.Operation) -> keras.Operation:
        if isinstance(operation, keras.Model):
            return operation
        kind, config = type(operation), operation.get_config()
        if kind in WEIGHTED:
            config["activation"] = "linear"  # `call` applies it
            kind = WEIGHTED[kind]
        elif kind is layers.BatchNormalization:
            is_folded = operation.name in folded
            kind = FoldedBatchNormalization if is_folded else QuantizedBatchNormalization
        return kind.from_config({**config, "dtype": "float32"})

    originals = {operation.name: operation for operation in readers}

    def call(operation: keras.Operation, x, **options):
        original = originals[operation.name]
        x = keras.tree.map_structure(round_pixels, x)
        if isinstance(operation, layers.Rescaling):
            x = rescale(operation, x)
        else:
            x = operation(x, **options)
        if type(original) in WEIGHTED:
            x = activate(original, x)
        if (needed := range_after(original, readers[original])) is not None:
            x = FakeQuantization(name=f"{operation.name}_range", **needed)(x)
        return x

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    copy.output_names = list(model.output_names)  # of the history; the activations have others
    norms = {operation: copy.get_layer(norm) for norm, operation in folded.items()}
    for layer in copy.layers:
        if isinstance(layer, RoundedWeights):
            layer.neighbors = Neighbors(source_of(layer.input), norms.get(layer.name))
    # Keras may rename the input.
    copy.plain_layers = tuple(layer.name for layer in model.layers if layer.variables)
    for name in copy.plain_layers:
        if copy.get_layer(name) is not model.get_layer(name):  # not a copy in the model
            copy_weights(model.get_layer(name), copy.get_layer(name))
    if ranges is not None:
        assign_ranges(copy, ranges)
    return copy


def round_pixels(x: keras.KerasTensor) -> keras.KerasTensor:
    """Round a tensor if it is the image, whose pixels are integers in the file."""
    is_image = isinstance(operation_of(x), layers.InputLayer)
    return FakeQuantization(PIXELS)(x) if is_image else x


def source_of(tensor: keras.KerasTensor) -> FakeQuantization | None:
    """Return the layer that rounds a tensor, or None for a softmax or a sigmoid."""
    operation = operation_of(tensor)
    if isinstance(operation, SAME_RANGE):
        return source_of(operation.input)
    return operation if isinstance(operation, FakeQuantization) else None


def folds(operation: keras.Operation, readers: list[keras.Operation]) -> bool:
    """Return whether the converter folds the reader of an operation into its weights."""
    return (
        type(operation) in WEIGHTED
        and activation_of(operation) == "linear"
        and [type(one) for one in readers] == [layers.BatchNormalization]
    )


def range_after(operation: keras.Operation, readers: list[keras.Operation]):
    """Return the arguments of the `FakeQuantization` after an operation, or None for no rounding.

    Args:
        operation: operation of the original model.
        readers: operations that read its output, with None for an output of the model.
    """
    activation = activation_of(operation)
    if isinstance(operation, (*SAME_RANGE, keras.Model)) or activation == "softmax":
        return None
    if activation in OPERATORS:
        return {"fixed": OPERATORS[activation]}
    kinds = [type(one) for one in readers]
    # The converter gives the inputs of a concatenation the range of its output.
    if kinds == [layers.Concatenate] or folds(operation, readers):
        return None
    has_fused = isinstance(operation, (*WEIGHTED, *MERGES, layers.BatchNormalization))
    if has_fused and activation == "linear" and len(readers) == 1 and is_fused(readers[0]):
        return None
    return {}


def is_fused(operation: keras.Operation | None) -> bool:
    """Return whether the operator before an activation computes it."""
    return isinstance(operation, ACTIVATIONS) and activation_of(operation) in FUSED


def activate(original: keras.Operation, x: keras.KerasTensor) -> keras.KerasTensor:
    """Apply the activation of a layer with weights."""
    activation = activation_of(original)
    if activation == "linear":
        return x
    if activation not in FUSED:
        x = FakeQuantization(name=f"{original.name}_sum_range")(x)
    return layers.Activation(activation, name=f"{original.name}_{activation}")(x)


def rescale(rescaling: layers.Rescaling, x: keras.KerasTensor) -> keras.KerasTensor:
    """Compute a product and a sum, which are two operators."""
    name = rescaling.name
    x = RoundedProduct(rescaling.scale, name=f"{name}_product")(x)
    if not np.any(rescaling.offset):
        return x
    x = FakeQuantization(name=f"{name}_product_range")(x)
    return RoundedSum(rescaling.offset, name=name)(x)


def range_layers(copy: keras.Model) -> list[FakeQuantization]:
    """Return the layers with moving ranges. A model that is not a copy has none."""
    found = (getattr(layer, "product", layer) for layer in copy.layers)
    return [one for one in found if isinstance(one, FakeQuantization) and one.fixed is None]


def range_variables(copy: keras.Model) -> list[keras.Variable]:
    """Return the variables of the moving ranges."""
    return [variable for layer in range_layers(copy) for variable in (layer.low, layer.high)]


def ranges_of(copy: keras.Model) -> dict[str, tuple[float, float]]:
    """Return the moving ranges of a copy, {layer: (minimum, maximum)}."""
    return {layer.name: (float(layer.low), float(layer.high)) for layer in range_layers(copy)}


def check_ranges(ranges: object) -> None:
    """Raise InputError unless ranges are a dict of pairs of finite numbers."""
    try:
        pairs = list(ranges.values())  # type: ignore[attr-defined]
        is_valid = all(low <= 0 <= high and high - low < math.inf for low, high in pairs)
    except (AttributeError, TypeError, ValueError):
        is_valid = False
    if not is_valid:
        raise InputError(
            "`ranges` must be {layer: (minimum, maximum)}, as `read_int8_ranges` returns. "
            f"Received: {brief(ranges)}."
        )


def assign_ranges(copy: keras.Model, ranges: dict[str, tuple[float, float]]) -> None:
    """Set the moving ranges of a copy. `ranges` may have more."""
    check_ranges(ranges)
    for layer in range_layers(copy):
        if layer.name not in ranges:
            raise InputError(
                f"The ranges of int8 must be those of the model. Received: none for {layer.name}. "
                "Train the model again."
            )
        layer.low.assign(ranges[layer.name][0])
        layer.high.assign(ranges[layer.name][1])


def copy_weights(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    """Assign the weights of a layer to its copy."""
    for variable, value in zip(without_ranges(copy.weights), layer.weights, strict=True):
        variable.assign(value)


def without_ranges(variables: list[keras.Variable]) -> list[keras.Variable]:
    return [variable for variable in variables if not is_range(variable)]


def plain_variables(copy: keras.Model) -> list[keras.Variable]:
    """Return the variables without those of ranges, in the order of the original model.

    The `FakeQuantization` layers change the order of the layers in a copy. Other models have no
    such layers.
    """
    names = getattr(copy, "plain_layers", None)
    if names is None:
        return copy.variables
    return [one for name in names for one in without_ranges(copy.get_layer(name).variables)]


def plain_weights(copy: keras.Model) -> list[np.ndarray]:
    """Return the weights of a copy for `original.set_weights`."""
    weights = {id(variable) for variable in copy.weights}
    return [
        keras.ops.convert_to_numpy(variable)
        for variable in plain_variables(copy)
        if id(variable) in weights  # not a random state
    ]
