"""Files of weights: which kind one is, and what the errors about all kinds have in common."""

import reprlib
import zipfile
from contextlib import suppress
from pathlib import Path

import h5py

from ..errors import InputError
from ..files import is_path

KERAS, WEIGHTS, KERAS_2 = (
    ".keras",
    ".weights.h5",
    ".h5",
)  # kinds of files, as Keras knows them by their suffix
SAFETENSORS, TORCH = ".safetensors", ".pth"  # kinds of files of PyTorch's tensors
TRAINING_HEADS = "auxiliary_"  # how names of their layers begin


def find_weights_file(option, value):
    """The path of a file with weights, in a run folder where `value` is one; or InputError that lists what there is."""
    path = Path(value) if is_path(value) else None
    path = path / "model.keras" if path is not None and path.is_dir() else path
    if path is None or not path.is_file():
        missing = f", and {path} does not exist" if path is not None else ""
        raise InputError(
            f"`{option}` must be None, 'imagenet' or a file of weights. Received: {option}={reprlib.repr(value)}{missing}. Use "
            "a .keras, .weights.h5, .safetensors or .pth file."
        )
    return path


def detect_kind(path):
    """What the contents of a weights file are, whatever its name: one of the five kinds."""
    with Path(path).open("rb") as file:
        start = file.read(9)
    kind = None
    with suppress(Exception):  # a damaged file raises whatever its bytes happen to mean
        kind = kind_by_contents(path, start)
    if kind is None:
        raise InputError(
            f"{path} holds no weights, or it is damaged. Received: a file that begins with {start!r}. Use a .keras, "
            ".weights.h5, .safetensors or .pth file."
        )
    return kind


def kind_by_contents(path, start):
    """The kind of a file that begins with the nine bytes `start`; None if it is no file of weights."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return KERAS if "config.json" in archive.namelist() else TORCH
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        with h5py.File(path) as file:
            return KERAS_2 if "layer_names" in file.attrs or "model_weights" in file else WEIGHTS
    if start[8:] == b"{":  # behind the length of this JSON text
        return SAFETENSORS
    return TORCH if start.startswith(b"\x80") else None  # a pickle


def has_head(model):
    return any(layer.name == "predictions" for layer in model.layers)


NAMES_SHOWN = 1  # of the tensors or layers of each kind that an error lists


def is_published(source):
    """Whether a source of weights is the word for torchvision's checkpoint."""
    return isinstance(source, str) and source == "imagenet"


def check_source(source):
    """Raise InputError unless `transfer_weights` can take `source`: "imagenet", or a file or a run folder with weights."""
    if not is_published(source):
        detect_kind(find_weights_file("weights", source))


def differences(missing, unexpected, misshapen):
    """What is wrong with the names and shapes in a file, as a list of texts; the first few names of each kind."""
    kinds = {"of another shape": misshapen, "missing": missing, "unexpected": unexpected}
    return [f"{kind}: {first_few(names)}" for kind, names in kinds.items() if names]


def first_few(names):
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more
