"""The graph of a .tflite file: operators, types and batch normalization that was not folded."""

from collections import Counter

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ...class_names import read_packed_labels
from ..metadata import read_metadata
from .checks import compare_labels

OPERATOR_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}
CONSTANT_STEPS = {"MUL", "ADD", "SUB", "DIV"}  # what an unfolded batch norm consists of
SQUARES = {"SQUARED_DIFFERENCE", "SQUARE"}  # whose mean is a variance
WEIGHTED = {
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
}  # what it could have been folded into


def read_tflite(path, promise, class_names):
    """{operator: count} of a .tflite file, and what is wrong with it before it is run."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    custom, names = operator_names(model)
    graph = model.subgraphs[0]
    operators = Counter(names[operator.opcodeIndex] for operator in graph.operators)
    problems = [f"operator: {name} is not built into the runtime" for name in custom if name]
    problems += [f"batch norm: {name} is left" for name in batch_norms(model)]
    if not model.metadata or read_metadata(model) != promise.metadata:
        problems.append("metadata: not what was written")
    if promise.integers:
        ends = {*graph.inputs, *graph.outputs}
        floats = {
            number
            for number, tensor in enumerate(graph.tensors)
            if tensor.type == schema.TensorType.FLOAT32
        }
        inside = [
            names[one.opcodeIndex] for one in graph.operators if floats & {*one.outputs} - ends
        ]
        problems += [
            f"operator: {name} computes in float32 within an int8 file"
            for name in dict.fromkeys(inside)
        ]
    problems += compare_labels(read_packed_labels(path), class_names)
    return dict(sorted(operators.items())), problems


def operator_names(model):
    """Return two lists of names of a file's operator codes: the custom ones, else None; and all.

    Args:
        model: an unpacked `schema.ModelT`.
    """
    custom = [code.customCode.decode() if code.customCode else None for code in model.operatorCodes]
    builtin = [
        OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        for code in model.operatorCodes
    ]  # old codes, below 127, stand in the deprecated field
    return custom, [own or name for own, name in zip(custom, builtin, strict=True)]


def batch_norms(model):
    """Yield the operators of a batch norm that the converter should have folded away.

    The converter can fold a constant for each channel into a convolution or dense layer that has no
    activation and no other reader. A norm behind an activation or an addition stays, as in
    pre-activation ResNets. Layer, instance and group normalization stay, too: their statistics are
    not over the batch. What stays is not a fault.

    Args:
        model: an unpacked `schema.ModelT`.
    """
    graph, (_, names) = model.subgraphs[0], operator_names(model)
    makers = {output: operator for operator in graph.operators for output in operator.outputs}
    readers = Counter(tensor for operator in graph.operators for tensor in operator.inputs)

    def name_of(tensor):
        return names[makers[tensor].opcodeIndex] if tensor in makers else None

    def data(tensor):
        if name_of(tensor) == "DEQUANTIZE":  # a float16 file's weights
            tensor = makers[tensor].inputs[0]
        return model.buffers[graph.tensors[tensor].buffer].data

    def for_each_channel(tensor):
        return data(tensor) is not None and all(
            side == 1 for side in graph.tensors[tensor].shape[:-1]
        )

    def foldable(tensor):
        if name_of(tensor) not in WEIGHTED or readers[tensor] > 1:
            return False
        return (
            makers[tensor].builtinOptions.fusedActivationFunction
            == schema.ActivationFunctionType.NONE
        )

    def over_batch(values, axes):
        rank = len(graph.tensors[values].shape)
        return 0 in np.frombuffer(bytes(data(axes)), "int32") % rank

    for operator in graph.operators:
        name, inputs = names[operator.opcodeIndex], list(operator.inputs)
        if name in CONSTANT_STEPS and foldable(inputs[0]) and for_each_channel(inputs[1]):
            yield f"{name} behind a convolution ({output_name(graph, operator)})"
        if name == "MEAN" and name_of(inputs[0]) in SQUARES and over_batch(*inputs):
            yield f"{name_of(inputs[0])}, statistics of the batch ({output_name(graph, operator)})"


def output_name(graph, operator):
    return graph.tensors[operator.outputs[0]].name.decode()
