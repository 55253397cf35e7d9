"""TFLite files of built-in operators only, one image at a time."""

import tempfile
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from ..errors import InputError

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, by which the data stage, too, makes colour grey
OPERATORS = {
    "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
    "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}  # and the plain ones for every other format


def build_tflite_model(model, keep_channels=False):
    """The model as a phone meets it: one input, `image`, of three channels, and one output, `probabilities`.

    Args:
        model: a `keras.Model` from raw images (batch, height, width, channels) to probabilities.
        keep_channels: leave a model of one channel as it is. A camera gives three, so otherwise a 1x1 convolution that
            weighs red, green and blue as the eye does stands in front: a grey picture repeated three times is the
            picture itself.
    """
    height, width, channels = model.input_shape[1:]
    if channels != 1 or keep_channels:
        image = x = keras.Input((height, width, channels), batch_size=1, name="image")
    else:
        image = keras.Input((height, width, 3), batch_size=1, name="image")
        grey = layers.Conv2D(1, 1, use_bias=False, name="grey")
        x = grey(image)
        grey.set_weights([np.reshape(LUMA, (1, 1, 3, 1))])
    return keras.Model(image, {"probabilities": model(x)}, name=model.name)


@contextmanager
def trace(model):
    """A temporary SavedModel of `phone_model(...)` that converters read, so that it is traced once for all formats."""
    with tempfile.TemporaryDirectory() as folder:
        archive = keras.export.ExportArchive()
        archive.track(model)
        (image,) = model.inputs
        signature = [tf.TensorSpec(image.shape, tf.float32, name=image.name)]
        archive.add_endpoint(
            "serve", lambda image: model(image, training=False), input_signature=signature
        )
        archive.write_out(folder, verbose=False)
        yield folder


def converter_of(saved_model, name, form, calibration):
    """TensorFlow's converter, set for one of FORMATS; `calibration` are images as the file will take them."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.target_spec.supported_ops = [OPERATORS.get(name, tf.lite.OpsSet.TFLITE_BUILTINS)]
    if name != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if form.calibrated:
        converter.representative_dataset = representative_dataset(full_range(calibration))
        converter.inference_input_type = tf.as_dtype(form.input_type)
        converter.inference_output_type = tf.as_dtype(form.output_type)
    return converter


def representative_dataset(images):
    """Images one at a time, as the converter asks for them."""
    return lambda: ([image[np.newaxis]] for image in images)


def full_range(images):
    """Stretch the image of most contrast to 0-255, so that an int8 file's input is the pixel: scale 1, zero point 0."""
    images = images.astype("float32")
    low, high = images.min(axis=(1, 2, 3)), images.max(axis=(1, 2, 3))
    best = (high - low).argmax()
    if high[best] == low[best]:
        raise InputError(
            "expected calibration images with something in them, got none but of a single colour each"
        )
    # In float64 the brightest pixel becomes exactly 255. A factor in float32 can give 254.99998.
    images[best] = (
        (images[best].astype("float64") - low[best])
        * 255
        / (high[best].astype("float64") - low[best])
    )
    return images


def convert(saved_model, name, form, calibration):
    """The bytes of a TFLite file in one of FORMATS."""
    return converter_of(saved_model, name, form, calibration).convert()
