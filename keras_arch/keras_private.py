"""Private attributes of Keras: the graph of a functional model, and the state of an optimizer.

Keras has no public functions for these questions. Only this module reads private attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


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
