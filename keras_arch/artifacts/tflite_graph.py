"""The order of computation in a .tflite file, checked before LiteRT runs it.

LiteRT refuses what is no valid flatbuffer, and most operators with wrong tensors. It does not check the order: the
process crashes if an operator writes into a constant or into the output of another one, if a required input is absent, or
if a number is written into a tensor of text.
"""

from ai_edge_litert import schema_py_generated as schema

ABSENT = -1  # stands for an optional input, such as a bias
REQUIRED = 2  # inputs of an operator that are never optional
RECURRENT = 10  # inputs; an operator with more is an LSTM, of which only the first is required


def check_graph(content):
    """Check that every tensor of a .tflite file has one value before it is read.

    Args:
        content: bytes of the file, a valid flatbuffer.

    Raises:
        ValueError: a tensor is written twice, written although it is constant, read before it is written, or holds text,
            which no image classifier needs.
    """
    model = schema.Model.GetRootAs(content, 0)
    for number in range(model.SubgraphsLength()):
        check_subgraph(model, model.Subgraphs(number))


def check_subgraph(model, subgraph):
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


def has_value(model, tensor):
    """Whether a tensor has a value before any operator runs: a constant, a variable or an empty tensor."""
    buffer = model.Buffers(tensor.Buffer())
    constant = buffer.DataLength() or buffer.Offset() or buffer.Size() or tensor.ExternalBuffer()
    return (
        bool(constant)
        or tensor.IsVariable()
        or 0 in (tensor.Shape(side) for side in range(tensor.ShapeLength()))
    )


def read(ready, tensors):
    """Raise ValueError unless all tensors have a value."""
    for tensor in tensors:
        if tensor not in ready:
            raise ValueError(f"tensor {tensor} is read and has no value")


def write(ready, tensors, count):
    """Give each of `tensors` a value, or raise ValueError unless they are of the `count` tensors and have none."""
    for tensor in tensors:
        if tensor in ready or not 0 <= tensor < count:
            raise ValueError(
                f"tensor {tensor} is written and {'has a value' if tensor in ready else 'does not exist'}"
            )
        ready.add(tensor)
