"""Check the arguments of `fit` before any work."""

import math

import keras

from ..class_names import check_class_names
from ..data.dataset import Dataset
from ..data.pipeline import check_data_options
from ..errors import InputError
from ..files import check_folder
from ..machine import available_memory
from ..models import all_layers, check_probabilities, plain_model, strip_auxiliary_heads
from ..recipes import Recipe
from .precision import gpus


def check_fit_arguments(model, dataset, recipe, folder):
    """Raise InputError unless `fit` can train `model` on `dataset` and write into `folder`."""
    if not is_functional(model):
        raise InputError(
            f"`model` must be a functional `keras.Model`. Received: {type(model).__name__}. "
            "Build it with keras_arch. Convert a Sequential by keras.Model(model.inputs, "
            "model.outputs)."
        )
    if not isinstance(dataset, Dataset):
        raise InputError(
            f"`dataset` must be a `keras_arch.Dataset`. Received: {type(dataset).__name__}. "
            "Load one with keras_arch.load_dataset, which also reads arrays from .npz files."
        )
    if not isinstance(recipe, Recipe):
        raise InputError(
            f"`recipe` must be a `keras_arch.Recipe`. Received: {type(recipe).__name__}. "
            "Use one of keras_arch.RECIPES."
        )
    check_folder(folder)
    check_class_names(dataset.class_names)
    check_data_options(dataset, recipe)
    strip_auxiliary_heads(model)  # raises for outputs other than auxiliary classifiers
    # plain_model raises for several inputs and for layer names that TensorFlow cannot trace.
    name, model = model.name, plain_model(model)
    check_model_shapes(model, dataset)
    check_memory(name, model, dataset, recipe)
    images, _ = dataset.train.sample(2, recipe.seed)
    # The untrained model may overflow. If the overflow remains, the NaN loss stops training.
    check_probabilities(model, images, allow_nonfinite=True)


def is_functional(model):
    """Return whether a model is a graph of layers, which `clone_model` can copy."""
    return (
        isinstance(model, keras.Model)
        and hasattr(model, "operations")
        and not isinstance(model, keras.Sequential)
    )


def check_model_shapes(model, dataset):
    """Raise InputError unless the model has the image shape and the classes of the data."""
    classes = {output.shape[-1] for output in model.outputs}
    if classes != {len(dataset.class_names)}:
        raise InputError(
            f"`model` must have {len(dataset.class_names)} classes, as {dataset.name} has. "
            f"Received: a model with {', '.join(map(str, classes))} classes."
        )
    shape = tuple(model.inputs[0].shape[1:])
    sides = zip(shape, dataset.image_shape, strict=False)
    if len(shape) != len(dataset.image_shape) or any(
        side not in (None, size) for side, size in sides
    ):
        raise InputError(
            f"`model` must take images of shape {dataset.image_shape}, as {dataset.name} has. "
            f"Received: a model for {shape}. Build it with this input_shape, or load the data with "
            "another image_size."
        )


def check_memory(name, model, dataset, recipe):
    """Raise InputError if a training step on the CPU needs more memory than is available.

    Without this check, the operating system often ends the process without an error.
    """
    if recipe.freeze == "backbone" or (keras.backend.backend() == "tensorflow" and gpus()):
        return
    needed = recipe.batch_size * kept_values(model) * (4 if recipe.precision == "float32" else 2)
    available = available_memory()
    if needed > available:
        raise InputError(
            f"A batch of {recipe.batch_size} images of {dataset.image_shape} needs more than "
            f"{needed / 1e9:,.1f} GB of memory in {name}. Received: {available / 1e9:,.1f} GB "
            "available. Pass a smaller --batch-size or --image-size."
        )


def kept_values(model):
    """Return the minimum number of values per image that training keeps for gradients.

    These are the inputs of all layers with a kernel.
    """
    inputs = {
        id(tensor): tensor.shape[1:]
        for layer in all_layers(model)
        if hasattr(layer, "kernel")
        for tensor in keras.tree.flatten(layer.input)
    }
    return sum(math.prod(shape) for shape in inputs.values() if None not in shape)
