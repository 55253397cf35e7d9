"""Run folders: their paths, and what may be overwritten or resumed."""

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
from .record import read_run


def resolve_paths(recipe):
    """The recipe with whole paths where it names folders or files, so that run.json finds them from anywhere."""
    if recipe.freeze == "backbone" and recipe.weights is None:
        raise InputError(
            "expected --weights with --freeze backbone, got none: a random backbone would never learn"
        )
    return dataclasses.replace(
        recipe, dataset=resolve_existing(recipe.dataset), weights=resolve_existing(recipe.weights)
    )


def data_name(dataset):
    """A data set as people call it: the last part of the path of a folder or file, which `resolve_paths` has made whole."""
    return Path(dataset).stem if Path(dataset).is_absolute() else dataset


def default_folder(recipe):
    """saved_models/<model>-<dataset>."""
    return Path("saved_models") / f"{recipe.model}-{re.sub('[/:]', '-', data_name(recipe.dataset))}"


def check_run_folder(folder, recipe, overwrite, resume):
    """`folder`, or InputError where a run or an unfinished one would be lost or mixed with another without being asked."""
    refuse_inside(folder, [recipe.dataset])
    if Path(recipe.dataset).exists() and folder.resolve() in Path(recipe.dataset).resolve().parents:
        raise InputError(
            f"{folder} holds the data, {recipe.dataset}, and must not be replaced. Pass another --output"
        )
    refuse_foreign(folder, "run.json")
    check_writable(folder)
    if (folder / "run.json").exists() and not overwrite:
        raise InputError(
            f"expected a run folder that is free, got {folder}, which holds a whole run and stays as it is; "
            "--overwrite would replace it, --output FOLDER would write elsewhere"
        )
    partial = partial_name(folder)
    if resume and (partial / CHECKPOINT).exists():
        before, now = (dataclasses.asdict(one) for one in (read_run(partial)["recipe"], recipe))
        changed = [
            f"{field} {before[field]!r} and not {now[field]!r}"
            for field in now
            if now[field] != before[field]
        ]
        if changed:
            raise InputError(
                f"expected the options that {partial} was begun with: {', '.join(changed)}"
            )
    for existing in (partial / "model.keras", partial / CHECKPOINT):
        if existing.exists() and not (overwrite or resume):
            with exclusive_lock(partial):  # or it would be called interrupted while it is running
                pass
            raise InputError(
                f"expected a run folder that is free, got {folder}: {existing} is what an interrupted run left; --resume "
                "would go on with it, --overwrite begin anew"
            )
    return folder
