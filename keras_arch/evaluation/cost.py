"""Parameters, multiply-adds and activations of a model, computed from its graph."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import keras
from keras import layers

from ..errors import InputError
from ..models import check_model

STAGE = re.compile(r"(stem|final|[a-z]+(?:\d+|_\d+[a-z]?))(_|$)")  # begins a layer's name


class LayerCost(NamedTuple):
    """The cost of one layer for one image.

    Attributes:
        name: Name of the layer.
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
        return part[1] if part else self.name


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


def cost(model: keras.Model) -> Cost:
    """Count the parameters, multiply-adds and activations of a model for one image.

    The model is not run.

    Args:
        model: A functional `keras.Model` with a fixed image size.

    Returns:
        A `Cost` with the sums `parameters`, `multiply_adds` and `activations`, a `LayerCost` for
        each layer in `layers`, and the method `by_stage()`.

    Raises:
        InputError (a ValueError): The image size is not fixed, or a layer with a kernel is not a
            Conv2D, DepthwiseConv2D or Dense layer.

    Example:
        keras_arch.cost(keras_arch.ResNet50()).multiply_adds  # 4,089,184,256
    """
    check_model(model)
    return Cost(model.name, tuple(count_layer(layer) for layer in model.layers))


def count_layer(layer: keras.layers.Layer) -> LayerCost:
    shape = tuple(layer.output.shape[1:])
    if None in shape:
        raise InputError(
            f"`model` must have a fixed image size. "
            f"Received: output shape {shape} of {layer.name}. "
            "Pass `input_shape` to the builder."
        )
    return LayerCost(
        layer.name,
        type(layer).__name__,
        shape,
        count_parameters(layer),
        count_multiply_adds(layer, shape),
        math.prod(shape),
    )


def count_parameters(layer: keras.layers.Layer) -> int:
    """Count weights without moving statistics and random seeds. Frozen weights are included."""
    learned = [
        variable for variable in layer.weights if not variable.name.startswith(("moving_", "seed_"))
    ]
    return sum(math.prod(variable.shape) for variable in learned)


def count_multiply_adds(layer: keras.layers.Layer, output_shape: tuple[int, ...]) -> int:
    """Count one multiply-add per kernel value and output pixel. Other layers count 0."""
    if isinstance(layer, keras.Model):
        return sum(
            count_multiply_adds(inner, tuple(inner.output.shape[1:])) for inner in layer.layers
        )
    if type(layer) in (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense):
        return math.prod(layer.kernel.shape) * math.prod(output_shape[:-1])
    if any(variable.path.endswith("kernel") for variable in layer.weights):
        kind = type(layer).__name__
        raise InputError(
            "Layers with kernels must be Conv2D, DepthwiseConv2D or Dense. "
            f"Received: {layer.name} ({kind}). Replace the layer."
        )
    return 0
