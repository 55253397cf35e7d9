"""Weights files: their kinds, and error messages for all kinds."""

from __future__ import annotations

import reprlib
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py

from ..errors import InputError, require
from ..files import is_path
from ..published import PACKAGED, PUBLISHED, is_hub_name, is_published
from ..text import join_first

if TYPE_CHECKING:
    import keras

# Kinds of weights files.
KERAS, WEIGHTS, KERAS_2 = ".keras", ".weights.h5", ".h5"
SAFETENSORS, TORCH = ".safetensors", ".pth"

AUXILIARY_PREFIX = "auxiliary_"  # of layer names in auxiliary classifiers


def find_weights_file(option: str, value: Any) -> Path:
    """Return the path of a weights file. In a run directory it is model.keras.

    Args:
        option: Name of the argument, for the message.
        value: Its value.

    Raises:
        InputError: There is no such file.
    """
    if isinstance(value, str) and value in PACKAGED:
        return PACKAGED[value] / "model.keras"
    path = Path(value) if is_path(value) else None
    path = path / "model.keras" if path is not None and path.is_dir() else path
    if path is None or not path.is_file():
        missing = f", and {path} does not exist" if path is not None else ""
        names = ", ".join(map(repr, (*PUBLISHED, *PACKAGED)))
        raise InputError(
            f"`{option}` must be a weights file, a name hf://OWNER/REPOSITORY or one of {names}. "
            f"Received: {option}={reprlib.repr(value)}{missing}. "
            "Use a .keras, .weights.h5, .safetensors or .pth file."
        )
    return path


def detect_kind(path: str | Path) -> str:
    """Return the kind of a weights file by its contents. The suffix does not matter."""
    with Path(path).open("rb") as file:
        start = file.read(9)
    kind = None
    with suppress(Exception):  # damaged bytes can raise any exception
        kind = detect_kind_by_contents(path, start)
    if kind is None:
        raise InputError(
            f"{path} holds no weights, or it is damaged. "
            f"Received: a file that begins with {start!r}. "
            "Use a .keras, .weights.h5, .safetensors or .pth file."
        )
    return kind


def detect_kind_by_contents(path: str | Path, start: bytes) -> str | None:
    """Return the kind of a file that begins with the nine bytes `start`, or None."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return KERAS if "config.json" in archive.namelist() else TORCH
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        with h5py.File(path) as file:
            return KERAS_2 if "layer_names" in file.attrs or "model_weights" in file else WEIGHTS
    if start[8:] == b"{":  # JSON after its length, eight bytes
        return SAFETENSORS
    return TORCH if start.startswith(b"\x80") else None  # a pickle


def has_head(model: keras.Model) -> bool:
    """Return whether a model of a builder has its classifier (`include_top=True`)."""
    return any(layer.name == "predictions" for layer in model.layers)


def check_source(source: Any) -> None:
    """Raise InputError unless `source` is published weights, a weights file or a run directory."""
    if is_hub_name(source):
        require("hub")
    elif not is_published(source):
        detect_kind(find_weights_file("weights", source))


def list_differences(missing: list[str], unexpected: list[str], misshapen: list[str]) -> list[str]:
    """Return the problems of a weights file as texts, with the first name of each kind."""
    kinds = {"of another shape": misshapen, "missing": missing, "unexpected": unexpected}
    return [f"{kind}: {join_first(names, 1)}" for kind, names in kinds.items() if names]
