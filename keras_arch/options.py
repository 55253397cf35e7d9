"""Check the fields of option dataclasses against their annotations.

Python code and the command line give options. Both are checked by the same annotations.
"""

import ast
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import InputError, choose
from .plugins import FORM, is_function
from .text import brief

KINDS = {
    str: ((str,), "a string"),
    bool: ((bool,), "True or False"),
    int: ((int,), "an integer"),
    float: ((int, float), "a finite number"),
    dict: ((dict,), "a JSON object"),
}  # {annotation: (accepted types, description in messages)}


@dataclass(frozen=True)
class Range:
    """The range of a numeric option, ends included: `Annotated[int, Range(1, 100)]`."""

    low: float
    high: float

    def __contains__(self, number):
        return self.low <= number <= self.high

    def __str__(self):
        return f"from {self.low} to {self.high}"


@dataclass(frozen=True)
class Metavar:
    """Note in an annotation: what --help shows for the value of an option."""

    text: str


class Positional(Metavar):
    """Note in an annotation: a positional argument and its name in --help."""


OR_FUNCTION = Metavar(FORM)  # note of a Literal option that also accepts FILE.py:function
Function = Annotated[str, OR_FUNCTION]  # the text FILE.py:function

SEEDS = Range(0, 2**32 - 1)  # limits of NumPy's and TensorFlow's generators
PIXELS = Range(1, 8192)  # height or width of an image


def check_options(options):
    """Check every field of a dataclass against its annotation, and convert it to plain Python.

    NumPy scalars become Python numbers, lists become tuples, and paths become strings. Call this
    function in `__post_init__`. The dataclass may be frozen.

    Args:
        options: dataclass instance. Annotations may be `str`, `bool`, `int`, `float`, `Literal` or
            `tuple[X, ...]`, each also with `| None`, or a `Literal` or a tuple. A `bool` is not an
            `int`. A `float` must be finite. A number may have a `Range`, a `Literal` the note
            `OR_FUNCTION`.

    Raises:
        InputError (a ValueError): a value has another type, is not one of the choices of its
            `Literal`, or is outside its `Range`.
    """
    for name, annotation in get_type_hints(type(options), include_extras=True).items():
        object.__setattr__(options, name, check_value(name, getattr(options, name), annotation))


def check_ranges(options):
    """Check the fields of a dataclass that have a `Range`. Other fields are not checked.

    Raises:
        InputError (a ValueError): a number is outside its `Range`.
    """
    for name in ranges_of(type(options)):
        check_value(
            name, getattr(options, name), get_type_hints(type(options), include_extras=True)[name]
        )


def ranges_of(kind):
    """Return {field name: `Range`} of the fields of a dataclass that have a `Range`."""
    found = {}
    for name, annotation in get_type_hints(kind, include_extras=True).items():
        # In `Annotated[int, Range(1, 2)] | None`, the first argument has the range.
        parts = (annotation, *get_args(annotation))
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
    """Return `value` as plain Python. Raise InputError if it does not match `annotation`."""
    inner = get_args(annotation)
    if NoneType in inner:  # X | None
        return None if value is None else check_value(name, value, inner[0])
    if OR_FUNCTION in inner:
        if is_function(value):
            return value
        if annotation == Function:
            raise option_error(name, value, FORM)
        return check_choice(name, to_python(value), (*get_args(inner[0]), FORM))
    if get_origin(annotation) is Annotated:
        return check_limits(name, check_value(name, value, inner[0]), *inner)
    if get_origin(annotation) in (Union, UnionType):  # Literal | tuple
        wanted = tuple if isinstance(value, (list, tuple)) else Literal
        annotation = next(kind for kind in inner if get_origin(kind) is wanted)
        inner = get_args(annotation)
    value = to_python(value)
    if get_origin(annotation) is Literal:
        return check_choice(name, value, inner)
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


def check_limits(name, number, kind, *notes):
    """Return `number`. Raise InputError if it is outside a `Range` in `notes`."""
    for limits in (note for note in notes if isinstance(note, Range)):
        if number not in limits:
            raise option_error(
                name, number, f"{'an integer' if kind is int else 'a number'} {limits}"
            )
    return number


def check_choice(name, value, choices):
    """Return `value`. Raise InputError if it is not one of `choices`."""
    if isinstance(value, str) and isinstance(choices[0], str):
        return choose(name, value, choices)
    if not isinstance(value, type(choices[0])) or value not in choices:
        raise option_error(name, value, f"one of {', '.join(map(str, choices))}")
    return value


def to_python(value):
    """Convert NumPy scalars to Python numbers and paths to strings. Keep other values."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def is_finite(number):
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer larger than any float
        return False


def option_error(name, value, expected):
    return InputError(f"`{name}` must be {expected}. Received: {name}={brief(value)}.")


def split_pairs(name: str, pairs: Iterable[str], at: Literal["first", "last"]) -> dict[str, str]:
    """Return {key: value} of texts such as "variant=d".

    Args:
        name: name of the option, for messages.
        pairs: the texts.
        at: the "=" that separates key and value, if a text has several.

    Raises:
        InputError (a ValueError): a text has no "=", or an empty key or value, or a key is repeated.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=") if at == "first" else pair.rpartition("=")
        if not key or not value:
            raise InputError(
                f"`{name}` must be pairs of the form NAME=VALUE. Received: {name}={brief(pair)}."
            )
        if key in found:
            raise InputError(
                f"`{name}` must have each name once. Received: {brief(key)} twice. Remove one."
            )
        found[key] = value
    return found


def parse_value(text: str) -> Any:
    """Return the value that a text stands for.

    The words true, false and none, in any case, are True, False and None. Python numbers, tuples
    and quoted strings are themselves. Any other text stays a string.
    """
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
