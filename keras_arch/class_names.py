"""Class names: how they are stored with a model, read and compared."""

import re
import zipfile
from collections.abc import Iterable
from contextlib import contextmanager
from itertools import zip_longest
from numbers import Integral

from .errors import InputError, first_line
from .files import find_in_run
from .text import brief, shorten

# What a file of labels cannot hold in a name: editors add carriage returns and byte order marks, and surrogate characters
# stand for bytes that are not UTF-8.
NOT_IN_LABELS = re.compile("[\r\n\ufeff\ud800-\udfff]")


def check_class_names(class_names):
    """Return class names as a tuple of text, or raise InputError.

    Args:
        class_names: texts, or whole numbers such as `range(10)`, which become text. Each must be one line of UTF-8.
    """
    listed = isinstance(class_names, Iterable) and not isinstance(class_names, (str, bytes))
    names = tuple(class_names) if listed else ()
    wrong = [
        name for name in names if not isinstance(name, (str, Integral)) or isinstance(name, bool)
    ]
    if not names or wrong:
        received = shorten(repr(wrong[0] if wrong else class_names))
        raise InputError(
            f"`class_names` must be texts or whole numbers, one for each class. Received: {received}. "
            'Pass a list such as ["cat", "dog"].'
        )
    names = tuple(map(str, names))
    unfit = [name for name in names if not name or NOT_IN_LABELS.search(name)]
    if unfit:
        raise InputError(
            "Class names must be UTF-8 text, not empty, without line breaks or byte order marks. "
            f"Received: {shorten(repr(unfit[0]))}. Rename the class."
        )
    return names


LABELS = "labels.txt"  # of a run, and packed into its .tflite files


def write_labels(path, class_names):
    """Write one class a line, in the order of the model's outputs.

    Raises:
        InputError (a ValueError): a name cannot be a line of UTF-8.
    """
    lines = [f"{name}\n" for name in check_class_names(class_names)]
    path.write_bytes(
        "".join(lines).encode()
    )  # as bytes: Windows would change the line breaks of text


@contextmanager
def explain_label_errors(path):
    """Raise InputError if the block cannot read class names from `path`."""
    try:
        yield
    except Exception as error:  # a damaged archive raises whatever its bytes happen to mean
        raise InputError(
            f"The labels in {path} cannot be read. Received: {first_line(error)}. They must be UTF-8 text, a class on each "
            "line, without a password."
        ) from error


def read_labels(path):
    """The class names of a labels.txt, in the order of the model's outputs."""
    with explain_label_errors(path):
        return parse_labels(path.read_bytes())


def read_packed_labels(path):
    """The class names that are packed into a .tflite file, as a list."""
    with explain_label_errors(path), zipfile.ZipFile(path) as archive:
        return list(parse_labels(archive.read(LABELS)))


def parse_labels(content):
    """The class names in the bytes of a file of labels, without the carriage returns and the byte order mark of editors."""
    lines = content.decode("utf-8-sig").removesuffix("\n").split("\n")
    return tuple(line.removesuffix("\r") for line in lines)


def has_labels(path):
    """Whether a .tflite file has its class names packed into it."""
    if not zipfile.is_zipfile(path):
        return False
    with explain_label_errors(path), zipfile.ZipFile(path) as archive:
        return LABELS in archive.namelist()


def known_labels(artifact):
    """The class names of an opened artifact: those in the file itself, or of labels.txt in its run; None where neither is."""
    asset = artifact.path / "assets" / LABELS  # of a SavedModel
    path = asset if asset.is_file() else find_in_run(artifact.path, LABELS)
    if artifact.kind == "tflite" and has_labels(artifact.path):
        path, labels = artifact.path, tuple(read_packed_labels(artifact.path))
    elif path is None:
        return None
    else:
        labels = read_labels(path)
    if len(labels) != artifact.classes:
        raise InputError(
            f"expected {artifact.classes} labels in {path}, one for each class of {artifact.path}, got {len(labels)}"
        )
    return labels


def labels_or_numbers(artifact):
    """The class names of an opened artifact, or numbers in their place where nobody knows them."""
    return known_labels(artifact) or tuple(f"class {number}" for number in range(artifact.classes))


def check_class_order(artifact, class_names):
    """Raise InputError where an artifact's classes are known and others, or in another order, than those of the data."""
    labels = known_labels(artifact)
    if labels is None:
        return
    if changed := first_difference(labels, class_names):
        number, ours, theirs = changed
        raise InputError(
            f"expected images of the {len(labels)} classes of {artifact.path} in their order, got {len(class_names)}, of "
            f"which number {number} is {brief(theirs)} and not {brief(ours)}"
        )


def class_names_of(artifacts):
    """The class names of the first of opened artifacts that has some, or None."""
    return next(filter(None, map(known_labels, artifacts)), None)


def first_difference(labels, class_names):
    """(number, label, class name) of the first class in which two orders of classes differ; None if they are the same."""
    pairs = enumerate(zip_longest(labels, class_names))
    return next(((number, *pair) for number, pair in pairs if pair[0] != pair[1]), None)
