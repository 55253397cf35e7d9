"""Where a model looked: Grad-CAM."""

import keras
import numpy as np
import tensorflow as tf
from matplotlib import colormaps
from PIL import Image

from ..errors import InputError
from ..models import check_backend, strip_auxiliary_heads


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
        InputError (a ValueError): Keras does not run on TensorFlow; no feature maps larger than one pixel.

    Reference: Selvaraju et al. 2017, arXiv:1610.02391.
    """
    both = with_last_maps(model)
    with tf.GradientTape() as tape:
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


def with_last_maps(model):
    """The same model with two outputs: its last feature maps that are larger than one pixel, and its answer."""
    check_backend("grad_cam")
    model = strip_auxiliary_heads(model)
    if both := maps_and_output(model.inputs, model.outputs[0], model.outputs[0]):
        return both
    raise InputError(
        f"Grad-CAM cannot explain {model.name!r}: no feature maps larger than one pixel lead to its output. Explain a "
        "model with convolutions in front of its classifier"
    )


def maps_and_output(inputs, outputs, tensor):
    """A model from `inputs` to [the last feature maps that lead to `tensor`, outputs], or None without such maps."""
    tensors = [tensor]
    while tensors:
        if maps := [tensor for tensor in tensors if is_map(tensor)]:
            return keras.Model(inputs, [maps[-1], outputs])
        for nested, index in nested_models(tensors):
            nested_input, nested_output = ends(nested)
            if both := maps_and_output(nested_input, nested_output, nested.outputs[index]):
                return with_maps_of(nested, both, keras.Model(inputs, outputs))
        tensors = list(
            {id(source): source for tensor in tensors for source in sources(tensor)}.values()
        )
    return None


def with_maps_of(nested, both, model):
    """The same model with the maps of a nested one as its first output; `both` takes its part and gives them."""
    maps = []

    def call(layer, *args, **kwargs):
        if layer is not nested:
            return layer(*args, **kwargs)
        features, outputs = both(*args, **kwargs)
        maps.append(features)
        return outputs

    same = keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)
    return keras.Model(same.input, [maps[-1], same.output])


def nested_models(tensors):
    """Yield each nested model that gives one of the tensors, the last first, and which of its outputs that is."""
    for tensor in reversed(tensors):
        layer, _, index = tensor._keras_history
        if hasattr(layer, "outputs"):
            yield layer, index


def ends(model):
    """The input and the output of a model as it was built; of a Sequential, `input` and `output` are those of its caller."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0], model.outputs[0]
    return model.input, model.output


def sources(tensor):
    """The tensors that a tensor is computed from; none if it is an input, or if a model without a graph computes it."""
    layer, node, _ = tensor._keras_history
    without_graph = isinstance(layer, keras.Model) and not hasattr(layer, "outputs")
    return [] if without_graph else layer._inbound_nodes[node].input_tensors


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
