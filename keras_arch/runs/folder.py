"""Paths of run directories, and checks before a run directory is written."""

import dataclasses
import re
from pathlib import Path

from ..errors import InputError
from ..files import (
    CHECKPOINT,
    check_writable,
    exclusive_lock,
    partial_name,
    refuse_foreign,
    refuse_inside,
    resolve_existing,
)
from ..plugins import is_function, resolve_function
from .record import read_run


def resolve_paths(recipe):
    """Return the recipe with absolute paths, so that run.json is valid in any directory."""
    if recipe.freeze == "backbone" and recipe.weights is None:
        raise InputError("--freeze backbone needs trained weights. Received: none. Pass --weights.")
    for name in ("temperature", "teacher_weight"):
        if recipe.teacher is None and (value := getattr(recipe, name)) is not None:
            option = f"--{name.replace('_', '-')}"
            raise InputError(
                f"{option} needs a teacher. Received: {option} {value:g} alone. Pass --teacher."
            )
    callback = recipe.callback and tuple(map(resolve_function, recipe.callback))
    return dataclasses.replace(
        recipe,
        model=resolve_function(recipe.model),
        dataset=resolve_existing(recipe.dataset),
        weights=resolve_existing(recipe.weights),
        teacher=resolve_existing(recipe.teacher),
        augment=resolve_function(recipe.augment),
        callback=callback,
    )


def data_name(dataset):
    """Return the display name of a data set: its name, or the last part of an absolute path."""
    return Path(dataset).stem if Path(dataset).is_absolute() else dataset


def model_name(model):
    """Return the display name of a model: its name, or FILE.py:function without the directory."""
    return Path(model).name if is_function(model) else model


def default_folder(recipe):
    """Return the default run directory, saved_models/<model>-<dataset>."""
    model = model_name(recipe.model).replace(".py:", "-")
    return Path("saved_models") / f"{model}-{re.sub('[/:]', '-', data_name(recipe.dataset))}"


def check_run_folder(folder, recipe, overwrite, resume):
    """Check that a new run may be written.

    Args:
        folder: `Path` of the run directory.
        recipe: the `Recipe`, from `resolve_paths`.
        overwrite: whether an existing run may be replaced.
        resume: whether an interrupted run may be continued.

    Returns:
        `folder`.

    Raises:
        InputError (a ValueError): a run would be lost or mixed with another one, or the directory
            holds the data or other files.
    """
    refuse_inside(folder, [recipe.dataset])
    if Path(recipe.dataset).exists() and folder.resolve() in Path(recipe.dataset).resolve().parents:
        raise InputError(f"{folder} holds the data set {recipe.dataset}. Pass another --output.")
    if recipe.teacher is not None and Path(recipe.teacher).exists():
        teacher, written = Path(recipe.teacher).resolve(), {folder, partial_name(folder)}
        if {path.resolve() for path in written} & {teacher, *teacher.parents}:
            raise InputError(f"{folder} holds the teacher {teacher}. Pass another --output.")
    refuse_foreign(folder, "run.json")
    check_writable(folder)
    if (folder / "run.json").exists() and not overwrite:
        raise InputError(
            f"{folder} already holds a finished run. Pass --overwrite to replace it or --output to "
            "write elsewhere."
        )
    partial = partial_name(folder)
    if resume and (partial / CHECKPOINT).exists():
        before, now = (dataclasses.asdict(one) for one in (read_run(partial)["recipe"], recipe))
        changed = [
            f"{field}={now[field]!r} instead of {before[field]!r}"
            for field in now
            if now[field] != before[field]
        ]
        if changed:
            raise InputError(
                f"{partial} was started with other options. Received: {', '.join(changed)}. "
                "Pass the original options to resume it."
            )
    for existing in (partial / "model.keras", partial / CHECKPOINT):
        if existing.exists() and not (overwrite or resume):
            with exclusive_lock(partial):  # fails if the run is not interrupted but running
                pass
            raise InputError(
                f"{folder} has an interrupted run: {existing} exists. Pass --resume to continue it "
                "or --overwrite to start from scratch."
            )
    return folder
