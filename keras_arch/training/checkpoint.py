"""Save and load checkpoints: the complete training state in one file."""

import io
import json
from contextlib import suppress

import numpy as np

from ..errors import InputError, first_line
from ..files import CHECKPOINT, atomic_write
from ..quantization.copy import plain_variables, range_variables
from .sharing import is_first, process_count, share, share_bytes

PARTS = ("model", "ranges", "optimizer")


def save_checkpoint(folder, model, history, precision):
    """Write the training state after the last epoch of `history`. The write is atomic.

    Args:
        folder: `Path` of the directory.
        model: the compiled `keras.Model` in training.
        history: {column: [value of each epoch]}.
        precision: name of the training precision.
    """
    arrays = {
        f"{part}/{number}": np.asarray(variable) for part, number, variable in variables_of(model)
    }
    arrays["history"], arrays["precision"] = np.asarray(json.dumps(history)), np.asarray(precision)
    atomic_write(folder / CHECKPOINT, lambda path: np.savez(path, **arrays))  # type: ignore[arg-type]


def load_checkpoint(folder, model, parts=PARTS):
    """Load the checkpoint of a directory into a compiled model.

    Process 0 reads it for all processes.

    Args:
        folder: `Path` of the directory.
        model: a `keras.Model`, compiled as before.
        parts: what to load. ("model",) keeps the new optimizer and the ranges of the model.

    Returns:
        The history, {column: [value of each epoch]}; empty if there is no checkpoint.

    Raises:
        InputError (a ValueError): the file is damaged, or is of another network or optimizer.
    """
    path = folder / CHECKPOINT
    if not share(path.exists()):
        return {}
    try:
        with open_shared(path) as opened, np.load(opened) as file:
            history = json.loads(str(file["history"]))
            arrays = {name: file[name] for name in file.files if name.split("/")[0] in parts}
    except Exception as error:  # damaged files raise exceptions of many types
        raise InputError(
            f"{path} is damaged. Received: {first_line(error)}. Pass resume=False "
            "(--overwrite) to start from scratch."
        ) from error
    variables = {
        f"{part}/{number}": variable
        for part, number, variable in variables_of(model)
        if part in parts
    }
    if {name: array.shape for name, array in arrays.items()} != {
        name: tuple(variable.shape) for name, variable in variables.items()
    }:
        raise InputError(
            f"{path} is the checkpoint of another network or optimizer. Resume with the original "
            "model and recipe."
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return history


def open_shared(path):
    """Open a file of process 0 for reading, in all processes."""
    if process_count() == 1:
        return path.open("rb")
    return io.BytesIO(share_bytes(path.read_bytes() if is_first() else b""))


def recorded_precision(folder):
    """Return the name of the precision in the checkpoint of `folder`; None if it cannot be read."""
    with suppress(Exception), (folder / CHECKPOINT).open("rb") as opened, np.load(opened) as file:
        return str(file["precision"])
    return None


def recorded_epochs(folder):
    """Return the number of epochs in the checkpoint of `folder`; 0 if it cannot be read."""
    with suppress(Exception), (folder / CHECKPOINT).open("rb") as opened, np.load(opened) as file:
        return len(json.loads(str(file["history"]))["loss"])
    return 0


def variables_of(model):
    """Yield (part, number, variable) of the model, with random states, and of the optimizer.

    A copy that simulates int8 also has ranges.
    """
    # Every epoch resets the metrics.
    metrics = {id(variable) for variable in model.metrics_variables}
    groups = plain_variables(model), range_variables(model), model.optimizer.variables
    found = zip(PARTS, groups, strict=True)
    for part, variables in found:
        kept = [variable for variable in variables if id(variable) not in metrics]
        for number, variable in enumerate(kept):
            yield part, number, variable
