"""Write TFLite Metadata and class names into a .tflite file.

The metadata follow the published schema, metadata_schema.fbs. This module writes its fields by
number with the flatbuffers library, because only MediaPipe ships the generated code. The class
names are a zip archive after the model, as the schema requires.
"""

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types

from ..artifacts.tflite_metadata import METADATA
from ..class_names import LABELS

ALIGNMENT = 16  # bytes, for every buffer of weights in TFLite's schema

# Numbers of the schema's enumerations and unions.
IMAGE_PROPERTIES, RGB, GRAYSCALE = np.uint8(2), np.int8(1), np.int8(2)
NORMALIZATION_OPTIONS = np.uint8(1)
TENSOR_AXIS_LABELS = np.int8(2)
SCALARS = {
    np.int8: number_types.Int8Flags,
    np.uint8: number_types.Uint8Flags,
    np.uint32: number_types.Uint32Flags,
}


def write_table(builder: flatbuffers.Builder, fields: dict[int, Any]) -> int:
    """Write a flatbuffers table and return its offset.

    Args:
        builder: receives the table.
        fields: {field number: NumPy scalar, or offset of an object in the builder}.
    """
    builder.StartObject(max(fields) + 1)
    for slot, value in fields.items():
        if type(value) in SCALARS:
            builder.PrependSlot(SCALARS[type(value)], slot, int(value), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def write_vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    """Write a flatbuffers vector of tables and return its offset."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def image_classifier_metadata(
    name: str, description: str, version: str, license: str, image_shape: tuple[int, int, int]
) -> bytes:
    """Return the metadata of an image classifier that takes raw pixels of 0-255.

    Args:
        name: name of the model.
        description: one or two sentences.
        version: version of the weights.
        license: license of the weights.
        image_shape: (height, width, channels) of the input `image`.
    """
    builder = flatbuffers.Builder()
    text = builder.CreateString
    height, width, channels = image_shape

    def numbers(value):
        return builder.CreateNumpyVector(np.array([value], "float32"))

    size = write_table(builder, {0: np.uint32(width), 1: np.uint32(height)})
    properties = write_table(builder, {0: RGB if channels == 3 else GRAYSCALE, 1: size})
    content = write_table(builder, {0: IMAGE_PROPERTIES, 1: properties})
    identity = write_table(builder, {0: numbers(0), 1: numbers(1)})  # mean and std
    normalization = write_table(builder, {0: NORMALIZATION_OPTIONS, 1: identity})
    stats = write_table(builder, {0: numbers(255), 1: numbers(0)})  # maximum and minimum
    image = {
        0: text("image"),
        1: text("Raw pixels of 0-255. The model normalizes them."),
        3: content,
        4: write_vector(builder, [normalization]),
        5: stats,
    }
    labels = {
        0: text(LABELS),
        1: text("Name of the class of each probability."),
        2: TENSOR_AXIS_LABELS,
    }
    feature_properties = write_table(builder, {0: np.uint8(0)})  # this table has no fields
    feature = write_table(builder, {0: np.uint8(1), 1: feature_properties})
    probabilities = {
        0: text("probabilities"),
        1: text("Probability of each class, 0-1. They sum to 1."),
        3: feature,
        5: write_table(builder, {0: numbers(1), 1: numbers(0)}),
        6: write_vector(builder, [write_table(builder, labels)]),
    }
    graph = {
        2: write_vector(builder, [write_table(builder, image)]),
        3: write_vector(builder, [write_table(builder, probabilities)]),
    }
    fields = {
        0: text(name),
        1: text(description),
        2: text(version),
        3: write_vector(builder, [write_table(builder, graph)]),
        5: text(license),
        7: text("1.0.0"),  # minimum parser version for these fields
    }
    builder.Finish(write_table(builder, fields), file_identifier=b"M001")
    return bytes(builder.Output())


class AlignedBuilder(flatbuffers.Builder):
    """A builder that aligns weights for TFLite. The generated Python code does not."""

    def CreateNumpyVector(self, x):
        self.Prep(ALIGNMENT, x.nbytes)
        return super().CreateNumpyVector(x)


def add_metadata(content: bytes, metadata: bytes) -> bytes:
    """Return a .tflite file with metadata and with the names `image` and `probabilities`.

    Args:
        content: the file. It has one input and one output.
        metadata: what `image_classifier_metadata` returned.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].name, graph.tensors[graph.outputs[0]].name = (
        "image",
        "probabilities",
    )
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(metadata, "uint8")
    entry.name, entry.buffer = METADATA.decode(), len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = AlignedBuilder(len(content) + len(metadata) + 1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def read_metadata(model: schema.ModelT) -> bytes | None:
    """Return the metadata in an unpacked model, or None."""
    found = [entry.buffer for entry in model.metadata or [] if entry.name == METADATA]
    return bytes(model.buffers[found[0]].data) if found else None
