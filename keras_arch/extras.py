"""Extras of the package: the optional modules that each one installs."""

from collections.abc import Iterable
from importlib.util import find_spec

from .errors import InputError

PREDICT = ("PIL", "ai_edge_litert", "flatbuffers", "psutil", "tyro")
TRAIN = (
    *PREDICT,
    "importlib_resources",
    "matplotlib",
    "scipy",
    "sklearn",
    "tensorboard",
    "tensorflow",
    "tensorflow_datasets",
)

# {extra: modules}, as pyproject.toml has them. The first extra that has a module is the smallest.
EXTRAS = {
    "predict": PREDICT,
    "train": TRAIN,
    "export": TRAIN,
    "onnx": (*TRAIN, "onnx", "onnxruntime", "tf2onnx"),
    "jax": ("jax",),
    "torch": ("torch",),
}
BACKENDS = {"tensorflow": "train", "jax": "jax", "torch": "torch"}  # {Keras backend: extra}


def require(extra: str, modules: Iterable[str] = ()) -> None:
    """Raise InputError if a module of an extra is not installed. No module is imported.

    Args:
        extra: A key of `EXTRAS`.
        modules: Modules to look for. Defaults to all of the extra.
    """
    if missing := [name for name in modules or EXTRAS[extra] if find_spec(name) is None]:
        raise missing_error(missing, extra)


def missing_error(modules: Iterable[str], extra: str) -> InputError:
    """Return the InputError for modules that are not installed."""
    return InputError(
        f"Optional packages are not installed. Received: no {', no '.join(modules)}. "
        f'Run pip install "keras_arch[{extra}]".'
    )


def explain_missing_module(error: ModuleNotFoundError, is_backend: bool, extra: str | None) -> None:
    """Raise InputError if an extra installs the module that could not be imported.

    Args:
        error: The exception.
        is_backend: Whether Keras imported the module as its backend.
        extra: The extra to name if it has the module. Defaults to the smallest that has it.
    """
    if is_backend and error.name in BACKENDS:
        raise InputError(
            f"Keras needs a backend. Received: no {error.name}. Set KERAS_BACKEND to tensorflow, "
            f'jax or torch, and run pip install "keras_arch[{BACKENDS[error.name]}]" for '
            f"{error.name}."
        ) from error
    for name in (extra, *EXTRAS):
        if name is not None and error.name in EXTRAS[name]:
            raise missing_error([str(error.name)], name) from error
