"""Small .tflite files as other people write them: normalization outside the model."""

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_arch.export.metadata import add_metadata

RNG = np.random.default_rng(0)


def convert(model, options=()):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in dict(options).items():
        setattr(converter, name, value)
    return converter.convert()


def color_model():
    """Return a model that predicts the channel with the highest normalized mean."""
    image = keras.Input((6, 6, 3), batch_size=1)
    dense = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(
        image, dense(keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU(1.0)(image)))
    )
    dense.set_weights([4 * np.eye(3, dtype="float32"), np.zeros(3, "float32")])
    return model


def colors(count=20):
    """Return noisy images (count, 6, 6, 3) of one color. Two normalized channels are above 0."""
    base = RNG.uniform(140, 240, (count, 1, 1, 3))
    return (base + RNG.normal(0, 10, (count, 6, 6, 3))).clip(0, 255).astype("uint8")


def normalized_metadata(mean, std):
    """Return metadata with a normalization, written by the generated code of the schema."""
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    image, output, unit = schema.TensorMetadataT(), schema.TensorMetadataT(), schema.ProcessUnitT()
    unit.optionsType, unit.options = (
        schema.ProcessUnitOptions.NormalizationOptions,
        schema.NormalizationOptionsT(),
    )
    unit.options.mean, unit.options.std = mean, std
    image.name, output.name = "image", "probabilities"  # MediaPipe crashes without them
    image.processUnits, image.content = [unit], schema.ContentT()
    image.content.contentPropertiesType = schema.ContentProperties.ImageProperties
    image.content.contentProperties = schema.ImagePropertiesT()
    image.content.contentProperties.colorSpace = schema.ColorSpaceType.RGB
    graph, metadata = schema.SubGraphMetadataT(), schema.ModelMetadataT()
    graph.inputTensorMetadata, graph.outputTensorMetadata = [image], [output]
    metadata.name, metadata.minParserVersion, metadata.subgraphMetadata = "colors", "1.0.0", [graph]
    builder = flatbuffers.Builder()
    builder.Finish(metadata.Pack(builder), file_identifier=b"M001")
    return bytes(builder.Output())


def write_normalized(path, mean, std, dtype="float32", metadata=True):
    """Write `color_model` as a file that takes (x - mean) / std, calibrated on -1 to 1."""
    calibration = (colors().astype("float32") - 127.5) / 127.5
    calibration[0, 0, 0], calibration[0, 0, 1] = -1, 1
    integers = {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": lambda: ([image[np.newaxis]] for image in calibration),
        "inference_input_type": tf.as_dtype(dtype),
    }
    content = convert(color_model(), integers if dtype != "float32" else {})
    path.write_bytes(add_metadata(content, normalized_metadata(mean, std)) if metadata else content)
    return path


def write_quantized(path, dtype, metadata=True):
    return write_normalized(path, [127.5], [127.5], dtype, metadata)
