"""Parameters, multiply-adds and activations of a model, computed from its graph."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import keras
from keras import layers

from ..errors import InputError, first_line
from ..keras_private import Call, Shape, calls_of
from ..models import check_model
from ..text import brief, shorten

# The beginning of a layer's name, such as stage2_block1, inception_3a and expanded_conv_4.
STAGE = re.compile(
    r"(?:stem|final|(?:[a-z]+_)*?[a-z]+(?:\d+|_\d+[a-z]?))(?=_|$)"
    r"|block\d+(?=[a-z]_)"  # block2a_expand_conv of EfficientNet
)
# Layers that multiply each value of their kernels once for each output pixel.
PER_OUTPUT_PIXEL = {
    *(layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
}
PER_INPUT_PIXEL = {layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose}
# Layers and operations of `keras.ops` that multiply and have no kernel.
PRODUCTS = {
    *("Attention", "AdditiveAttention", "Dot", "DotProductAttention", "Einsum", "Matmul"),
    *("Tensordot", "Conv", "ConvTranspose", "DepthwiseConv", "SeparableConv"),
}


class LayerCost(NamedTuple):
    """The cost of one layer for one image.

    Attributes:
        name: Name of the layer. A nested model is one layer with the sums of its layers.
        kind: Class of the layer, such as "Conv2D".
        output_shape: (height, width, channels), or (channels,).
        parameters: Number of parameters that training learns. Moving statistics of batch norm are
            not counted, as in the papers.
        multiply_adds: Number of multiplications with their additions. Biases, normalization and
            pools count 0.
        activations: Number of output values.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activations: int

    @property
    def stage(self) -> str:
        """The stage in the layer's name, or the name if it has none.

        A stage is "stem", "final" or a word with a number, such as "stage2" or "inception_3a".
        """
        part = STAGE.match(self.name)
        return part[0] if part else self.name


@dataclass(frozen=True)
class Cost:
    """The cost of a model for one image.

    Attributes:
        name: Name of the model.
        layers: The cost of each layer, in the order of the model.
    """

    name: str
    layers: tuple[LayerCost, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of all layers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-adds of all layers."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activations(self) -> int:
        """Number of output values of all layers."""
        return sum(layer.activations for layer in self.layers)

    def by_stage(self) -> "Cost":
        """Return the sums of each stage, in the order of the model."""
        stages: dict[str, list[LayerCost]] = {}
        for layer in self.layers:
            stages.setdefault(layer.stage, []).append(layer)
        rows = tuple(
            LayerCost(
                stage,
                f"{len(rows)} layers",
                rows[-1].output_shape,
                sum(row.parameters for row in rows),
                sum(row.multiply_adds for row in rows),
                sum(row.activations for row in rows),
            )
            for stage, rows in stages.items()
        )
        return Cost(self.name, rows)


def cost(model: keras.Model, input_shape: Sequence[int] | None = None) -> Cost:
    """Count the parameters, multiply-adds and activations of a model for one image.

    The model is not run. A layer that is called several times counts several times.

    Args:
        model: A functional or a built Sequential `keras.Model`, such as one of
            `keras.applications`.
        input_shape: (height, width, channels) in pixels. Required if the image size of the model
            is open.

    Returns:
        A `Cost` with the sums `parameters`, `multiply_adds` and `activations`, a `LayerCost` for
        each layer in `layers`, and the method `by_stage()`.

    Raises:
        InputError (a ValueError): The image size is open, `input_shape` does not fit the model, or
            a layer or operation is neither a convolution nor Dense or EinsumDense, but multiplies:
            attention, recurrent layers, `keras.ops.matmul`.

    Example:
        keras_arch.cost(keras_arch.ResNet50()).multiply_adds  # 4,089,184,256
        mobile = keras.applications.MobileNetV3Small(weights=None)  # any image size
        keras_arch.cost(mobile, (224, 224, 3)).multiply_adds
    """
    check_model(model)
    shapes = input_shapes(model, input_shape)
    try:
        rows = count_layers(model, shapes)
    except InputError:
        raise
    except Exception as error:  # each layer raises its own
        raise InputError(
            "`input_shape` must be a size that the layers can take. "
            f"Received: {shapes[0][1:]}: {shorten(first_line(error), 120)}. Pass a larger size."
        ) from error
    return Cost(model.name, tuple(rows))


def input_shapes(model: keras.Model, input_shape: Sequence[int] | None) -> list[Shape]:
    """Return the shapes of a model's inputs with the batch, of the size `input_shape`."""
    shapes = [tuple(image.shape) for image in model.inputs]
    if input_shape is None:
        for shape in shapes:
            if None in shape[1:]:
                raise InputError(
                    f"`model` must have a fixed image size. Received: image shape {shape[1:]}. "
                    "Pass `input_shape`, such as (224, 224, 3)."
                )
        return shapes
    sides = tuple(input_shape) if isinstance(input_shape, (tuple, list)) else ()
    if (
        len(shapes) != 1
        or len(sides) != len(shapes[0]) - 1
        or not all(type(side) is int and 0 < side < 2**31 for side in sides)
        or any(own not in (None, side) for own, side in zip(shapes[0][1:], sides, strict=True))
    ):
        raise InputError(
            "`input_shape` must be (height, width, channels) of integers and fit the model's image "
            f"shape {shapes[0][1:]}. Received: {brief(input_shape)}. Pass such a shape."
        )
    return [(None, *sides)]


def count_layers(model: keras.Model, shapes: list[Shape]) -> list[LayerCost]:
    """Return the cost of each layer of a model for inputs of the shapes `shapes`."""
    calls: dict[int, list[Call]] = {id(layer): [] for layer in model.layers}
    for call in calls_of(model, shapes):
        if type(call.operation).__name__ in PRODUCTS:
            refuse(call.operation)
        calls.setdefault(id(call.operation), []).append(call)
    return [count_layer(layer, calls[id(layer)]) for layer in model.layers]


def count_layer(layer: keras.layers.Layer, calls: list[Call]) -> LayerCost:
    """Return the cost of a layer.

    Args:
        layer: The layer.
        calls: All calls of the layer in the model.
    """
    shape = calls[0].outputs[0][1:]
    if None in shape:
        raise InputError(
            f"`model` must have a fixed image size. "
            f"Received: output shape {shape} of {brief(layer.name)}. Replace the layer."
        )
    counts = [count_call(call) for call in calls]
    multiply_adds, activations = (sum(column) for column in zip(*counts, strict=True))
    parameters = count_parameters(layer)
    return LayerCost(
        layer.name, type(layer).__name__, shape, parameters, multiply_adds, activations
    )


def count_parameters(layer: keras.layers.Layer) -> int:
    """Count weights without statistics and random seeds. Frozen weights are included."""
    if is_nested(layer):
        return sum(count_parameters(inner) for inner in layer.layers)
    if isinstance(layer, layers.Normalization):  # the mean and variance of the data
        return 0
    learned = [
        variable for variable in layer.weights if not variable.name.startswith(("moving_", "seed_"))
    ]
    return sum(math.prod(variable.shape) for variable in learned)


def count_call(call: Call) -> tuple[int, int]:
    """Return the multiply-adds and the activations of one call of a layer or nested model."""
    if is_nested(call.operation):
        rows = count_layers(call.operation, call.inputs)
        return sum(row.multiply_adds for row in rows), sum(row.activations for row in rows)
    return count_multiply_adds(call), sum(math.prod(shape[1:]) for shape in call.outputs)


def is_nested(layer: keras.Operation) -> bool:
    """Return whether a layer is a functional or Sequential model, whose layers are known."""
    return isinstance(layer, keras.Model) and hasattr(layer, "outputs")


def count_multiply_adds(call: Call) -> int:
    """Count one multiply-add per kernel value and pixel. Layers without kernels count 0.

    The kernel of a convolution in groups already has the input channels of one group.
    """
    layer = call.operation
    kernels = [weight for weight in getattr(layer, "weights", ()) if weight.path.endswith("kernel")]
    size = sum(math.prod(kernel.shape) for kernel in kernels)
    if type(layer) in PER_OUTPUT_PIXEL:
        return size * count_pixels(layer, call.outputs[0])
    if type(layer) in PER_INPUT_PIXEL:
        return size * count_pixels(layer, call.inputs[0])
    if type(layer) is layers.EinsumDense:
        return size * count_einsum_rows(layer, call.inputs[0])
    if kernels:
        refuse(layer)
    return 0


def count_pixels(layer: keras.layers.Layer, shape: Shape) -> int:
    """Return the number of pixels in a shape (batch, ..., channels) or (batch, channels, ...)."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return math.prod(shape[2:] if first else shape[1:-1])


def count_einsum_rows(layer: layers.EinsumDense, shape: Shape) -> int:
    """Return how often EinsumDense multiplies each value of its kernel for an input `shape`."""
    inputs, kernel = layer.equation.split("->")[0].split(",")
    contracted = [
        side for letter, side in zip(kernel, layer.kernel.shape, strict=True) if letter in inputs
    ]
    return math.prod(shape[1:]) // math.prod(contracted)


def refuse(operation: keras.Operation) -> None:
    """Raise InputError for a layer or operation whose multiply-adds `cost` cannot count."""
    raise InputError(
        "`cost` counts convolutions, Dense and EinsumDense. "
        f"Received: {brief(operation.name)} ({type(operation).__name__}), which multiplies in "
        "another way. Replace the layer."
    )
