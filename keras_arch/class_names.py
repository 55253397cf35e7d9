"""Store, read and compare the class names of a model."""

import ast
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from numbers import Integral
from pathlib import Path

from .errors import UNORDERED, InputError, first_line
from .files import find_in_run, refuse_pipe
from .text import brief, shorten

LABELS = "labels.txt"  # in a run directory, and packed into its .keras and .tflite files
ONNX_KEY = "names"  # in the metadata of an .onnx file; files of Ultralytics have it, too
# Characters that a name in labels.txt cannot have. Editors add carriage returns and byte order
# marks. Surrogate characters represent bytes that are not UTF-8.
NOT_IN_LABELS = re.compile("[\r\n\ufeff\ud800-\udfff]")


def check_class_names(class_names: Iterable[str | int]) -> tuple[str, ...]:
    """Return class names as a tuple of strings.

    Args:
        class_names: strings or integers, such as `range(10)`. Each must be one line of UTF-8.

    Raises:
        InputError (a ValueError): not a list of names, a set or dict, which has another order, or a
            name that labels.txt cannot hold.
    """
    if isinstance(class_names, UNORDERED):
        raise InputError(
            "`class_names` must be in the order of the model's outputs. "
            f'Received: a {type(class_names).__name__}. Pass a list such as ["cat", "dog"].'
        )
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
    # Bytes, because Windows changes the line breaks of text.
    path.write_bytes(to_lines(class_names))


def to_lines(class_names: Iterable[str | int]) -> bytes:
    """Return the content of labels.txt."""
    return "".join(f"{name}\n" for name in check_class_names(class_names)).encode()


def pack_labels(path: str | Path, class_names: Iterable[str | int]) -> None:
    """Append labels.txt to a .keras or .tflite file.

    A .keras file is a zip archive. In a .tflite file, a zip archive follows the model. The entry
    has no time, so that files are reproducible.

    Args:
        path: file without class names.
        class_names: one name per class, in the order of the outputs.

    Raises:
        InputError (a ValueError): a name is not one line of UTF-8, or the file does not exist or
            already has class names.

    Example:
        model.save("model.keras")
        pack_labels("model.keras", ["cat", "dog"])
    """
    entry = zipfile.ZipInfo(LABELS)
    entry.external_attr = 0o644 << 16  # readable for all
    content = to_lines(class_names)
    if not Path(path).is_file():
        raise InputError(f"{path} does not exist. Pass a .keras or .tflite file.")
    if read_packed_labels(path) is not None:
        raise InputError(f"{path} already has class names. Save or export the model again.")
    with zipfile.ZipFile(path, "a") as archive:  # uncompressed, for memory mapping
        archive.writestr(entry, content)


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


def read_packed_labels(path: str | Path) -> tuple[str, ...] | None:
    """Read the class names that are packed into a .keras or .tflite file. None without names."""
    if not zipfile.is_zipfile(path):
        return None
    with explain_label_errors(path), zipfile.ZipFile(path) as archive:
        return parse_labels(archive.read(LABELS)) if LABELS in archive.namelist() else None


def class_names_for(path: Path, labels: Path | None) -> tuple[str, ...]:
    """Read the class names of a .keras file.

    Args:
        path: .keras file. It may not exist.
        labels: text file with one class name per line. None: the class names in the .keras file.

    Raises:
        InputError (a ValueError): there are no class names, or they cannot be read.
    """
    refuse_pipe(labels or path)
    if labels is not None:
        return check_class_names(read_labels(labels))
    names = read_packed_labels(path) if path.is_file() else ()
    if names is None:
        raise InputError(
            f"{path} has no class names. Pass --labels with a text file of one name per line, in "
            "the order of the outputs."
        )
    return names


def parse_labels(content: bytes) -> tuple[str, ...]:
    """Return the class names in the content of labels.txt.

    Carriage returns and a byte order mark, which editors add, are removed.
    """
    lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    return tuple(line.removesuffix("\r") for line in lines)


def to_onnx_metadata(class_names: Iterable[str | int]) -> dict[str, str]:
    """Return {key: value} for the metadata of an .onnx file. The value is a JSON list."""
    return {ONNX_KEY: json.dumps(check_class_names(class_names), ensure_ascii=False)}


def parse_onnx_metadata(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the class names in the metadata of an .onnx file, or None.

    They are a JSON list, or a Python dict {index: name} in files of Ultralytics. Other programs
    may use the key for something else.
    """
    text = metadata.get(ONNX_KEY, "")
    with suppress(ValueError, SyntaxError, KeyError, RecursionError, MemoryError):
        if text.startswith("["):
            return check_class_names(json.loads(text))
        if text.startswith("{"):
            names = ast.literal_eval(text)
            return check_class_names([names[number] for number in range(len(names))])
    return None


def find_class_names(artifact) -> tuple[str, ...] | None:
    """Return the class names of an opened artifact, or None if there are none.

    They are in the file or SavedModel itself, or else in labels.txt of its run directory.
    """
    if artifact.class_names is not None:
        return artifact.class_names
    path = find_in_run(artifact.path, LABELS)
    if path is None:
        return None
    labels = read_labels(path)
    check_number_of_names(path, labels, artifact)
    return labels


def check_number_of_names(path: Path, labels: Sequence[str], artifact) -> None:
    """Raise InputError unless the class names in `path` are one per class of an artifact."""
    if len(labels) != artifact.classes:
        raise InputError(
            f"{path} must have {artifact.classes} class names, one per class of {artifact.path}. "
            f"Received: {len(labels)}."
        )


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
