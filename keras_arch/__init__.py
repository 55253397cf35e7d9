"""ResNet, GoogLeNet and Network in Network in Keras.

Train on your images, then export verified models for mobile. Importing this package has no side
effects. Public names are imported at first use, so `--help` of a script does not import Keras.
"""

import importlib

__version__ = "0.1.0"

# {module: public names}. __init__.pyi has the same names for editors.
_PUBLIC = {
    "architectures.registry": ("available", "build"),
    "architectures.googlenet": (
        "GoogLeNet",
        "Inception",
        "inception_module",
        "naive_inception_module",
    ),
    "architectures.network_in_network": ("NetworkInNetwork", "mlpconv"),
    "architectures.resnet.builders": (
        *("ResNet18", "ResNet34", "ResNet50", "ResNet101", "ResNet152"),
        *("ResNet8", "ResNet20", "ResNet32", "ResNet44", "ResNet56", "ResNet110"),
        *("Plain18", "Plain34", "Plain20", "Plain32", "Plain44", "Plain56"),
        *(
            "ResNet20V2",
            "ResNet56V2",
            "ResNet110V2",
            "ResNet164V2",
            "ResNet50V2",
            "ResNet101V2",
            "ResNet152V2",
        ),
    ),
    "architectures.resnet.blocks": (
        *("Parts", "basic_block", "bottleneck_block", "plain_block"),
        *("preactivation_basic_block", "preactivation_bottleneck_block"),
    ),
    "artifacts.open": ("open_artifact",),
    "data.dataset": ("Dataset",),
    "data.load": ("load_dataset",),
    "errors": ("DataWarning", "InputError"),
    "evaluation.cost": ("cost",),
    "evaluation.evaluate": ("evaluate",),
    "export.model": ("export_model",),
    "formats": ("ExportSettings",),
    "models": ("strip_auxiliary_heads",),
    "recipes": ("RECIPES", "Recipe"),
    "training.fit": ("fit",),
    "weights.torchvision": ("load_torchvision_weights",),
    "weights.transfer": ("transfer_weights",),
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras_arch' has no attribute {name!r}")
    from .errors import explain_surroundings

    with explain_surroundings():  # Keras may not be importable
        return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__():
    return __all__
