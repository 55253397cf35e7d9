"""ResNet, GoogLeNet and Network in Network in Keras: train on your own images, export for mobile, with proof.

Importing this package does nothing else: no seed, download, logging or dtype policy. Keras itself is imported when
the first name is asked for, so that a script's --help answers at once.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors and type checkers see; __getattr__ below is what runs
    from .architectures import (
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
        available,
        build,
    )
    from .artifacts import open_artifact
    from .data import load_dataset
    from .errors import InputError
    from .evaluation import evaluate
    from .export import export_model
    from .recipes import RECIPES, Recipe
    from .training import fit

__all__ = [
    "RECIPES",
    "InputError",
    "Recipe",
    "ResNet8",
    "ResNet18",
    "ResNet20",
    "ResNet32",
    "ResNet34",
    "ResNet44",
    "ResNet50",
    "ResNet56",
    "ResNet101",
    "ResNet110",
    "ResNet152",
    "available",
    "build",
    "evaluate",
    "export_model",
    "fit",
    "load_dataset",
    "open_artifact",
]

_ROOMS = {
    "RECIPES": "recipes",
    "InputError": "errors",
    "Recipe": "recipes",
    "evaluate": "evaluation",
    "export_model": "export",
    "fit": "training",
    "load_dataset": "data",
    "open_artifact": "artifacts",
}  # and everything else lives in architectures


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module 'keras_arch' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_ROOMS.get(name, 'architectures')}", __name__), name)


def __dir__():
    return __all__
