"""TFLite Metadata: what a .tflite file says about itself, and its labels, packed into it.

Written with the flatbuffers library by the field numbers of the published schema, metadata_schema.fbs, whose generated
code comes with MediaPipe alone. The labels are a zip archive behind the model, where the schema wants them.
"""

import zipfile

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import number_types

from ..artifacts.tflite_metadata import METADATA
from ..class_names import LABELS

ALIGNMENT = 16  # bytes; TFLite's schema asks for it for every buffer of weights

# Numbers of the schema's enumerations and unions.
IMAGE_PROPERTIES, RGB, GREY = np.uint8(2), np.int8(1), np.int8(2)
NORMALIZATION_OPTIONS = np.uint8(1)
TENSOR_AXIS_LABELS = np.int8(2)
SCALARS = {
    np.int8: number_types.Int8Flags,
    np.uint8: number_types.Uint8Flags,
    np.uint32: number_types.Uint32Flags,
}


def write_table(builder, fields):
    """Write a flatbuffers table of {field number: numpy scalar, or offset of what was written before}."""
    builder.StartObject(max(fields) + 1)
    for slot, value in fields.items():
        if type(value) in SCALARS:
            builder.PrependSlot(SCALARS[type(value)], slot, int(value), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def write_vector(builder, offsets):
    """Write a flatbuffers vector of tables."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def image_classifier_metadata(name, description, version, license, image_shape):
    """The bytes of the metadata of a classifier whose normalisation is inside the model.

    Args:
        name: of the model.
        description: a sentence or two.
        version: of the weights.
        license: text.
        image_shape: (height, width, channels) of the input `image`, raw pixels of 0-255.
    """
    builder = flatbuffers.Builder()
    text = builder.CreateString
    height, width, channels = image_shape

    def numbers(value):
        return builder.CreateNumpyVector(np.array([value], "float32"))

    size = write_table(builder, {0: np.uint32(width), 1: np.uint32(height)})
    properties = write_table(builder, {0: RGB if channels == 3 else GREY, 1: size})
    content = write_table(builder, {0: IMAGE_PROPERTIES, 1: properties})
    identity = write_table(builder, {0: numbers(0), 1: numbers(1)})  # mean and deviation
    normalisation = write_table(builder, {0: NORMALIZATION_OPTIONS, 1: identity})
    stats = write_table(builder, {0: numbers(255), 1: numbers(0)})  # highest and lowest
    image = {
        0: text("image"),
        1: text("Raw pixels of 0-255; the model normalises them itself."),
        3: content,
        4: write_vector(builder, [normalisation]),
        5: stats,
    }
    labels = {
        0: text(LABELS),
        1: text("The class of each probability, in order."),
        2: TENSOR_AXIS_LABELS,
    }
    feature = write_table(
        builder, {0: np.uint8(1), 1: write_table(builder, {0: np.uint8(0)})}
    )  # FeatureProperties, which is empty
    probabilities = {
        0: text("probabilities"),
        1: text("One probability of 0-1 for each class; they add up to 1."),
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
        7: text("1.0.0"),  # the oldest parser that knows all of these fields
    }
    builder.Finish(write_table(builder, fields), file_identifier=b"M001")
    return bytes(builder.Output())


class AlignedBuilder(flatbuffers.Builder):
    """A builder that keeps weights on TFLite's boundaries, which flatbuffers' Python code does not know of."""

    def CreateNumpyVector(self, x):
        self.Prep(ALIGNMENT, x.nbytes)
        return super().CreateNumpyVector(x)


def with_metadata(content, metadata):
    """A .tflite file's bytes with `metadata` in it, and its one input and one output named in the tensors, too."""
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


def pack_labels(path, labels_file):
    """Append the file of labels to a .tflite file, without its time: two exports of one run are equal."""
    entry = zipfile.ZipInfo(LABELS)
    entry.external_attr = 0o644 << 16  # a file that all may read
    with zipfile.ZipFile(path, "a") as archive:  # not compressed: a phone maps it into memory
        archive.writestr(entry, labels_file.read_bytes())


def read_metadata(model):
    """The bytes of the metadata in an unpacked `schema.ModelT`, or None."""
    found = [entry.buffer for entry in model.metadata or [] if entry.name == METADATA]
    return bytes(model.buffers[found[0]].data) if found else None
