"""Convert a model to TFLite with built-in operators and a batch size of 1."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ..errors import InputError
from ..formats import BUILTINS, BUILTINS_INT16, Format
from ..quantization.copy import PIXELS, quantized_copy

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as for images that the data stage reads as grayscale

# Multiples of one int8 step whose sum is 1, within 0.002 of `LUMA`: gray pixels keep their value.
INT8_LUMA = (65 / 217, 127 / 217, 25 / 217)


def build_tflite_model(model: keras.Model, keep_channels: bool = False) -> keras.Model:
    """Build the model to convert, with the input `image` and the output `probabilities`.

    An RGB input replaces the input of a grayscale model, as cameras give RGB. A 1x1 convolution
    computes the luma. A grayscale image that is repeated in three channels stays the same image.

    A 1x1 convolution that changes nothing precedes a model that stacks the channels, as the
    `preprocess_input` of ResNet and VGG does. Otherwise, the stack and the input of an int8 file
    would share one scale, so that the file would not take pixels.

    Args:
        model: `keras.Model` from raw images (batch, height, width, channels) to probabilities.
        keep_channels: keep the grayscale input of a grayscale model.
    """
    height, width, channels = model.input_shape[1:]
    if channels != 1 or keep_channels:
        image = x = keras.Input((height, width, channels), batch_size=1, name="image")
        if joins_channels(model):
            x = layers.DepthwiseConv2D(
                1, use_bias=False, depthwise_initializer="ones", name="pixels"
            )(x)
    else:
        image = keras.Input((height, width, 3), batch_size=1, name="image")
        luma = layers.Conv2D(1, 1, use_bias=False, name="grey")
        x = luma(image)
        luma.set_weights([np.reshape(LUMA, (1, 1, 3, 1))])
    return keras.Model(image, {"probabilities": model(x)}, name=model.name)


def build_int8_model(simulation: keras.Model, keep_channels: bool = False) -> keras.Model:
    """Build the model to convert to int8 with learned ranges.

    Args:
        simulation: what `quantized_copy` returned, with ranges.
        keep_channels: as in `build_tflite_model`.
    """
    model = build_tflite_model(simulation, keep_channels)
    for layer in model.layers:
        if layer.name == "grey":
            layer.set_weights([np.reshape(INT8_LUMA, (1, 1, 3, 1))])
    return quantized_copy(model, {"grey_range": PIXELS})


def joins_channels(model: keras.Model) -> bool:
    """Return whether a model or a nested one calls `keras.ops.stack`."""
    operations = getattr(model, "operations", model.layers)  # a Sequential has layers alone
    return any(
        joins_channels(one) if hasattr(one, "layers") else type(one).__name__ == "Stack"
        for one in operations
    )


@contextmanager
def trace(model: keras.Model) -> Iterator[str]:
    """Write a temporary SavedModel for the converter, so that all formats share one trace.

    Args:
        model: what `build_tflite_model` returned.

    Yields:
        Path of the SavedModel.
    """
    module, image = tf.Module(), model.inputs[0]
    module.weights = [weight.value for weight in model.variables]  # the saved function reads them
    module.serve = tf.function(
        lambda image: model(image, training=False),
        input_signature=[tf.TensorSpec(image.shape, tf.float32, name=image.name)],
    )
    # The names of `keras.export.ExportArchive`. They are in each .tflite file.
    signatures = {"serve": module.serve, "serving_default": module.serve}
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures)
        yield folder


def open_converter(traced: str) -> tf.lite.TFLiteConverter:
    """Return TensorFlow's converter for the SavedModel that `trace` wrote.

    `convert` uses it for any number of formats. To open it takes seconds for a large model.
    """
    return tf.lite.TFLiteConverter.from_saved_model(traced)


def convert(
    converter: tf.lite.TFLiteConverter, form: Format, calibration: np.ndarray | None
) -> bytes:
    """Return the content of a .tflite file.

    Args:
        converter: what `open_converter` returned.
        form: a row of `FORMATS`.
        calibration: images of the shape that the file takes. None: the model has the ranges.
    """
    configure(converter, form, calibration)
    if converter.representative_dataset is None or form.operators != BUILTINS_INT16:
        return converter.convert()
    # For int16x8, the converter of TensorFlow 2.21 calibrates twice and ignores the first result.
    all_images, times = converter.representative_dataset, []

    def first_image_then_all():
        times.append(1)
        return itertools.islice(all_images(), 1 if len(times) == 1 else None)

    converter.representative_dataset = first_image_then_all
    content = converter.convert()
    if len(times) == 1:  # this version calibrates once
        content = configure(converter, form, calibration).convert()
    return content


def configure(
    converter: tf.lite.TFLiteConverter, form: Format, calibration: np.ndarray | None
) -> tf.lite.TFLiteConverter:
    """Set all options of a converter for a format, and return it. See `convert`."""
    images = stretch_contrast(calibration) if form.calibrated and calibration is not None else None
    # The set of int8 operators needs calibration images. Without them, the verification checks that
    # all operators compute in integers.
    operators = BUILTINS if form.calibrated and images is None else form.operators
    converter.target_spec = tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet[operators]])
    if form.weights == "float16":  # int8 is the converter's default
        converter.target_spec.supported_types = [tf.float16]
    converter.optimizations = [] if form.weights == "float32" else [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = None if images is None else representative_dataset(images)
    converter.inference_input_type = tf.as_dtype(form.input_type)
    converter.inference_output_type = tf.as_dtype(form.output_type)
    return converter


def representative_dataset(images: np.ndarray) -> Callable[[], Iterator[list[np.ndarray]]]:
    """Return images as the converter takes them, one at a time."""
    return lambda: ([image[np.newaxis]] for image in images)


def stretch_contrast(images: np.ndarray) -> np.ndarray:
    """Stretch the image of the highest contrast to 0-255.

    The input of an int8 file then has scale 1 and zero point 0, so that it takes pixels.

    Args:
        images: (count, height, width, channels), 0-255.

    Returns:
        float32 images. All others are unchanged.
    """
    images = images.astype("float32")
    low, high = images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))
    best = (high - low).argmax()
    if high[best] == low[best]:
        raise InputError(
            "`calibration` must have an image with contrast. "
            "Received: images of a single color each. Pass training images."
        )
    # In float64 the brightest pixel becomes exactly 255. A factor in float32 can give 254.99998.
    images[best] = (
        (images[best].astype("float64") - low[best])
        * 255
        / (high[best].astype("float64") - low[best])
    )
    return images
