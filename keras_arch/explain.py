"""Where a model looked: Grad-CAM."""

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps
from PIL import Image

from .artifacts import strip_auxiliary_heads
from .errors import InputError
from .models import check_backend


def grad_cam(model, images):
    """For each image, where the most probable class has its evidence.

    The last feature maps larger than one pixel are weighed by how much each one's mean raises the logarithm of the class's odds; what lowers them
    is left out. Of odds, since a probability that rounds to 1 has no slope.

    Args:
        model: a `keras.Model` from raw images to class probabilities, with feature maps before its head.
        images: (batch, height, width, channels) of 0-255.

    Returns:
        (batch, height, width) of 0-1, resized to the images; all zero where nothing raises the class.

    Raises:
        InputError (a ValueError): Keras does not run on TensorFlow; no feature maps larger than one pixel, or they are
            inside another model with the head.

    Reference: Selvaraju et al. 2017, arXiv:1610.02391.
    """
    both = with_last_maps(model)
    with tf.GradientTape() as tape:
        features, probabilities = both(tf.cast(images, tf.float32), training=False)
        top = tf.one_hot(tf.argmax(probabilities, axis=1), probabilities.shape[1])
        rest = tf.reduce_sum(probabilities * (1 - top), axis=1)
        score = tf.math.log(tf.reduce_max(probabilities, axis=1)) - tf.math.log(rest + np.finfo("float32").tiny)
    weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True))
    heat = tf.image.resize(heat, images.shape[1:3])[..., 0].numpy()
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def with_last_maps(model):
    """The same model with two outputs: its last feature maps that are larger than one pixel, and its answer."""
    check_backend("grad_cam")
    model = strip_auxiliary_heads(model)
    tensors = [model.outputs[0]]
    while tensors:
        if maps := [tensor for tensor in tensors if is_map(tensor)]:
            return keras.Model(model.inputs, [maps[-1], model.outputs[0]])
        tensors = list({id(source): source for tensor in tensors for source in sources(tensor)}.values())
    raise InputError(
        f"Grad-CAM cannot explain {model.name!r}: no feature maps larger than one pixel lead to its output in the model "
        "itself. Explain a classifier inside another model on its own"
    )


def sources(tensor):
    """The tensors that a tensor is computed from; none if a whole model computes it, or if it is an input."""
    layer, node, _ = tensor._keras_history
    return [] if isinstance(layer, keras.Model) else layer._inbound_nodes[node].input_tensors


def is_map(tensor):
    """Whether a tensor is (batch, height, width, channels) of more than one pixel, and not an input."""
    layer = tensor._keras_history.operation
    large = len(tensor.shape) == 4 and tuple(tensor.shape[1:3]) != (1, 1)
    return large and not isinstance(layer, keras.layers.InputLayer)


def overlay(image, heat, scale):
    """A Pillow image of `image` (height, width, 1 or 3) under its heat, `scale` times as large: blue is nothing, red most."""
    colours = colormaps["jet"](heat)[..., :3] * 255
    mixed = Image.fromarray(np.uint8(0.5 * np.broadcast_to(image, colours.shape) + 0.5 * colours))
    return mixed.resize((scale * mixed.width, scale * mixed.height), Image.Resampling.NEAREST)
