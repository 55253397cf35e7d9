"""The registry: every architecture by its name."""

import inspect

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

BUILDERS = {
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


def available():
    """The names that `build` knows, sorted."""
    return sorted(BUILDERS)


def build(name, **options):
    """Build the architecture called `name`; `options` are those of its builder.

    Args:
        name: one of `available()`, such as "resnet20", in upper or lower case.
        **options: `input_shape`, `classes` and whatever else the builder takes.

    Returns:
        A functional `keras.Model` from raw images of 0-255 to class probabilities.

    Raises:
        InputError (a ValueError): an unknown name, or an option that the builder does not have or cannot use.

    Example:
        model = keras_arch.build("resnet20", input_shape=(32, 32, 3), classes=10)
    """
    builder = BUILDERS[choose("the name of a model", str(name).lower(), available())]
    for option in options:
        choose(f"an option of {name}", option, list(inspect.signature(builder).parameters))
    return builder(**options)
