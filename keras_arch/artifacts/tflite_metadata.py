"""TFLite Metadata, read: how pixels are normalized before they enter a .tflite file, and whether files are packed into it.

Read with the flatbuffers library by the field numbers of the published schema, metadata_schema.fbs.
"""

from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import encode, number_types, packer
from flatbuffers.table import Table

METADATA = b"TFLITE_METADATA"  # the name of the metadata in a .tflite file

# Numbers of the schema's fields. Its three larger tables each list associated files.
SUBGRAPHS, MODEL_FILES = 3, 6
INPUTS, OUTPUTS, SUBGRAPH_FILES = 2, 3, 4
PROCESS_UNITS, TENSOR_FILES = 4, 6
OPTIONS_TYPE, OPTIONS = 0, 1
MEAN, STD = 0, 1

NORMALIZATION_OPTIONS = 1  # number of the type in its union


@dataclass(frozen=True)
class Metadata:
    """What the metadata of a .tflite file say about its first input and its files.

    The input of the model is (pixels - mean) / std. Both are float32 arrays of one number, or of one for each channel.
    """

    mean: np.ndarray
    std: np.ndarray
    has_files: bool  # such as labels; they lie behind the model as a zip archive


RAW_PIXELS = Metadata(np.zeros(1, "float32"), np.ones(1, "float32"), has_files=False)


def read_metadata(content):
    """Read the metadata in a .tflite file.

    Args:
        content: bytes of the file.

    Returns:
        A `Metadata`; `RAW_PIXELS` if the file has no metadata.

    Raises:
        Whatever the flatbuffers library raises for damaged metadata.
    """
    found = metadata_in(content)
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


def metadata_in(content):
    """The metadata in the bytes of a .tflite file, or None."""
    model = schema.Model.GetRootAs(content, 0)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == METADATA:
            return model.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    return None


def slot(table, field):
    """Where a field lies, in bytes from the start of its table; 0 if it is absent."""
    return table.Offset(4 + 2 * field)


def byte(table, field):
    return (
        table.Get(number_types.Uint8Flags, table.Pos + slot(table, field))
        if slot(table, field)
        else 0
    )


def floats(table, field):
    """The numbers in a vector of floats; none if the field is absent."""
    return (
        table.GetVectorAsNumpy(number_types.Float32Flags, slot(table, field))
        if slot(table, field)
        else np.empty(0, "float32")
    )


def tables(table, field):
    """The tables in a vector of tables; none if the field is absent."""
    if not slot(table, field):
        return []
    start = table.Vector(slot(table, field))
    return [
        Table(table.Bytes, table.Indirect(start + 4 * number))
        for number in range(table.VectorLen(slot(table, field)))
    ]
