"""Private attributes of Keras: the graph of a functional model, and the state of an optimizer.

Keras has no public functions for these questions. Only this module reads private attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

Shape = tuple[Any, ...]  # of integers, and of None for the batch and open sides


@dataclass(frozen=True)
class Call:
    """A call of a layer, nested model or `keras.ops` operation in a model."""

    operation: keras.Operation
    inputs: list[Shape]
    """Shapes of its tensors, with the batch."""
    outputs: list[Shape]


def operation_of(tensor: keras.KerasTensor) -> keras.Operation:
    """Return the layer, model or `keras.ops` operation that computes a symbolic tensor."""
    return tensor._keras_history.operation


def output_index(tensor: keras.KerasTensor) -> int:
    """Return the position of a symbolic tensor in the outputs of its operation."""
    return tensor._keras_history.tensor_index


def input_tensors(tensor: keras.KerasTensor) -> list[keras.KerasTensor]:
    """Return the symbolic tensors from which an operation computes `tensor`. An input has none."""
    operation, node, _ = tensor._keras_history
    return operation._inbound_nodes[node].input_tensors


def readers_of(model: keras.Model) -> list[tuple[keras.Operation, list[keras.Operation | None]]]:
    """Return each call in a functional model with the operations that read its output.

    The order is that in which the calls run. An output of the model adds None to the readers. An
    operation that is called twice is in the list twice.
    """
    calls: dict[int, tuple[keras.Operation, list[keras.Operation | None]]] = {}

    def visit(tensor: keras.KerasTensor, reader: keras.Operation | None) -> None:
        operation, node, _ = tensor._keras_history
        key = id(operation._inbound_nodes[node])
        if key not in calls:
            for source in input_tensors(tensor):
                visit(source, operation)
            calls[key] = operation, []
        calls[key][1].append(reader)

    for output in model.outputs:
        visit(output, None)
    return list(calls.values())


def calls_of(model: keras.Model, shapes: list[Shape]) -> list[Call]:
    """Return the calls in a model for inputs of other shapes, in the order in which they run.

    The model is not run and gets no new nodes.

    Args:
        model: a functional or a built Sequential model.
        shapes: shape of each input, with the batch.
    """
    import keras

    inputs = [
        keras.KerasTensor(shape, image.dtype)
        for image, shape in zip(model.inputs, shapes, strict=True)
    ]
    calls = [
        Call(operation_of(image), [], [shape])
        for image, shape in zip(model.inputs, shapes, strict=True)
    ]

    def shapes_in(tensors: Any) -> list[Shape]:
        return [one.shape for one in keras.tree.flatten(tensors) if hasattr(one, "shape")]

    def record(operation: keras.Operation) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            outputs = operation.compute_output_spec(*arguments, **options)
            calls.append(Call(operation, shapes_in((arguments, options)), shapes_in(outputs)))
            return outputs

        return call

    keras.Function(model.inputs, model.outputs)._run_through_graph(inputs, operation_fn=record)
    return calls


def batches_of(optimizer: keras.Optimizer) -> keras.Variable:
    """Return the number of batches that an optimizer has seen. It may accumulate their gradients."""
    return optimizer._iterations


def learning_rate_at(optimizer: keras.Optimizer, step: int | keras.KerasTensor):
    """Return the learning rate of a step, counted from 0, as a tensor."""
    return optimizer._learning_rate(step)


def moving_averages(optimizer: keras.Optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """Return (trainable weight, its moving average) for an optimizer with `use_ema=True`."""
    averages = optimizer._model_variables_moving_average
    return list(zip(optimizer._trainable_variables, averages, strict=True))
