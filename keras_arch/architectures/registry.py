"""The registry of all architectures by name."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from ..errors import choose
from .googlenet import GoogLeNet
from .network_in_network import NetworkInNetwork
from .resnet.builders import (
    Plain18,
    Plain20,
    Plain32,
    Plain34,
    Plain44,
    Plain56,
    ResNet8,
    ResNet18,
    ResNet20,
    ResNet20V2,
    ResNet32,
    ResNet34,
    ResNet44,
    ResNet50,
    ResNet50V2,
    ResNet56,
    ResNet56V2,
    ResNet101,
    ResNet101V2,
    ResNet110,
    ResNet110V2,
    ResNet152,
    ResNet152V2,
    ResNet164V2,
)

BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "googlenet": GoogLeNet,
    "nin": NetworkInNetwork,
    **{
        builder.__name__.lower(): builder
        for builder in (
            *(ResNet18, ResNet34, ResNet50, ResNet101, ResNet152),
            *(ResNet8, ResNet20, ResNet32, ResNet44, ResNet56, ResNet110),
            *(Plain18, Plain34, Plain20, Plain32, Plain44, Plain56),
            *(
                ResNet20V2,
                ResNet56V2,
                ResNet110V2,
                ResNet164V2,
                ResNet50V2,
                ResNet101V2,
                ResNet152V2,
            ),
        )
    },
}


def available() -> list[str]:
    """Return the sorted names of all architectures.

    Example:
        keras_arch.available()[:2]  # ["googlenet", "nin"]
    """
    return sorted(BUILDERS)


def build(name: str, **options: Any) -> keras.Model:
    """Build an architecture by name.

    Args:
        name: A name in `available()`, such as "resnet20". Upper and lower case are equal.
        **options: Arguments of the builder, such as `input_shape` and `classes`.

    Returns:
        A functional `keras.Model` from raw images of 0-255 to class probabilities.

    Raises:
        InputError (a ValueError): The name is unknown, the builder does not have an option, or its
            value is invalid.

    Example:
        model = keras_arch.build("resnet20", input_shape=(32, 32, 3), classes=10)
    """
    builder = BUILDERS[choose("the name of a model", str(name).lower(), available())]
    for option in options:
        choose(f"an option of {name}", option, list(inspect.signature(builder).parameters))
    return builder(**options)
