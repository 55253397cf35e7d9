"""ResNet, GoogLeNet and Network in Network in Keras: train on your own images, export for mobile, with proof.

Importing this package does nothing else: no seed, download, logging or dtype policy. Keras itself is imported when
the first name is asked for, so that a script's --help answers at once.
"""

import importlib
from typing import TYPE_CHECKING

from .errors import explain_surroundings

if TYPE_CHECKING:  # what editors and type checkers see; __getattr__ below is what runs
    from .architectures import (
        GoogLeNet,
        NetworkInNetwork,
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
    from .architectures.googlenet import Inception, inception_module, naive_inception_module
    from .architectures.network_in_network import mlpconv
    from .architectures.registry import available, build
    from .architectures.resnet.blocks import (
        Parts,
        basic_block,
        bottleneck_block,
        plain_block,
        preactivation_basic_block,
        preactivation_bottleneck_block,
    )
    from .artifacts.open import open_artifact
    from .data.load import load_dataset
    from .errors import DataWarning, InputError
    from .evaluation.cost import cost
    from .evaluation.evaluate import evaluate
    from .export.model import export_model
    from .formats import ExportSettings
    from .models import strip_auxiliary_heads
    from .recipes import RECIPES, Recipe
    from .training.fit import fit
    from .weights.torchvision import load_torchvision_weights
    from .weights.transfer import transfer_weights

__all__ = [
    "RECIPES",
    "DataWarning",
    "ExportSettings",
    "GoogLeNet",
    "Inception",
    "InputError",
    "NetworkInNetwork",
    "Parts",
    "Plain18",
    "Plain20",
    "Plain32",
    "Plain34",
    "Plain44",
    "Plain56",
    "Recipe",
    "ResNet8",
    "ResNet18",
    "ResNet20",
    "ResNet20V2",
    "ResNet32",
    "ResNet34",
    "ResNet44",
    "ResNet50",
    "ResNet50V2",
    "ResNet56",
    "ResNet56V2",
    "ResNet101",
    "ResNet101V2",
    "ResNet110",
    "ResNet110V2",
    "ResNet152",
    "ResNet152V2",
    "ResNet164V2",
    "available",
    "basic_block",
    "bottleneck_block",
    "build",
    "cost",
    "evaluate",
    "export_model",
    "fit",
    "inception_module",
    "load_dataset",
    "load_torchvision_weights",
    "mlpconv",
    "naive_inception_module",
    "open_artifact",
    "plain_block",
    "preactivation_basic_block",
    "preactivation_bottleneck_block",
    "strip_auxiliary_heads",
    "transfer_weights",
]

_ROOMS = {
    "RECIPES": "recipes",
    "DataWarning": "errors",
    "ExportSettings": "formats",
    "Inception": "architectures.googlenet",
    "InputError": "errors",
    "Parts": "architectures.resnet.blocks",
    "Recipe": "recipes",
    "basic_block": "architectures.resnet.blocks",
    "bottleneck_block": "architectures.resnet.blocks",
    "cost": "costs",
    "evaluate": "evaluation",
    "export_model": "export",
    "fit": "training",
    "inception_module": "architectures.googlenet",
    "load_dataset": "data",
    "load_torchvision_weights": "weights",
    "mlpconv": "architectures.network_in_network",
    "naive_inception_module": "architectures.googlenet",
    "open_artifact": "artifacts",
    "plain_block": "architectures.resnet.blocks",
    "preactivation_basic_block": "architectures.resnet.blocks",
    "preactivation_bottleneck_block": "architectures.resnet.blocks",
    "strip_auxiliary_heads": "artifacts",
    "transfer_weights": "weights",
}  # and everything else, the builders, lives in architectures


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module 'keras_arch' has no attribute {name!r}")
    with explain_surroundings():
        room = importlib.import_module(f".{_ROOMS.get(name, 'architectures')}", __name__)
    return getattr(room, name)


def __dir__():
    return __all__
