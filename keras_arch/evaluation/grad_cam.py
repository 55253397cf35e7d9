"""Grad-CAM: heat maps of the pixels that support a classification."""

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps
from PIL import Image

from ..errors import InputError
from ..keras_private import input_tensors, operation_of, output_index
from ..models import check_backend, explain_run, strip_auxiliary_heads


def grad_cam(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return a heat map of the most probable class for each image.

    The method weighs the last feature maps larger than one pixel by the mean gradient of the log
    odds of the class. It sets negative sums to zero. Log odds have a gradient even if the
    probability rounds to 1.

    Args:
        model: A `keras.Model` from raw images to class probabilities, with feature maps.
        images: Array (batch, height, width, channels) of 0-255.

    Returns:
        Array (batch, height, width) of 0-1. The maximum of each map is 1, or 0 if nothing supports
        the class.

    Raises:
        InputError (a ValueError): Keras does not run on TensorFlow, or the model has no feature
            maps larger than one pixel.

    Reference:
        Selvaraju et al. 2017, arXiv:1610.02391.
    """
    both = with_last_maps(model)
    with explain_run(), tf.GradientTape() as tape:
        features, probabilities = both(tf.cast(images, tf.float32), training=False)
        top = tf.one_hot(tf.argmax(probabilities, axis=1), probabilities.shape[1])
        rest = tf.reduce_sum(probabilities * (1 - top), axis=1)
        score = tf.math.log(tf.reduce_max(probabilities, axis=1)) - tf.math.log(
            rest + np.finfo("float32").tiny
        )
    weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True))
    heat = tf.image.resize(heat, images.shape[1:3])[..., 0].numpy()
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def with_last_maps(model: keras.Model) -> keras.Model:
    """Return a model with two outputs: the last feature maps and the probabilities.

    The feature maps are larger than one pixel.
    """
    check_backend("grad_cam")
    model = strip_auxiliary_heads(model)
    if both := build_map_model(model.inputs, model.outputs[0], model.outputs[0]):
        return both
    raise InputError(
        "Grad-CAM needs feature maps larger than one pixel. "
        f"Received: {model.name!r}, which has none. Use a model with convolutions before its head."
    )


def build_map_model(inputs, outputs, tensor):
    """Return a model from `inputs` to [last feature maps before `tensor`, outputs], or None."""
    tensors = [tensor]
    while tensors:
        if maps := [tensor for tensor in tensors if is_map(tensor)]:
            return keras.Model(inputs, [maps[-1], outputs])
        for nested, index in find_nested_models(tensors):
            nested_input, nested_output = get_ends(nested)
            if both := build_map_model(nested_input, nested_output, nested.outputs[index]):
                return replace_nested(nested, both, keras.Model(inputs, outputs))
        tensors = list(
            {id(source): source for tensor in tensors for source in get_sources(tensor)}.values()
        )
    return None


def replace_nested(nested, both, model):
    """Return the model with the maps of a nested model as first output.

    `both` replaces the nested model. It returns the maps and the outputs.
    """
    maps = []

    def call(layer, *args, **kwargs):
        if layer is not nested:
            return layer(*args, **kwargs)
        features, outputs = both(*args, **kwargs)
        maps.append(features)
        return outputs

    same = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    return keras.Model(same.input, [maps[-1], same.output])


def find_nested_models(tensors):
    """Yield each nested model that computes a tensor, and its output index, last first."""
    for tensor in reversed(tensors):
        layer = operation_of(tensor)
        if hasattr(layer, "outputs"):
            yield layer, output_index(tensor)


def get_ends(model):
    """Return the input and output of a model as it was built.

    `input` and `output` of a nested Sequential are the tensors of its caller.
    """
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def get_sources(tensor):
    """Return the inputs of the operation that computes a tensor.

    The list is empty if the tensor is an input, or if a model without a graph computes it.
    """
    layer = operation_of(tensor)
    without_graph = isinstance(layer, keras.Model) and not hasattr(layer, "outputs")
    return [] if without_graph else input_tensors(tensor)


def is_map(tensor):
    """Return whether a tensor is a feature map of more than one pixel, and not an input."""
    layer = operation_of(tensor)
    large = len(tensor.shape) == 4 and tuple(tensor.shape[1:3]) != (1, 1)
    return large and not isinstance(layer, keras.layers.InputLayer)


def overlay(image: np.ndarray, heat: np.ndarray, scale: int) -> Image.Image:
    """Return a Pillow image of an image under its heat map, from blue (0) to red (1).

    Args:
        image: Array (height, width, 1 or 3) of 0-255.
        heat: Array (height, width) of 0-1.
        scale: Scale factor of the height and width.
    """
    colors = colormaps["jet"](heat)[..., :3] * 255
    mixed = Image.fromarray(np.uint8(0.5 * np.broadcast_to(image, colors.shape) + 0.5 * colors))
    return mixed.resize((scale * mixed.width, scale * mixed.height), Image.Resampling.NEAREST)
