"""What `fit` demands of its arguments before it does any work."""

import math

import keras
import numpy as np

from ..data.dataset import Dataset
from ..data.pipeline import check_batch_size
from ..errors import InputError
from ..files import check_folder
from ..machine import available_memory
from ..models import all_layers, are_probabilities, plain_model, strip_auxiliary_heads
from ..recipes import Recipe
from .precision import gpus


def check_arguments(model, dataset, recipe, folder):
    """Raise InputError unless `fit` can train `model` on `dataset` as `recipe` says and write into `folder`."""
    if not is_functional(model):
        raise InputError(
            f"`model` must be a functional `keras.Model`. Received: {type(model).__name__}. Build it with keras_arch, or "
            "make a built Sequential functional: keras.Model(model.inputs, model.outputs)."
        )
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"`dataset` must be a `keras_arch.data.dataset.Dataset`. Received: {type(dataset).__name__}. Load one with "
            "keras_arch.load_dataset; it takes an .npz file of arrays, too."
        )
    if not isinstance(recipe, Recipe):
        raise InputError(
            f"`recipe` must be a `keras_arch.Recipe`. Received: {type(recipe).__name__}. Take one of keras_arch.RECIPES."
        )
    check_folder(folder)
    check_batch_size(dataset, recipe)
    strip_auxiliary_heads(model)  # refuses other outputs than training heads
    name, model = (
        model.name,
        plain_model(model),
    )  # refuses several inputs, and names that cannot be traced
    check_shapes(model, dataset)
    check_memory(name, model, dataset, recipe)
    check_probabilities(model, dataset, recipe.seed)


def is_functional(model):
    """Whether a model is a graph of layers that can be copied, which a Sequential or a subclass need not be."""
    return (
        isinstance(model, keras.Model)
        and hasattr(model, "operations")
        and not isinstance(model, keras.Sequential)
    )


def check_shapes(model, dataset):
    """Raise InputError unless the model takes the images of the data and gives a number for each class."""
    classes = {output.shape[-1] for output in model.outputs}
    if classes != {len(dataset.class_names)}:
        raise InputError(
            f"`model` must have {len(dataset.class_names)} classes, as {dataset.name} has. Received: a model with "
            f"{', '.join(map(str, classes))} classes."
        )
    shape = tuple(model.inputs[0].shape[1:])
    sides = zip(shape, dataset.image_shape, strict=False)
    if len(shape) != len(dataset.image_shape) or any(
        side not in (None, size) for side, size in sides
    ):
        raise InputError(
            f"`model` must take images of {dataset.image_shape}, as {dataset.name} has. Received: a model for "
            f"{shape}. Build it with this input_shape, or load the data with another image_size."
        )


def check_memory(name, model, dataset, recipe):
    """Raise InputError if a training step on the CPU needs more memory than there is.

    Where TensorFlow finds no memory, the operating system often ends the process without an error.
    """
    if recipe.freeze == "backbone" or (keras.backend.backend() == "tensorflow" and gpus()):
        return
    needed = recipe.batch_size * kept_values(model) * (4 if recipe.precision == "float32" else 2)
    available = available_memory()
    if needed > available:
        raise InputError(
            f"{recipe.batch_size} images of {dataset.image_shape} in a batch need more than {needed / 1e9:,.1f} GB of memory "
            f"in {name}. Received: {available / 1e9:,.1f} GB available. Pass a smaller --batch-size or --image-size."
        )


def kept_values(model):
    """Return how many values of each image training keeps at least: inputs of layers with a kernel, for its gradient."""
    inputs = {
        id(tensor): tensor.shape[1:]
        for layer in all_layers(model)
        if hasattr(layer, "kernel")
        for tensor in keras.tree.flatten(layer.input)
    }
    return sum(math.prod(shape) for shape in inputs.values() if None not in shape)


def check_probabilities(model, dataset, seed):
    """Raise InputError if an output of the model is no probabilities for two training images, as the losses need it."""
    images, _ = dataset.train.sample(2, seed)
    outputs = keras.tree.flatten(model(images, training=False))
    for name, output in zip(
        model.output_names, map(keras.ops.convert_to_numpy, outputs), strict=True
    ):
        # Infinite or NaN outputs say nothing about the last layer. The loss stops training then.
        if np.isfinite(output).all() and not are_probabilities(output):
            raise InputError(
                f"The output `{name}` must be class probabilities. Received: values from {output.min():.3g} to "
                f'{output.max():.3g}. Build the model with classifier_activation="softmax", or end it with a Softmax layer.'
            )
