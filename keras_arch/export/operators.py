"""The operators of a .tflite file, and the layer of the Keras model that each of them computes."""

import re
from collections import Counter
from typing import Any, NamedTuple

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ..models import layer_of

CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")  # operators that only change the number type
NUMBER = re.compile(r"_\d+$")  # which Keras and TensorFlow append to the second name of a kind


class Step(NamedTuple):
    """An operator of a .tflite file that computes something."""

    operator: str
    inputs: list[int]
    output: dict[str, Any]  # LiteRT's details of its output tensor


class Place(NamedTuple):
    """A layer and where it is."""

    name: str
    """Its own name or, if several layers have it, its path, such as "backbone/conv"."""
    path: tuple[str, ...]
    """Names of the nested models around it, from the outermost on, and its own."""
    layer: Any = None


def start_interpreter(content):
    """An interpreter that keeps what every operator gave."""
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


def steps_of(interpreter):
    """Return the steps of a file in order. The last one gives the probabilities, in any number type."""
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    steps = [
        Step(operator["op_name"], list(operator["inputs"]), tensors[operator["outputs"][0]])
        for operator in interpreter._get_ops_details()
    ]
    while steps[-1].operator in CONVERSIONS:
        steps.pop()
    return steps


def places_of(steps, model):
    """Return {name of a step's output tensor: `Place` of the layer that it belongs to}.

    The converter names the last tensor after the signature. It belongs to the layer that gives the
    model's output.

    Args:
        steps: what `steps_of` returned.
        model: the `keras.Model` in the file.
    """
    found = list(layers_with_paths(model))
    counts = Counter(path[-1] for path, _ in found)
    places = [
        Place("/".join(path) if counts[path[-1]] > 1 else path[-1], path, layer)
        for path, layer in found
    ]
    named = {step.output["name"]: place_of(step.output["name"], places) for step in steps}
    last = layer_of(model.outputs[0])  # which is no layer after `keras.ops.softmax`
    of_last = (place for place in places if place.layer is last)
    named[steps[-1].output["name"]] = next(of_last, Place(last.name, (last.name,)))
    return named


def layers_with_paths(model, outside=()):
    """Yield (path, layer) for every layer, each nested model after its layers."""
    for layer in model.layers:
        path = (*outside, layer.name)
        if hasattr(layer, "layers"):
            yield from layers_with_paths(layer, path)
        yield path, layer


def place_of(tensor_name, places):
    """Return the place of the layer that an operator computes.

    The converter joins the names of what it has fused, such as
    resnet8_1/stem_conv_relu_1/Relu;resnet8_1/stem_conv_1/convolution. Of several layers, the one
    with a kernel counts. Without a layer, the place has the tensor's own name.
    """
    parts = [part.split("/") for part in tensor_name.split(";")]
    found = [place for place in places if any(leads_along(part, place.path) for part in parts)]
    found.sort(
        key=lambda place: (not hasattr(place.layer, "kernel"), hasattr(place.layer, "layers"))
    )
    return found[0] if found else Place(tensor_name, (tensor_name,))


def leads_along(scopes, path):
    """Return whether `scopes` hold the names in `path` in this order, with or without a number."""
    left = iter(scopes)
    return all(any(name in (scope, NUMBER.sub("", scope)) for scope in left) for name in path)
