"""Store, read and compare the class names of a model."""

import re
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from numbers import Integral
from pathlib import Path

from .errors import InputError, first_line
from .files import find_in_run
from .text import brief, shorten

LABELS = "labels.txt"  # in a run directory, and packed into its .tflite files
# Characters that a name in labels.txt cannot have. Editors add carriage returns and byte order
# marks. Surrogate characters represent bytes that are not UTF-8.
NOT_IN_LABELS = re.compile("[\r\n\ufeff\ud800-\udfff]")


def check_class_names(class_names: Iterable[str | int]) -> tuple[str, ...]:
    """Return class names as a tuple of strings.

    Args:
        class_names: strings or integers, such as `range(10)`. Each must be one line of UTF-8.

    Raises:
        InputError (a ValueError): not a list of names, or a name that labels.txt cannot hold.
    """
    is_list = isinstance(class_names, Iterable) and not isinstance(class_names, (str, bytes))
    names = tuple(class_names) if is_list else ()
    wrong = [
        name for name in names if not isinstance(name, (str, Integral)) or isinstance(name, bool)
    ]
    if not names or wrong:
        received = shorten(repr(wrong[0] if wrong else class_names))
        raise InputError(
            f"`class_names` must be strings or integers, one per class. Received: {received}. "
            'Pass a list such as ["cat", "dog"].'
        )
    texts = tuple(map(str, names))
    invalid = [name for name in texts if not name or NOT_IN_LABELS.search(name)]
    if invalid:
        raise InputError(
            "Class names must be UTF-8 text, not empty, without line breaks or byte order marks. "
            f"Received: {shorten(repr(invalid[0]))}. Rename the class."
        )
    return texts


def write_labels(path: Path, class_names: Iterable[str | int]) -> None:
    """Write one class name per line, in the order of the model's outputs.

    Raises:
        InputError (a ValueError): a name is not one line of UTF-8.
    """
    lines = [f"{name}\n" for name in check_class_names(class_names)]
    # Bytes, because Windows changes the line breaks of text.
    path.write_bytes("".join(lines).encode())


@contextmanager
def explain_label_errors(path):
    """Raise InputError if the block cannot read class names from `path`."""
    try:
        yield
    except Exception as error:  # a damaged archive can raise any exception
        raise InputError(
            f"The class names in {path} cannot be read. Received: {first_line(error)}. "
            "They must be UTF-8 text, one class per line, without a password."
        ) from error


def read_labels(path: Path) -> tuple[str, ...]:
    """Read class names from labels.txt, in the order of the model's outputs."""
    with explain_label_errors(path):
        return parse_labels(path.read_bytes())


def read_packed_labels(path: Path) -> list[str]:
    """Read the class names that are packed into a .tflite file."""
    with explain_label_errors(path), zipfile.ZipFile(path) as archive:
        return list(parse_labels(archive.read(LABELS)))


def parse_labels(content: bytes) -> tuple[str, ...]:
    """Return the class names in the content of labels.txt.

    Carriage returns and a byte order mark, which editors add, are removed.
    """
    lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    return tuple(line.removesuffix("\r") for line in lines)


def has_labels(path: Path) -> bool:
    """Return whether class names are packed into a .tflite file."""
    if not zipfile.is_zipfile(path):
        return False
    with explain_label_errors(path), zipfile.ZipFile(path) as archive:
        return LABELS in archive.namelist()


def find_class_names(artifact) -> tuple[str, ...] | None:
    """Return the class names of an opened artifact, or None if there are none.

    They are in the file or SavedModel itself, or in labels.txt of its run directory.
    """
    asset = artifact.path / "assets" / LABELS  # in a SavedModel
    path = asset if asset.is_file() else find_in_run(artifact.path, LABELS)
    if artifact.kind == "tflite" and has_labels(artifact.path):
        path, labels = artifact.path, tuple(read_packed_labels(artifact.path))
    elif path is None:
        return None
    else:
        labels = read_labels(path)
    if len(labels) != artifact.classes:
        raise InputError(
            f"{path} must have {artifact.classes} class names, one per class of {artifact.path}. "
            f"Received: {len(labels)}."
        )
    return labels


def class_names_or_numbers(artifact) -> tuple[str, ...]:
    """Return the class names of an opened artifact, or "class 0", "class 1", ... without names."""
    return find_class_names(artifact) or tuple(
        f"class {number}" for number in range(artifact.classes)
    )


def check_class_order(artifact, class_names: Sequence[str]) -> None:
    """Raise InputError if an artifact's class names differ from those of the data."""
    labels = find_class_names(artifact)
    if labels is None:
        return
    if difference := first_difference(labels, class_names):
        number, name, received = difference
        raise InputError(
            f"The data must have the {len(labels)} classes of {artifact.path} in the same order. "
            f"Received: {len(class_names)} classes, number {number} is {brief(received)} "
            f"instead of {brief(name)}."
        )


def class_names_of(artifacts: Iterable) -> tuple[str, ...] | None:
    """Return the class names of the first artifact that has any, or None."""
    return next(filter(None, map(find_class_names, artifacts)), None)


def first_difference(labels: Iterable[str], class_names: Iterable[str]):
    """Return (number, label, class name) of the first difference, or None if there is none."""
    pairs = enumerate(zip_longest(labels, class_names))
    return next(((number, *pair) for number, pair in pairs if pair[0] != pair[1]), None)
