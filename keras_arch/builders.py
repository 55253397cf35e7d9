"""The builder of a recipe: an architecture of this package, or a function in a file of the user."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .architectures.registry import check_builder_options, find_architecture
from .errors import InputError, first_line, is_out_of_memory
from .plugins import load_function
from .recipes import FIXED_ARGUMENTS, Recipe

if TYPE_CHECKING:
    import keras


def builder_of(recipe: Recipe) -> Callable[..., keras.Model]:
    """Return the builder of a recipe with its options.

    Args:
        recipe: a recipe. Its `model` is a name in `keras_arch.available()` or FILE.py:function.

    Returns:
        A function of `input_shape` and `classes` that returns a `keras.Model`.

    Raises:
        InputError (a ValueError): the builder does not exist, or does not take `input_shape`,
            `classes` and the options of the recipe. The builder checks their values when it is
            called.
    """
    if ".py" not in recipe.model:
        builder = find_architecture(recipe.model)
        check_builder_options(recipe.model, builder, recipe.builder_options, FIXED_ARGUMENTS)
        return partial(builder, **recipe.builder_options)
    builder, name = load_function(recipe.model), Path(recipe.model).name
    check_builder_options(name, builder, recipe.builder_options, FIXED_ARGUMENTS)
    check_call(name, builder, recipe.builder_options)
    return partial(call_function, name, builder, **recipe.builder_options)


def check_call(name: str, builder: Callable, options: dict[str, Any]) -> None:
    """Raise InputError unless `builder(input_shape=..., classes=..., **options)` is a valid call."""
    try:
        inspect.signature(builder).bind(input_shape=(1, 1, 1), classes=2, **options)
    except TypeError as error:
        raise InputError(
            f"{name} must be a function of `input_shape` and `classes` whose other arguments have "
            f"defaults or are in --model-options. Received: {first_line(error)}."
        ) from error


def call_function(name: str, builder: Callable, **options: Any) -> keras.Model:
    """Return the model that a function of the user builds.

    Raises:
        InputError (a ValueError): the function raises an exception or does not return a
            `keras.Model`.
    """
    import keras

    try:
        model = builder(**options)
    except Exception as error:  # the function may raise any exception
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        place = traceback.extract_tb(error.__traceback__)[1:2]
        line = f" in line {place[0].lineno}" if place else ""
        raise InputError(
            f"{name} failed{line}. Received: {type(error).__name__}: {first_line(error)}. "
            "Correct the function or its options."
        ) from error
    if not isinstance(model, keras.Model):
        raise InputError(
            f"{name} must return a `keras.Model`. Received: {type(model).__name__}. "
            "Return keras.Model(inputs, outputs)."
        )
    return model
