"""Load functions from Python files of the user: the value `FILE.py:function` of an option."""

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import InputError, choose, first_line
from .text import brief

FORM = "FILE.py:function"


def is_function(text: object) -> bool:
    """Return whether `text` has the form `FILE.py:function`. The file may not exist."""
    if not isinstance(text, str):
        return False
    path, _, name = text.rpartition(":")
    return path.endswith(".py") and name.isidentifier()


def load_function(text: str) -> Callable[..., Any]:
    """Return the function that `FILE.py:function` names.

    The file is imported once per content. It may import modules of its directory.

    Raises:
        InputError (a ValueError): `text` has another form, the file does not exist, its import
            raises an exception, or it does not define the function.
    """
    path, name = split(text)
    module = import_file(path, hash_file(text))
    functions = [
        key for key, value in vars(module).items() if callable(value) and not key.startswith("_")
    ]
    return getattr(module, choose(f"a function in {path}", name, functions or ["no function"]))


def hash_file(text: str) -> str:
    """Return the SHA-256 of the file in `FILE.py:function`, as hexadecimal digits.

    Raises:
        InputError (a ValueError): the file cannot be read.
    """
    path, _ = split(text)
    if not path.is_file():
        received = "a directory or a device" if path.exists() else "a path that does not exist"
        raise InputError(f"{path} must be a Python file. Received: {received}. Correct the path.")
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read. Received: {error.strerror}.") from error


def resolve_function(text: str) -> str:
    """Return `FILE.py:function` with an absolute path. Return other texts unchanged."""
    if not is_function(text):
        return text
    path, name = split(text)
    return f"{path.resolve()}:{name}"


def find_functions(options: object) -> list[str]:
    """Return the `FILE.py:function` texts in the fields of a dataclass, also in tuples."""
    values = [getattr(options, field.name) for field in dataclasses.fields(options)]  # type: ignore[arg-type]
    texts = [text for value in values for text in (value if isinstance(value, tuple) else [value])]
    return [text for text in texts if is_function(text)]


def split(text: str) -> tuple[Path, str]:
    """Return the path and the name in `FILE.py:function`."""
    if not is_function(text):
        raise InputError(f"Expected {FORM}. Received: {brief(text)}. Pass the path of a .py file.")
    path, _, name = text.rpartition(":")
    return Path(path), name


@functools.cache  # one module for all functions of a file
def import_file(path: Path, sha256: str):
    """Return the module of a Python file whose content has the SHA-256 `sha256`."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # the last one, so that the file's directory hides no module
    try:
        return load_module(f"plugin_{path.stem}_{sha256[:16]}", path)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{path} cannot be imported. Received: {type(error).__name__}: {first_line(error)}. "
            "Correct the file."
        ) from error


def load_module(name: str, path: Path) -> ModuleType:
    """Import a Python file as the module `name`."""
    spec = spec_from_file_location(name, path)
    assert spec is not None  # for mypy: a .py file has a loader
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, pickle and tyro look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
