"""Dataclasses of options, checked: what Python code gives is held to the same annotations as a command line."""

import math
import os
import reprlib
from types import NoneType
from typing import Literal, get_args, get_origin, get_type_hints

from .errors import InputError, choose

KINDS = {
    str: ((str,), "a string"),
    bool: ((bool,), "True or False"),
    int: ((int,), "an integer"),
    float: ((int, float), "a finite number"),
}  # annotation: the types that it takes, and how a message calls them


def check_options(options):
    """Check every field of a dataclass against its annotation. Call it in `__post_init__`; frozen is fine.

    Scalars of NumPy become numbers of Python, lists become tuples, and paths become strings.

    Args:
        options: dataclass instance. Its annotations may be `str`, `bool`, `int`, `float`, `Literal`, `tuple[X, ...]`,
            and each of these with `| None`. A `bool` is not an `int`. Every `float` must be finite.

    Raises:
        InputError (a ValueError): a value has another type or is not among the words of its `Literal`.
    """
    for name, annotation in get_type_hints(type(options)).items():
        object.__setattr__(options, name, checked(name, getattr(options, name), annotation))


def checked(name, value, annotation):
    """Return `value` as plain Python if it fits `annotation`; else raise InputError that names the option."""
    inner = get_args(annotation)
    if NoneType in inner:  # X | None
        return None if value is None else checked(name, value, inner[0])
    value = plain(value)
    if get_origin(annotation) is Literal:
        return one_of(name, value, inner)
    if get_origin(annotation) is tuple:
        if not isinstance(value, (list, tuple)):
            raise refusal(name, value, "a tuple")
        return tuple(checked(name, item, inner[0]) for item in value)
    types, description = KINDS[annotation]
    if not isinstance(value, types) or (isinstance(value, bool) and annotation is not bool):
        raise refusal(name, value, description)
    if annotation is float and not is_finite(value):
        raise refusal(name, value, description)
    return value


def one_of(name, value, words):
    """Return `value` if it is one of `words`; else raise InputError that offers the nearest."""
    if isinstance(value, str) and isinstance(words[0], str):
        return choose(name, value, words)
    if not isinstance(value, type(words[0])) or value not in words:
        raise refusal(name, value, f"one of {', '.join(map(str, words))}")
    return value


def plain(value):
    """A scalar of NumPy as a number of Python, a path as a string; anything else as it is."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def is_finite(number):
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond all floats
        return False


def refusal(name, value, expected):
    return InputError(f"`{name}` must be {expected}. Received: {name}={reprlib.repr(value)}.")
