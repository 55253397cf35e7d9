"""Check the arguments of `fit` before any work."""

import dataclasses
import math
from pathlib import Path

import keras
import numpy as np

from ..class_names import check_class_names
from ..data.convert import InBatches, to_dataset
from ..data.pipeline import check_data_options, early_shape
from ..errors import InputError, first_line
from ..files import check_writable, is_path
from ..machine import available_memory
from ..models import (
    all_layers,
    check_probabilities,
    plain_model,
    resize_model,
    run_model,
    strip_auxiliary_heads,
)
from ..quantization.copy import check_quantizable
from ..recipes import RECIPES, Recipe
from ..text import brief, shorten
from .precision import trains_on_accelerator
from .spread import ALONE, check_spread


def check_fit_arguments(model, data, recipe, folder, spread=ALONE):
    """Raise InputError unless `fit` can train `model` on `data` and write into `folder`.

    Returns:
        The data as a `Dataset`, and the recipe. For batches of the caller, the recipe has their
        batch size.
    """
    check_trainable(model)
    if not isinstance(recipe, Recipe):
        known = isinstance(recipe, str) and recipe in RECIPES
        fix = f'Pass keras_arch.RECIPES["{recipe}"].' if known else "Use one of keras_arch.RECIPES."
        raise InputError(
            f"`recipe` must be a `keras_arch.Recipe`. Received: {brief(recipe)}. {fix}"
        )
    if not is_path(folder):
        raise InputError(f"`folder` must be the path of a directory. Received: {brief(folder)}.")
    if spread.part.index == 0:  # other processes do not write
        check_writable(Path(folder))
    dataset = to_dataset(data, model.outputs[0].shape[-1] or 0)
    if isinstance(dataset.train, InBatches):
        recipe = dataclasses.replace(recipe, batch_size=dataset.train.batch_size)
    check_class_names(dataset.class_names)
    check_data_options(dataset, recipe)
    check_spread(spread, dataset, recipe)
    strip_auxiliary_heads(model)  # raises for outputs other than auxiliary classifiers
    # plain_model raises for several inputs and for layer names that TensorFlow cannot trace.
    name, model = model.name, plain_model(model)
    check_model_shapes(model, dataset)
    if recipe.quantize_aware == "int8":
        check_quantizable(model)
    check_early_size(model, dataset, recipe)
    check_memory(name, model, dataset, recipe, spread)
    images, _ = dataset.train.sample(2, recipe.seed)
    # The untrained model may overflow. If the overflow remains, the NaN loss stops training.
    check_probabilities(model, images, allow_nonfinite=True)
    return dataset, recipe


def check_trainable(model):
    """Raise InputError unless a model is a graph of layers that is not compiled."""
    if isinstance(model, keras.Sequential) and not hasattr(model, "outputs"):
        raise InputError(
            f"`model` must have an input shape. Received: the Sequential {shorten(model.name)} "
            "without one. Begin it with keras.Input((height, width, channels))."
        )
    if not isinstance(model, keras.Model) or not hasattr(model, "outputs"):
        raise InputError(
            f"`model` must be a functional or Sequential `keras.Model`. Received: {brief(model)}. "
            "Build it with keras_arch, or with keras.Model(inputs, outputs)."
        )
    if model.compiled:
        raise InputError(
            "`model` must not be compiled, because `fit` would ignore its optimizer, loss and "
            f"metrics. Received: {shorten(model.name)}, compiled. Pass a recipe, `loss` and "
            "`metrics` to `fit`, and set model.compiled = False."
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


def check_early_size(model, dataset, recipe):
    """Raise InputError unless the model can also be trained on images of `early_size`."""
    if recipe.early_size is None:
        return
    shape = early_shape(dataset, recipe)
    if recipe.early_size >= dataset.image_shape[0]:
        raise InputError(
            f"`early_size` must be below {dataset.image_shape[0]} pixels, the image height of "
            f"{dataset.name}. Received: early_size={recipe.early_size}. Pass a smaller "
            "--early-size."
        )
    if len(model.outputs) > 1:
        raise InputError(
            "`early_size` needs a model without auxiliary classifiers, which take one image size. "
            f"Received: {len(model.outputs)} outputs. Pass auxiliary_heads=False, or --early-size "
            "None."
        )
    try:
        run_model(resize_model(model, None, None), np.zeros((1, *shape)))
    except InputError as error:
        raise InputError(
            f"`early_size` must be a size that the model can take. Received: {shape[0]}x{shape[1]} "
            f"pixels: {first_line(error.__cause__ or error)}. Pass a larger --early-size, or --early-size None."
        ) from error


def check_memory(name, model, dataset, recipe, spread=ALONE):
    """Raise InputError if a training step on the CPU needs more memory than is available.

    Without this check, the operating system often ends the process without an error.
    """
    frozen = recipe.phases[-1].recipe.freeze == "backbone"
    if frozen or trains_on_accelerator():
        return
    images = recipe.batch_size // spread.part.count  # of this process
    is_float32 = recipe.precision == "float32" or recipe.quantize_aware == "int8"
    needed = images * kept_values(model) * (4 if is_float32 else 2)
    available = available_memory()
    if needed > available:
        raise InputError(
            f"A batch of {images} images of {dataset.image_shape} needs more than "
            f"{needed / 1e9:,.1f} GB of memory in {name}. Received: {available / 1e9:,.1f} GB "
            "available. Pass a smaller batch_size or image_size (--batch-size, --image-size)."
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
