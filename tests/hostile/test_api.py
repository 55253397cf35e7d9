"""Bad arguments of public functions: an `InputError` of one line, and no file is written."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest
from harness import LONGEST, parameters, time_limit, tree_of, world  # noqa: F401

import keras_arch
from keras_arch.architectures.registry import ARCHITECTURES

# Values that no argument accepts.
WRONG = {
    "object": object(),
    "set": {1},
    "bytes": b"\x00",
    "NaN": float("nan"),
    "negative": -1,
    "huge": 10**19,
    "minus infinity": float("-inf"),
    "complex": 1j,
    "empty text": "",
    "NUL": "a\0b",
    "long text": "x" * 9999,
    "line break": "one\ntwo",
    "empty list": [],
    "nested": [[[]]],
    "array": np.full((2, 3), np.nan),
    "function": len,
}
NAMES = ("empty text", "long text", "line break", "NUL")
BUILDER = {  # argument of a builder: names of the values that it accepts
    "weights": (),
    "input_tensor": (),
    "input_shape": (),
    "classes": ("huge",),
    "classifier_activation": ("function",),
    "name": ("long text", "line break", "NUL"),
    "pooling": (),
    "stem": (),
    "mean": (),
    "std": (),
}
RESIDUAL = {
    "shortcut": (),
    "variant": (),
    "stochastic_depth_rate": (),
    "squeeze_excitation_ratio": (),
}
GOOGLENET = {"width": (), "kernel_5x5": ()}
OTHERS = {  # function: arguments as in BUILDER
    "build": {"name": ()},
    "calibrate": {"model": (), "dataset": (), "accuracy": ()},
    "cost": {"model": (), "input_shape": ()},
    "evaluate": {"artifact": (), "dataset": (), "split": ()},
    "export_model": {
        "model": (),
        "folder": (),
        "class_names": ("line break",),
        "calibration": (),
        "settings": (),
        "ranges": ("None",),
    },
    "read_int8_ranges": {"path": ()},
    "feature_maps": {"model": ()},
    "feature_strides": {"model": ()},
    "export_and_verify": {
        "model": (),
        "folder": ("bytes", "long text", "line break"),
        "class_names": ("line break",),
        "calibration": (),
        "test": (),
        "settings": (),
        "ranges": ("None",),
    },
    "verify": {"folder": (), "reference": (), "specs": ()},
    "fit": {
        **dict.fromkeys(("model", "data", "recipe", "loss", "teacher"), ()),
        "folder": ("line break",),
        **dict.fromkeys(("callbacks", "metrics"), ("empty list",)),
        "augment": (),
    },
    "load_dataset": {
        "name": (),
        "data_dir": (*NAMES[1:], "bytes"),
        "image_size": (),
        "keep": ("empty list",),
    },
    "load_torchvision_weights": {"model": (), "source": ()},
    "open_artifact": {"path": ()},
    "strip_auxiliary_heads": {"model": ()},
    "transfer_weights": {"model": (), "source": ()},
    "Recipe": {field.name: () for field in dataclasses.fields(keras_arch.Recipe)}
    | {"learning_rate": ("huge",), "callback": ("empty list",), "model_options": ("empty list",)},
    "ExportSettings": {field.name: () for field in dataclasses.fields(keras_arch.ExportSettings)}
    | {"keep_float": ("empty list",)},
}
TEXT = (
    "dataset",
    "model",
    "weights",
    "teacher",
    "license",
)  # fields of options that accept any text


def cases():
    """Yield (function, argument, names of the values that it must refuse)."""
    for builder in (row.load() for row in ARCHITECTURES.values()):
        for argument, fine in (BUILDER | RESIDUAL | GOOGLENET).items():
            if argument in inspect.signature(builder).parameters:
                yield builder.__name__, argument, [what for what in WRONG if what not in fine]
    for function, arguments in OTHERS.items():
        for argument, fine in arguments.items():
            takes_text = function in ("Recipe", "ExportSettings") and argument in TEXT
            yield (
                function,
                argument,
                [what for what in WRONG if what not in (*fine, *(NAMES if takes_text else ()))],
            )


CASES = list(cases())


@pytest.fixture(scope="module")
def good(world, digits):  # noqa: F811
    """{function: valid arguments}."""
    model = keras.models.load_model(world / "run/model.keras")
    recipe = keras_arch.RECIPES["quickstart"]
    images, _ = digits.train.sample(2, seed=0)
    return {
        "build": {"name": "resnet8"},
        "calibrate": {"model": model, "dataset": digits},
        "cost": {"model": model},
        "evaluate": {
            "artifact": keras_arch.open_artifact(world / "run"),
            "dataset": digits,
            "split": "test",
        },
        "export_model": {
            "model": model,
            "folder": world,
            "class_names": range(10),
            "calibration": images,
            "settings": keras_arch.ExportSettings(),
        },
        "export_and_verify": {
            "model": model,
            "folder": world / "export",
            "class_names": range(10),
            "calibration": images,
        },
        "verify": {
            "folder": world,
            "specs": {},
            "reference": keras_arch.Reference(
                images, None, model.predict(images, verbose=0), range(10)
            ),
        },
        "fit": {"model": model, "data": digits, "recipe": recipe, "folder": world},
        "load_dataset": {
            "name": "digits",
            "data_dir": world / "data",
            "image_size": None,
            "keep": (),
        },
        "load_torchvision_weights": {
            "model": keras_arch.ResNet18(input_shape=(32, 32, 3)),
            "source": {},
        },
        "open_artifact": {"path": world / "run"},
        "read_int8_ranges": {"path": world / "run" / "model.keras"},
        "strip_auxiliary_heads": {"model": model},
        "transfer_weights": {"model": model, "source": world / "run", "architecture": "resnet8"},
        "Recipe": {"model": "resnet8", "dataset": "digits", "epochs": 1, "learning_rate": 0.1},
        "ExportSettings": {"height": 8, "width": 8},
    }


def fault_of(function, arguments):
    """Return how a function fails to refuse its arguments, or None if it refuses them."""
    try:
        with time_limit():
            function(**arguments)
    except keras_arch.InputError as error:
        message = str(error)
        return (
            None
            if 0 < len(message) < LONGEST and "\n" not in message
            else f"{len(message)}: {message[:80]}"
        )
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:160]}"
    return "accepted"


# One residual network of each kind, and all other functions.
RESIDUAL_BUILDERS = {row.builder for row in ARCHITECTURES.values() if "resnet" in row.module}
SLOW = RESIDUAL_BUILDERS - {"ResNet8", "Plain20", "ResNet20V2"}


@pytest.mark.parametrize(
    ("name", "argument", "wrong"),
    parameters(
        CASES,
        [f"{name} {argument}" for name, argument, _ in CASES],
        lambda name, *_: name not in SLOW,
    ),
)
def test_a_wrong_argument_is_an_input_error(name, argument, wrong, good, world, monkeypatch, capfd):  # noqa: F811
    monkeypatch.chdir(world)
    before = tree_of(world)
    extra = {"include_top": False} if argument == "pooling" else {}
    function, arguments = getattr(keras_arch, name), good.get(name, {}) | extra
    faults = {what: fault_of(function, arguments | {argument: WRONG[what]}) for what in wrong}
    assert "; ".join(f"{what}: {fault}" for what, fault in faults.items() if fault) == ""
    assert capfd.readouterr().err == ""
    assert tree_of(world) == before
