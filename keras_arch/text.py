"""Names that come from outside, shown as text: on a screen, in a figure, in Markdown."""

import os
import re
import reprlib
import unicodedata

from rich.cells import cell_len, set_cell_size

# Control, format and surrogate characters, and separators of lines: they move the cursor, hide text or cannot be encoded.
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # format characters that Persian, Indic scripts and emoji need
NAME_CELLS = 40  # of a name in a table on the screen
VALUE_CELLS = 60  # of a value in a message


def file_name_text(name):
    """Return the name of a file as UTF-8 text, whatever the locale. Surrogate characters stand for other bytes."""
    return os.fsencode(name).decode(errors="surrogateescape")


def printable(text):
    """Return `text` with each control character as its escape sequence, such as `\\t` or `\\x1b`."""
    return "".join(
        repr(char)[1:-1] if unicodedata.category(char) in UNSEEN and char not in JOINERS else char
        for char in str(text)
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


def brief(value):
    """Return the `repr` of any value, at most 60 columns wide."""
    return shorten(reprlib.repr(value), VALUE_CELLS)


def in_markdown(text):
    """Return `text` as Markdown that shows it unchanged, in a table too."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", printable(text))
