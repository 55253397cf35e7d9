"""The fields of run.json, and what is wrong with a file that was edited or damaged."""

import dataclasses
import json
from types import NoneType
from typing import (
    Literal,
    NotRequired,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from ..errors import InputError, first_line
from ..recipes import Recipe
from ..text import brief

LARGEST = 1e300  # above it, a number cannot be printed as a percentage
KINDS = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    dict: "an object",
    NoneType: "null",
}


class Accuracy(TypedDict):
    """Accuracy on one split."""

    images: int
    top1: float
    balanced_accuracy: float


class Metrics(TypedDict):
    """What a finished run reaches."""

    best_epoch: int
    training_seconds: float
    validation: Accuracy
    test: Accuracy


class RunRecord(TypedDict):
    """The fields of run.json that are read again. There are others, for people."""

    recipe: Recipe
    data_dir: str | None
    precision: str
    images: dict
    data_fingerprint: NotRequired[str]
    metrics: NotRequired[Metrics]


def read_record(path):
    """Read a run.json file.

    Returns:
        A dict with at least the fields of `RunRecord`, "recipe" as a `Recipe`.

    Raises:
        InputError (a ValueError): not JSON, or a field is missing or has another type.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise damaged_error(path, first_line(error)) from error
    if wrong := misfit("", content, RunRecord):
        raise damaged_error(path, wrong)
    try:
        return {**content, "recipe": Recipe(**content["recipe"])}
    except (
        ValueError,
        TypeError,
    ) as error:  # an option out of its range, or one that this version does not have
        raise damaged_error(path, first_line(error)) from error


def damaged_error(path, wrong):
    """The InputError for a file of a run folder that is not as scripts/train.py writes it."""
    return InputError(
        f"{path} is damaged or of another version. Received: {wrong}. Restore it, or train again"
    )


def misfit(name, value, annotation):
    """Return what is wrong with a value that was read from JSON, as text; empty if nothing is.

    Args:
        name: of the field, such as "metrics.test.top1".
        value: what JSON has there.
        annotation: its type: `str`, `bool`, `int`, `float`, `dict`, a `Literal`, a `TypedDict`, a dataclass, or
            several of them with `|`.
    """
    fields = dataclasses.is_dataclass(annotation) or is_typeddict(annotation)
    if not fits(value, dict if fields else annotation):
        what = f"{name}={brief(value)}" if name else brief(value)
        return f"{what}, which must be {describe(dict if fields else annotation)}"
    if not fields:
        return ""
    hints = get_type_hints(annotation)
    missing = [field for field in sorted(required(annotation)) if field not in value]
    places = {field: f"{name}.{field}" if name else field for field in hints}
    if missing:
        return f"no {places[missing[0]]}"
    found = (misfit(places[field], value[field], hints[field]) for field in hints if field in value)
    return next(filter(None, found), "")


def required(annotation):
    """The fields that a `TypedDict` or a dataclass needs."""
    if is_typeddict(annotation):
        return annotation.__required_keys__
    return {
        field.name
        for field in dataclasses.fields(annotation)
        if field.default is dataclasses.MISSING
    }


def fits(value, annotation):
    """Whether a value is of a type, as `misfit` takes it. An integer is also a float; a bool is no number."""
    if get_origin(annotation) is Literal:
        return value in get_args(annotation)
    if options := get_args(annotation):
        return any(fits(value, option) for option in options)
    if annotation is float:
        return type(value) in (int, float) and abs(value) < LARGEST
    return type(value) is annotation


def describe(annotation):
    """A type as `misfit` takes it, in words."""
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    return " or ".join(describe(option) for option in get_args(annotation)) or KINDS[annotation]
