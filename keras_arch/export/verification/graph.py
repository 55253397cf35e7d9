"""Check the graph of a .tflite file: operators, types and unfolded batch normalization."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ...class_names import read_packed_labels
from ..metadata import read_metadata
from .checks import compare_names
from .spec import FileSpec

OPERATOR_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
ARITHMETIC = {"MUL", "ADD", "SUB", "DIV"}  # operators of an unfolded batch norm
SQUARES = {"SQUARED_DIFFERENCE", "SQUARE"}  # their mean is a variance
FLOAT_CAUSES = {  # operator: why it computes in float32
    "CAST": "Build the model with a float32 keras.Input.",
    "DEQUANTIZE": "The output of an operator is float32.",
}
WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}  # a batch norm folds into these


def read_tflite(
    path: Path, spec: FileSpec, class_names: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Return {operator: count} of a .tflite file, and its problems."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    custom, names = operator_names(model)
    graph = model.subgraphs[0]
    operators = Counter(names[operator.opcodeIndex] for operator in graph.operators)
    problems = [f"operator: {name} is not built into the runtime." for name in custom if name]
    problems += [f"batch norm: {name} is not folded." for name in find_batch_norms(model)]
    if not model.metadata or read_metadata(model) != spec.metadata:
        problems.append("metadata: differs from the metadata that was written.")
    if spec.integers:
        ends = {*graph.inputs, *graph.outputs}
        floats = {
            number
            for number, tensor in enumerate(graph.tensors)
            if tensor.type == schema.TensorType.FLOAT32
        }
        inside = [
            names[one.opcodeIndex] for one in graph.operators if floats & {*one.outputs} - ends
        ]
        problems += list_float_problems(dict.fromkeys(inside))
    problems += compare_names(read_packed_labels(path) or (), class_names)
    return dict(sorted(operators.items())), problems


def list_float_problems(names: Iterable[str]) -> list[str]:
    """Return problems of the operators of an int8 file that compute in float32.

    A DEQUANTIZE only converts the input of another one.
    """
    return [
        f"operator: {name} computes in float32 in an int8 file. "
        f"{FLOAT_CAUSES.get(name, 'int8 has no such operator.')}"
        for name in [name for name in names if name != "DEQUANTIZE"] or names
    ]


def operator_names(model):
    """Return two lists of names of a file's operator codes.

    Args:
        model: an unpacked `schema.ModelT`.

    Returns:
        Names of custom operators, None for built-in ones; and names of all operators.
    """
    custom = [code.customCode.decode() if code.customCode else None for code in model.operatorCodes]
    builtin = [
        OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for code in model.operatorCodes
    ]  # codes below 127 are in the deprecated field
    return custom, [own or name for own, name in zip(custom, builtin, strict=True)]


def find_batch_norms(model):
    """Yield the operators of batch norms that the converter should have folded.

    The converter folds a constant for each channel into a convolution or dense layer without
    activation whose output has no other reader. These are not yielded:

    - a batch norm after an activation or an addition, as in pre-activation ResNets;
    - one number for all channels, such as the 1/6 of a hard sigmoid;
    - layer, instance and group normalization, whose statistics are not over the batch.

    Args:
        model: an unpacked `schema.ModelT`.
    """
    graph, (_, names) = model.subgraphs[0], operator_names(model)
    producers = {output: operator for operator in graph.operators for output in operator.outputs}
    readers = Counter(tensor for operator in graph.operators for tensor in operator.inputs)

    def name_of(tensor):
        return names[producers[tensor].opcodeIndex] if tensor in producers else None

    def data(tensor):
        if name_of(tensor) == "DEQUANTIZE":  # weights of a float16 file
            tensor = producers[tensor].inputs[0]
        return model.buffers[graph.tensors[tensor].buffer].data

    def for_each_channel(constant, values):
        """Return whether `constant` has one number for each channel of the tensor `values`."""
        if data(constant) is None:
            return False
        sides = [side for side in graph.tensors[constant].shape if side != 1]
        return sides == [graph.tensors[values].shape[-1]]

    def foldable(tensor):
        if name_of(tensor) not in WEIGHTED or readers[tensor] > 1:
            return False
        return (
            producers[tensor].builtinOptions.fusedActivationFunction
            == schema.ActivationFunctionType.NONE
        )

    def over_batch(values, axes):
        rank = len(graph.tensors[values].shape)
        return 0 in np.frombuffer(bytes(data(axes)), "int32") % rank

    for operator in graph.operators:
        name, inputs = names[operator.opcodeIndex], list(operator.inputs)
        if name in ARITHMETIC and foldable(inputs[0]) and for_each_channel(inputs[1], inputs[0]):
            yield f"{name} after a convolution ({output_name(graph, operator)})"
        if name == "MEAN" and name_of(inputs[0]) in SQUARES and over_batch(*inputs):
            yield f"{name_of(inputs[0])} over the batch ({output_name(graph, operator)})"


def output_name(graph, operator):
    return graph.tensors[operator.outputs[0]].name.decode()
