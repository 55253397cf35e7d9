"""Names that come from outside, shown as text: on a screen, in a figure, in Markdown."""

import os
import re
import unicodedata
from collections.abc import Iterable
from numbers import Integral

from rich.cells import cell_len, set_cell_size

from .errors import InputError

# Control, format and surrogate characters, and separators of lines: they move the cursor, hide text or cannot be encoded.
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # format characters that Persian, Indic scripts and emoji need
NAME_CELLS = 40  # of a name in a table on the screen
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
    wrong = [name for name in names if not isinstance(name, (str, Integral)) or isinstance(name, bool)]
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


def file_name_text(name):
    """Return the name of a file as UTF-8 text, whatever the locale. Surrogate characters stand for other bytes."""
    return os.fsencode(name).decode(errors="surrogateescape")


def printable(text):
    """Return `text` with each control character as its escape sequence, such as `\\t` or `\\x1b`."""
    return "".join(
        repr(char)[1:-1] if unicodedata.category(char) in UNSEEN and char not in JOINERS else char for char in str(text)
    )


def shorten(text, cells=NAME_CELLS):
    """Return `text` as `printable` does, with an ellipsis in its middle if it is wider than `cells`.

    Args:
        text: a name.
        cells: columns of a terminal. A Chinese character takes two.
    """
    text = printable(text)
    if cell_len(text) <= cells:
        return text
    head, tail = cells // 2, (cells - 1) // 2
    return f"{set_cell_size(text, head)}…{set_cell_size(text[::-1], tail)[::-1]}"


def in_markdown(text):
    """Return `text` as Markdown that shows it unchanged, in a table too."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", printable(text))
