"""Find the layer of a Keras model that each operator of a .tflite file computes."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ..models import layer_of

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")  # operators that only change the type
NUMBER = re.compile(r"_\d+$")  # suffix of Keras and TensorFlow for a repeated name


@dataclass(frozen=True)
class Operator:
    """An operator of a .tflite file."""

    name: str
    inputs: tuple[int, ...]
    """Indices of its input tensors."""
    output: dict[str, Any]
    """LiteRT's details of its output tensor."""


@dataclass(frozen=True)
class NamedLayer:
    """A layer and its path in the model."""

    name: str
    """Name of the layer or, if several layers have it, its path, such as "backbone/conv"."""
    path: tuple[str, ...]
    """Names of the nested models that contain it, from the outermost, then the layer's name."""
    layer: Any = None
    """None for an operator without a layer."""


def start_interpreter(content: bytes) -> Interpreter:
    """Return an interpreter that keeps the output of every operator."""
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


def list_operators(interpreter: Interpreter) -> list[Operator]:
    """Return the operators of a file in order, without type conversions at the end."""
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    operators = [
        Operator(row["op_name"], tuple(row["inputs"]), tensors[row["outputs"][0]])
        for row in interpreter._get_ops_details()
    ]
    while operators[-1].name in CONVERSIONS:
        operators.pop()
    return operators


def match_layers(operators: list[Operator], model: keras.Model) -> dict[str, NamedLayer]:
    """Return the layer of each operator.

    The converter names the last tensor after the signature. It belongs to the layer of the
    model's output.

    Args:
        operators: what `list_operators` returned.
        model: the `keras.Model` in the file.

    Returns:
        {name of the operator's output tensor: `NamedLayer`}.
    """
    found = list(walk_layers(model))
    counts = Counter(path[-1] for path, _ in found)
    layers = [
        NamedLayer("/".join(path) if counts[path[-1]] > 1 else path[-1], path, layer)
        for path, layer in found
    ]
    matches = {one.output["name"]: match_layer(one.output["name"], layers) for one in operators}
    last = layer_of(model.outputs[0])  # not in `model.layers` after `keras.ops.softmax`
    candidates = (layer for layer in layers if layer.layer is last)
    matches[operators[-1].output["name"]] = next(candidates, NamedLayer(last.name, (last.name,)))
    return matches


def walk_layers(
    model: keras.Model, outside: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, layer) for every layer, and each nested model after its layers."""
    for layer in model.layers:
        path = (*outside, layer.name)
        if hasattr(layer, "layers"):
            yield from walk_layers(layer, path)
        yield path, layer


def match_layer(tensor_name: str, layers: list[NamedLayer]) -> NamedLayer:
    """Return the layer that computes a tensor.

    The converter joins the names of fused operators, such as
    resnet8_1/stem_conv_relu_1/Relu;resnet8_1/stem_conv_1/convolution. A layer with a kernel comes
    before others. If no layer matches, the result has the name of the tensor.
    """
    parts = [part.split("/") for part in tensor_name.split(";")]
    found = [layer for layer in layers if any(contains_path(part, layer.path) for part in parts)]
    found.sort(
        key=lambda layer: (not hasattr(layer.layer, "kernel"), hasattr(layer.layer, "layers"))
    )
    return found[0] if found else NamedLayer(tensor_name, (tensor_name,))


def contains_path(scopes: Iterable[str], path: Iterable[str]) -> bool:
    """Return whether `scopes` contain the names in `path` in this order, ignoring suffixes."""
    rest = iter(scopes)
    return all(any(name in (scope, NUMBER.sub("", scope)) for scope in rest) for name in path)
