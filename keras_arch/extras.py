"""Extras of the package: the optional modules that each one installs."""

from collections.abc import Iterable
from importlib.util import find_spec

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
    "int4": (*TRAIN, "ai_edge_quantizer"),
    "jax": ("jax",),
    "torch": ("torch",),
    "parquet": ("pyarrow",),
    "hub": ("huggingface_hub",),
}
BACKENDS = {"tensorflow": "train", "jax": "jax", "torch": "torch"}  # {Keras backend: extra}


def find_missing(modules: Iterable[str]) -> list[str]:
    """Return the modules that are not installed. No module is imported."""
    return [name for name in modules if find_spec(name) is None]


def missing_message(modules: Iterable[str], extra: str) -> str:
    """Return the message about modules that are not installed."""
    return (
        f"Optional packages are not installed. Received: no {', no '.join(modules)}. "
        f'Run pip install "keras_arch[{extra}]".'
    )


def backend_message(module: str) -> str:
    """Return the message about a Keras backend that is not installed."""
    return (
        f"Keras needs a backend. Received: no {module}. Set KERAS_BACKEND to tensorflow, jax or "
        f'torch, and run pip install "keras_arch[{BACKENDS[module]}]" for {module}.'
    )


def explain_missing_module(module: str | None, is_backend: bool, extra: str | None) -> str | None:
    """Return the message about a module that could not be imported, or None if no extra has it.

    Args:
        module: The name of the module.
        is_backend: Whether Keras imported it as its backend.
        extra: The extra to name if it has the module. Defaults to the smallest that has it.
    """
    if module is None:
        return None
    if is_backend and module in BACKENDS:
        return backend_message(module)
    names = [name for name in (extra, *EXTRAS) if name is not None and module in EXTRAS[name]]
    return missing_message([module], names[0]) if names else None
