"""Dataclasses of options, checked: what Python code gives is held to the same annotations as a command line."""

import math
import os
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

from .errors import InputError, choose
from .text import brief

KINDS = {
    str: ((str,), "a string"),
    bool: ((bool,), "True or False"),
    int: ((int,), "an integer"),
    float: ((int, float), "a finite number"),
    dict: ((dict,), "a JSON object"),
}  # annotation: the types that it takes, and how a message calls them


@dataclass(frozen=True)
class Range:
    """The numbers that an option takes, both ends included: `Annotated[int, Range(1, 100)]`."""

    low: float
    high: float

    def __contains__(self, number):
        return self.low <= number <= self.high

    def __str__(self):
        return f"from {self.low} to {self.high}"


SEEDS = Range(0, 2**32 - 1)  # what NumPy's and TensorFlow's generators take
PIXELS = Range(1, 8192)  # of a side of an image


def check_options(options):
    """Check every field of a dataclass against its annotation. Call it in `__post_init__`; frozen is fine.

    Scalars of NumPy become numbers of Python, lists become tuples, and paths become strings.

    Args:
        options: dataclass instance. Its annotations may be `str`, `bool`, `int`, `float`, `Literal`, `tuple[X, ...]`,
            and each of these with `| None`. A `bool` is not an `int`. Every `float` must be finite. A number
            may have a `Range`.

    Raises:
        InputError (a ValueError): a value has another type, is not among the words of its `Literal`, or is outside its
            `Range`.
    """
    for name, annotation in get_type_hints(type(options), include_extras=True).items():
        object.__setattr__(options, name, check_value(name, getattr(options, name), annotation))


def check_ranges(options):
    """Check the numbers of a dataclass that have a `Range`, whatever its other fields are.

    Raises:
        InputError (a ValueError): a number is outside its `Range`.
    """
    for name in ranges_of(type(options)):
        check_value(
            name, getattr(options, name), get_type_hints(type(options), include_extras=True)[name]
        )


def ranges_of(kind):
    """Return {name: `Range`} of the fields of the dataclass `kind` that have one."""
    found = {}
    for name, annotation in get_type_hints(kind, include_extras=True).items():
        parts = (
            annotation,
            *get_args(annotation),
        )  # of `Annotated[int, Range(1, 2)] | None` it is the first part
        ranges = [
            note
            for part in parts
            for note in getattr(part, "__metadata__", ())
            if isinstance(note, Range)
        ]
        if ranges:
            found[name] = ranges[0]
    return found


def check_value(name, value, annotation):
    """Return `value` as plain Python if it fits `annotation`; else raise InputError that names the option."""
    inner = get_args(annotation)
    if NoneType in inner:  # X | None
        return None if value is None else check_value(name, value, inner[0])
    if get_origin(annotation) is Annotated:
        return within(name, check_value(name, value, inner[0]), *inner)
    value = to_python(value)
    if get_origin(annotation) is Literal:
        return one_of(name, value, inner)
    if get_origin(annotation) is tuple:
        if not isinstance(value, (list, tuple)):
            raise option_error(name, value, "a tuple")
        return tuple(check_value(name, item, inner[0]) for item in value)
    types, description = KINDS[annotation]
    if not isinstance(value, types) or (isinstance(value, bool) and annotation is not bool):
        raise option_error(name, value, description)
    if annotation is float and not is_finite(value):
        raise option_error(name, value, description)
    return value


def within(name, number, kind, *notes):
    """Return `number` if it is in the `Range` among `notes`, or if there is none; else raise InputError."""
    for limits in (note for note in notes if isinstance(note, Range)):
        if number not in limits:
            raise option_error(
                name, number, f"{'an integer' if kind is int else 'a number'} {limits}"
            )
    return number


def one_of(name, value, words):
    """Return `value` if it is one of `words`; else raise InputError that offers the nearest."""
    if isinstance(value, str) and isinstance(words[0], str):
        return choose(name, value, words)
    if not isinstance(value, type(words[0])) or value not in words:
        raise option_error(name, value, f"one of {', '.join(map(str, words))}")
    return value


def to_python(value):
    """A scalar of NumPy as a number of Python, a path as a string; anything else as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def is_finite(number):
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond all floats
        return False


def option_error(name, value, expected):
    return InputError(f"`{name}` must be {expected}. Received: {name}={brief(value)}.")
