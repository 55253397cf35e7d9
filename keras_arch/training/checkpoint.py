"""Everything that the next epoch depends on, in one file: a run that goes on from it goes on as if it had never stopped."""

import json
from contextlib import suppress

import numpy as np

from ..errors import InputError, first_line
from ..files import CHECKPOINT, atomic_write


def save_checkpoint(folder, model, history, precision):
    """Write the state behind the last epoch of `history`; a kill at any moment leaves the file before, or this one."""
    arrays = {
        f"{part}/{number}": np.asarray(variable) for part, number, variable in variables_of(model)
    }
    arrays["history"], arrays["precision"] = np.asarray(json.dumps(history)), np.asarray(precision)
    atomic_write(folder / CHECKPOINT, lambda path: np.savez(path, **arrays))  # type: ignore[arg-type]


def load_checkpoint(folder, model):
    """Put the saved state into `model`, compiled as it was; the history so far, empty where nothing was saved.

    Raises:
        InputError (a ValueError): the file is damaged, or of another network or optimizer.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return {}
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            history = json.loads(str(file["history"]))
            arrays = {name: file[name] for name in file.files if "/" in name}
    except Exception as error:  # a damaged file raises whatever its bytes happen to mean
        raise InputError(f"expected a whole checkpoint, got {path}: {first_line(error)}") from error
    variables = {f"{part}/{number}": variable for part, number, variable in variables_of(model)}
    if {name: array.shape for name, array in arrays.items()} != {
        name: tuple(variable.shape) for name, variable in variables.items()
    }:
        raise InputError(
            f"expected the checkpoint of this network and optimizer, got {path}, which is of another"
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return history


def recorded_precision(folder):
    """Return the name of the precision that the checkpoint in `folder` was trained in; None if there is none to read."""
    with suppress(Exception), (folder / CHECKPOINT).open("rb") as opened, np.load(opened) as file:
        return str(file["precision"])
    return None


def variables_of(model):
    """(part, number, variable): weights, moving averages and the state of dropout; what the optimizer keeps."""
    for part, variables in (("model", model.variables), ("optimizer", model.optimizer.variables)):
        metrics = {
            id(variable) for variable in model.metrics_variables
        }  # which every epoch begins anew
        kept = [variable for variable in variables if id(variable) not in metrics]
        for number, variable in enumerate(kept):
            yield part, number, variable
