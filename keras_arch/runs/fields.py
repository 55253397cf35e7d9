"""Read run.json and check its fields."""

import dataclasses
import json
from typing import (
    Annotated,
    Any,
    NotRequired,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from ..errors import InputError, first_line
from ..options import Range, check_value
from ..recipes import Recipe

Share = Annotated[float, Range(0, 1)]


class SplitRecord(TypedDict):
    """Accuracy on one split."""

    images: int
    top1: Share
    balanced_accuracy: NotRequired[Share]


class MetricsRecord(TypedDict):
    """Metrics of a finished run."""

    best_epoch: int
    training_seconds: float
    validation: SplitRecord
    test: SplitRecord


class AcceptanceRecord(TypedDict):
    """What a threshold accepts. It has no accuracy if it accepts no image."""

    threshold: Share
    share: Share
    accuracy: NotRequired[Share]
    accuracy_interval: NotRequired[tuple[Share, ...]]


class CalibrationRecord(TypedDict):
    """What keras-arch calibrate found. Nothing is recommended if no threshold is good enough."""

    temperature: Annotated[float, Range(0, 1e9)]
    accuracy: Share
    recommended: NotRequired[AcceptanceRecord]
    accepted: tuple[AcceptanceRecord, ...]


class RunRecord(TypedDict):
    """Fields of run.json that the package reads. The file has more fields, for information."""

    recipe: Recipe
    data_dir: str | None
    precision: str
    backend: NotRequired[str]
    functions: NotRequired[dict]
    teacher_sha256: NotRequired[str | None]
    images: dict
    data_fingerprint: NotRequired[str]
    metrics: NotRequired[MetricsRecord]
    calibration: NotRequired[CalibrationRecord]


def read_record(path) -> dict[str, Any]:
    """Read a run.json file.

    Args:
        path: `Path` of the file.

    Returns:
        A dict with at least the fields of `RunRecord`, "recipe" as a `Recipe`.

    Raises:
        InputError (a ValueError): the file is not JSON, or a field is missing or has a wrong type.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check_fields("", content, RunRecord)
        return {**content, "recipe": Recipe(**content["recipe"])}
    # TypeError: a recipe option that this version does not have.
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged_error(path, first_line(error)) from error


def damaged_error(path, problem):
    """Return the InputError for a damaged file of a run directory."""
    return InputError(
        f"{path} is damaged or from another version: {problem.rstrip('.')}. Restore the file or "
        "train again."
    )


def check_fields(name, value, annotation):
    """Raise InputError unless a value from JSON has the type of its annotation.

    Args:
        name: dotted name of the field, such as "metrics.test.top1"; empty for the file.
        value: the value from JSON.
        annotation: a `TypedDict`, a tuple of them, a dataclass, or a type that
            `options.check_value` takes.
    """
    if get_origin(annotation) is tuple and is_typeddict(get_args(annotation)[0]):
        for number, item in enumerate(check_value(name, value, tuple[dict, ...])):
            check_fields(f"{name}.{number}", item, get_args(annotation)[0])
        return
    if not dataclasses.is_dataclass(annotation) and not is_typeddict(annotation):
        check_value(name, value, annotation)
        return
    check_value(name or "content", value, dict)
    places = {field: f"{name}.{field}".lstrip(".") for field in get_type_hints(annotation)}
    for field in sorted(required_fields(annotation)):
        if field not in value:
            raise InputError(f"`{places[field]}` is missing.")
    for field, hint in get_type_hints(annotation, include_extras=True).items():
        if field in value:
            kind = get_args(hint)[0] if get_origin(hint) is NotRequired else hint
            check_fields(places[field], value[field], kind)


def required_fields(annotation):
    """Return the names of the required fields of a `TypedDict` or a dataclass."""
    if is_typeddict(annotation):
        return annotation.__required_keys__
    return {
        field.name
        for field in dataclasses.fields(annotation)
        if field.default is dataclasses.MISSING
    }
