"""Where a model looked: Grad-CAM."""

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps
from PIL import Image


def grad_cam(model, images):
    """For each image, where the most probable class has its evidence.

    The last feature maps are weighed by how much each one's mean raises the logarithm of the class's probability; what lowers
    it is left out.

    Args:
        model: a `keras.Model` from raw images to class probabilities, with feature maps before its head.
        images: (batch, height, width, channels) of 0-255.

    Returns:
        (batch, height, width) of 0-1, resized to the images; all zero where nothing raises the class.

    Reference: Selvaraju et al. 2017, arXiv:1610.02391.
    """
    maps = next(layer.output for layer in reversed(model.layers) if len(layer.output.shape) == 4)
    both = keras.Model(model.inputs, [maps, model.outputs[0]])
    with tf.GradientTape() as tape:
        features, probabilities = both(tf.cast(images, tf.float32), training=False)
        score = tf.math.log(tf.reduce_max(probabilities, axis=1) + keras.config.epsilon())
    weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True))
    heat = tf.image.resize(heat, images.shape[1:3])[..., 0].numpy()
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def overlay(image, heat, scale):
    """A Pillow image of `image` (height, width, 1 or 3) under its heat, `scale` times as large: blue is nothing, red most."""
    colours = colormaps["jet"](heat)[..., :3] * 255
    mixed = Image.fromarray(np.uint8(0.5 * np.broadcast_to(image, colours.shape) + 0.5 * colours))
    return mixed.resize((scale * mixed.width, scale * mixed.height), Image.Resampling.NEAREST)
