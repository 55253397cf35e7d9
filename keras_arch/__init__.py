"""ResNet, GoogLeNet and Network in Network in Keras.

Train on your images, then export verified models for mobile. Importing this package has no side
effects. Public names are imported at first use, so `--help` of a script does not import Keras.
"""

import importlib

from .architectures.registry import ARCHITECTURES

__version__ = "0.1.0"

# {module: public names} without the builders, which are in the registry.
_PUBLIC = {
    "architectures.registry": ("available", "build"),
    "architectures.googlenet": ("Inception", "inception_module", "naive_inception_module"),
    "architectures.network_in_network": ("mlpconv",),
    "architectures.resnet.blocks": (
        *("Parts", "basic_block", "bottleneck_block", "plain_block"),
        *("preactivation_basic_block", "preactivation_bottleneck_block"),
    ),
    "artifacts.open": ("open_artifact",),
    "data.dataset": ("Dataset",),
    "data.load": ("load_dataset",),
    "errors": ("DataWarning", "InputError", "VerificationError"),
    "evaluation.calibrate": ("calibrate",),
    "evaluation.cost": ("cost",),
    "evaluation.evaluate": ("evaluate",),
    "export.classifier": ("export_and_verify",),
    "export.model": ("export_model",),
    "export.verification.result": ("FileVerification",),
    "export.verification.spec": ("FileSpec", "TensorSpec"),
    "export.verification.verify": ("Reference", "verify"),
    "formats": ("ExportSettings",),
    "models": ("feature_maps", "feature_strides", "strip_auxiliary_heads"),
    "quantization.ranges": ("read_int8_ranges",),
    "recipes": ("RECIPES", "Recipe"),
    "training.fit": ("fit",),
    "weights.torchvision": ("load_torchvision_weights",),
    "weights.transfer": ("transfer_weights",),
}
_MODULE_OF = {row.builder: f"architectures.{row.module}" for row in ARCHITECTURES.values()}
_MODULE_OF |= {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'keras_arch' has no attribute {name!r}")
    from .errors import explain_surroundings

    module = _MODULE_OF[name]
    with explain_surroundings("export" if module.startswith("export.") else None):
        return getattr(importlib.import_module(f".{module}", __name__), name)


def __dir__():
    return __all__
