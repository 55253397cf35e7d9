"""Read TFLite Metadata: the normalization of the input, and whether a .tflite file contains files.

This module reads the fields of the published schema, metadata_schema.fbs, by number with the
flatbuffers library.
"""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table

METADATA = b"TFLITE_METADATA"  # name of the entry in a .tflite file

# Numbers of the schema's fields. Models, subgraphs and tensors can have associated files.
SUBGRAPHS, MODEL_FILES = 3, 6
INPUTS, OUTPUTS, SUBGRAPH_FILES = 2, 3, 4
PROCESS_UNITS, TENSOR_FILES = 4, 6
OPTIONS_TYPE, OPTIONS = 0, 1
MEAN, STD = 0, 1

NORMALIZATION_OPTIONS = 1  # number of the type in ProcessUnitOptions


@dataclass(frozen=True)
class Metadata:
    """Normalization of the first input, (pixels - mean) / std, and associated files."""

    mean: np.ndarray
    """float32 (1,) or (channels,)."""
    std: np.ndarray
    """float32 (1,) or (channels,)."""
    has_files: bool
    """Whether a zip archive with files such as labels follows the model."""


RAW_PIXELS = Metadata(np.zeros(1, "float32"), np.ones(1, "float32"), has_files=False)


def read_metadata(content: bytes) -> Metadata:
    """Return the metadata of a .tflite file, or `RAW_PIXELS` if it has none.

    Args:
        content: the file.

    Raises:
        Exception: of any type, from the flatbuffers library, if the metadata are damaged.
    """
    found = find_metadata(content)
    if found is None:
        return RAW_PIXELS
    model = Table(found, encode.Get(packer.uoffset, found, 0))
    subgraphs = tables(model, SUBGRAPHS)
    inputs = [tensor for subgraph in subgraphs for tensor in tables(subgraph, INPUTS)]
    outputs = [tensor for subgraph in subgraphs for tensor in tables(subgraph, OUTPUTS)]
    files = [
        *tables(model, MODEL_FILES),
        *(file for subgraph in subgraphs for file in tables(subgraph, SUBGRAPH_FILES)),
        *(file for tensor in (*inputs, *outputs) for file in tables(tensor, TENSOR_FILES)),
    ]
    mean, std = RAW_PIXELS.mean, RAW_PIXELS.std
    for unit in tables(inputs[0], PROCESS_UNITS) if inputs else []:
        if byte(unit, OPTIONS_TYPE) == NORMALIZATION_OPTIONS:
            options = Table(found, unit.Indirect(unit.Pos + slot(unit, OPTIONS)))
            mean, std = floats(options, MEAN), floats(options, STD)
    return Metadata(mean, std, has_files=bool(files))


def find_metadata(content: bytes) -> bytes | None:
    """Return the bytes of the metadata in a .tflite file, or None."""
    model = schema.Model.GetRootAs(content, 0)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == METADATA:
            return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    return None


def slot(table: Table, field: int) -> int:
    """Return the offset of a field in its table in bytes. 0: the field is absent."""
    return table.Offset(4 + 2 * field)


def byte(table: Table, field: int) -> int:
    """Return a uint8 field. 0 if it is absent."""
    return (
        table.Get(number_types.Uint8Flags, table.Pos + slot(table, field))
        if slot(table, field)
        else 0
    )


def floats(table: Table, field: int) -> np.ndarray:
    """Return a field with a vector of floats. Empty if it is absent."""
    return (
        table.GetVectorAsNumpy(number_types.Float32Flags, slot(table, field))
        if slot(table, field)
        else np.empty(0, "float32")
    )


def tables(table: Table, field: int) -> list[Table]:
    """Return a field with a vector of tables. Empty if it is absent."""
    if not slot(table, field):
        return []
    start = table.Vector(slot(table, field))
    return [
        Table(table.Bytes, table.Indirect(start + 4 * number))
        for number in range(table.VectorLen(slot(table, field)))
    ]
