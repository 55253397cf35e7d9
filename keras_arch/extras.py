"""Extras of the package: the optional modules that each one installs."""

from collections.abc import Iterable
from importlib.util import find_spec

from .errors import InputError

PREDICT = ("PIL", "ai_edge_litert", "tyro")
TRAIN = (
    *PREDICT,
    "importlib_resources",
    "matplotlib",
    "psutil",
    "scipy",
    "sklearn",
    "tensorboard",
    "tensorflow",
    "tensorflow_datasets",
)
EXPORT = (*TRAIN, "flatbuffers")

# {extra: modules}, as pyproject.toml has them. The first extra that has a module is the smallest.
EXTRAS = {
    "predict": PREDICT,
    "train": TRAIN,
    "export": EXPORT,
    "onnx": (*EXPORT, "onnx", "onnxruntime", "tf2onnx"),
    "jax": ("jax",),
    "torch": ("torch",),
}
BACKENDS = {"tensorflow": "train", "jax": "jax", "torch": "torch"}  # of Keras: {module: extra}


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


def explain_missing_module(error: ModuleNotFoundError, is_backend: bool) -> None:
    """Raise InputError if an extra installs the module that could not be imported.

    Args:
        error: The exception.
        is_backend: Whether Keras imported the module as its backend.
    """
    if is_backend and error.name in BACKENDS:
        raise InputError(
            f"Keras needs a backend. Received: no {error.name}. Set KERAS_BACKEND to tensorflow, "
            f'jax or torch, and run pip install "keras_arch[{BACKENDS[error.name]}]" for '
            f"{error.name}."
        ) from error
    for extra, modules in EXTRAS.items():
        if error.name in modules:
            raise missing_error([error.name], extra) from error
