"""Check the order of computation in a .tflite file before LiteRT runs it.

LiteRT refuses invalid flatbuffers and most operators with wrong tensors. It does not check the
order. The process crashes if

- an operator writes to a constant or to the output of another operator,
- a required input is absent,
- a number is written to a string tensor.
"""

from ai_edge_litert import schema_py_generated as schema

ABSENT = -1  # index of an absent optional input, such as a bias
REQUIRED = 2  # number of inputs that are never optional
RECURRENT = 10  # an operator with more inputs is an LSTM, which requires only the first


def check_graph(content: bytes) -> None:
    """Check that every tensor of a .tflite file is written once and before it is read.

    Args:
        content: the file, a valid flatbuffer.

    Raises:
        ValueError: a tensor is written twice, is a constant and written, is read before it is
            written, or holds strings, which image classifiers do not need.
    """
    model = schema.Model.GetRootAs(content, 0)
    for number in range(model.SubgraphsLength()):
        check_subgraph(model, model.Subgraphs(number))


def check_subgraph(model: schema.Model, subgraph: schema.SubGraph) -> None:
    """Check one subgraph. See `check_graph`."""
    tensors = [subgraph.Tensors(number) for number in range(subgraph.TensorsLength())]
    for number, tensor in enumerate(tensors):
        if tensor.Type() == schema.TensorType.STRING:
            raise ValueError(f"tensor {number} holds text")
    ready = {number for number, tensor in enumerate(tensors) if has_value(model, tensor)}
    write(
        ready, [subgraph.Inputs(number) for number in range(subgraph.InputsLength())], len(tensors)
    )
    for number in range(subgraph.OperatorsLength()):
        operator = subgraph.Operators(number)
        inputs = [operator.Inputs(place) for place in range(operator.InputsLength())]
        required = 1 if len(inputs) > RECURRENT else REQUIRED
        read(
            ready, inputs[:required] + [tensor for tensor in inputs[required:] if tensor != ABSENT]
        )
        write(
            ready,
            [operator.Outputs(place) for place in range(operator.OutputsLength())],
            len(tensors),
        )
    read(ready, [subgraph.Outputs(number) for number in range(subgraph.OutputsLength())])


def has_value(model: schema.Model, tensor: schema.Tensor) -> bool:
    """Return whether a tensor is a constant, a variable or empty, so that no operator writes it."""
    buffer = model.Buffers(tensor.Buffer())
    constant = buffer.DataLength() or buffer.Offset() or buffer.Size() or tensor.ExternalBuffer()
    return (
        bool(constant)
        or tensor.IsVariable()
        or 0 in (tensor.Shape(side) for side in range(tensor.ShapeLength()))
    )


def read(ready: set[int], tensors: list[int]) -> None:
    """Raise ValueError unless all `tensors` are `ready`."""
    for tensor in tensors:
        if tensor not in ready:
            raise ValueError(f"tensor {tensor} is read and has no value")


def write(ready: set[int], tensors: list[int], count: int) -> None:
    """Add `tensors` to `ready`, or raise ValueError if one is ready or not below `count`."""
    for tensor in tensors:
        if tensor in ready or not 0 <= tensor < count:
            problem = "has a value" if tensor in ready else "does not exist"
            raise ValueError(f"tensor {tensor} is written and {problem}")
        ready.add(tensor)
