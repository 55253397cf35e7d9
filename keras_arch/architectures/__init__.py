"""The registry: every architecture by its name."""

import difflib

from ..errors import InputError
from .resnet import (
    ResNet8,
    ResNet18,
    ResNet20,
    ResNet32,
    ResNet34,
    ResNet44,
    ResNet50,
    ResNet56,
    ResNet101,
    ResNet110,
    ResNet152,
)

BUILDERS = {
    builder.__name__.lower(): builder
    for builder in (
        *(ResNet18, ResNet34, ResNet50, ResNet101, ResNet152),
        *(ResNet8, ResNet20, ResNet32, ResNet44, ResNet56, ResNet110),
    )
}


def available():
    """The names that `build` knows, sorted."""
    return sorted(BUILDERS)


def build(name, **options):
    """Build the architecture called `name`; `options` are those of its builder.

    Args:
        name: one of `available()`, such as "resnet20".
        **options: `input_shape`, `classes` and whatever else the builder takes.

    Returns:
        A functional `keras.Model` from raw images of 0-255 to class probabilities.

    Raises:
        InputError (a ValueError): an unknown name, or an option whose value cannot be used.

    Example:
        model = keras_arch.build("resnet20", input_shape=(32, 32, 3), classes=10)
    """
    if name not in BUILDERS:
        near = difflib.get_close_matches(name, available(), n=3, cutoff=0.5) or available()
        raise InputError(f"expected the name of a model, got {name!r}; did you mean {', '.join(near)}?")
    return BUILDERS[name](**options)
