"""Graphs of functional Keras models.

Keras has no public functions for these questions. This module alone reads its private attributes
`_keras_history` and `_inbound_nodes`.
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
