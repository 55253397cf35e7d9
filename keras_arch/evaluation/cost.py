"""What a model costs: parameters, multiplications and activations, a row a layer, from the graph alone."""

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

import keras
from keras import layers

from ..errors import InputError
from ..models import check_model


class LayerCost(NamedTuple):
    """One layer, for one image.

    Parameters are what training learns, as papers count them: not the moving statistics of batch norm. A multiply-add is
    one multiplication with its addition; biases, norms and pools count nothing.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activations: int  # values that come out

    @property
    def stage(self):
        """The part of the network that the layer's name begins with, or the layer itself where it is on its own."""
        part = re.match(r"(stem|stage\d+|inception_\w\w|auxiliary_\w\w|mlpconv\d)(_|$)", self.name)
        return part[1] if part else self.name


@dataclass(frozen=True)
class Cost:
    """The layers of a model and their sums."""

    name: str
    layers: tuple[LayerCost, ...]

    @property
    def parameters(self):
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self):
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def activations(self):
        return sum(layer.activations for layer in self.layers)

    def by_stage(self):
        """The same cost with the layers of each stage added up, in the order of the network."""
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


def cost(model):
    """Count what `model` costs for one image, without running it.

    Args:
        model: a functional `keras.Model` of fixed image size.

    Returns:
        A `Cost`: `.layers`, a `LayerCost` each, the sums `.parameters`, `.multiply_adds` and `.activations`, and
        `.by_stage()`.

    Raises:
        InputError (a ValueError): the model leaves the image size open.

    Example:
        keras_arch.cost(keras_arch.ResNet50()).multiply_adds  # 4,089,184,256
    """
    check_model(model)
    return Cost(model.name, tuple(layer_cost(layer) for layer in model.layers))


def layer_cost(layer):
    shape = tuple(layer.output.shape[1:])
    if None in shape:
        raise InputError(
            f"expected a model of fixed image size, got {shape} at {layer.name}; input_shape would fix it"
        )
    return LayerCost(
        layer.name,
        type(layer).__name__,
        shape,
        parameters(layer),
        multiply_adds(layer, shape),
        math.prod(shape),
    )


def parameters(layer):
    """What training learns: all but moving statistics and the state of random numbers, frozen or not."""
    learned = [
        variable for variable in layer.weights if not variable.name.startswith(("moving_", "seed_"))
    ]
    return sum(math.prod(variable.shape) for variable in learned)


def multiply_adds(layer, output_shape):
    """Every kernel value meets every output pixel once; layers without a kernel count nothing, as in the papers."""
    if isinstance(layer, keras.Model):
        return sum(multiply_adds(inner, tuple(inner.output.shape[1:])) for inner in layer.layers)
    if type(layer) in (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense):
        return math.prod(layer.kernel.shape) * math.prod(output_shape[:-1])
    if any(variable.path.endswith("kernel") for variable in layer.weights):
        kind = type(layer).__name__
        raise InputError(
            f"expected Conv2D, DepthwiseConv2D and Dense as layers with kernels, got {layer.name} ({kind})"
        )
    return 0
