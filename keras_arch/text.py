"""Show names and values of users as text: on a screen, in a figure, in Markdown."""

import csv
import html
import os
import re
import reprlib
import unicodedata
from collections.abc import Sequence
from types import SimpleNamespace
from typing import TextIO

from rich.cells import cell_len, set_cell_size

# Unicode categories: control, format and surrogate characters, line and paragraph separators.
# They move the cursor, hide text or cannot be encoded.
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
# First characters of a cell that spreadsheets read as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
JOINERS = "\u200c\u200d"  # format characters that Persian, Indic scripts and emoji need
NAME_CELLS = 40  # width of a name in a table, in terminal columns
VALUE_CELLS = 60  # width of a value in a message, in terminal columns


def file_name_text(name: str) -> str:
    """Return a file name as UTF-8 text in any locale. Other bytes become surrogate characters."""
    return os.fsencode(name).decode(errors="surrogateescape")


def printable(text) -> str:
    """Return `text` with control characters as escape sequences, such as `\\t` or `\\x1b`."""
    return "".join(
        repr(char)[1:-1]
        if unicodedata.category(char) in INVISIBLE and char not in JOINERS
        else char
        for char in str(text)
    )


def escape_html(text) -> str:
    """Return `text` for an HTML page, with control characters as escape sequences."""
    return html.escape(printable(text))


def shorten(text, cells: int = NAME_CELLS) -> str:
    """Return printable text, with an ellipsis in its middle if it is wider than `cells`.

    Args:
        text: name or value.
        cells: width in terminal columns. A Chinese character takes two.
    """
    text = printable(text)
    if cell_len(text) <= cells:
        return text
    head, tail = cells // 2, (cells - 1) // 2
    return f"{set_cell_size(text, head)}…{set_cell_size(text[::-1], tail)[::-1]}"


def brief(value) -> str:
    """Return the `repr` of a value in at most 60 terminal columns."""
    return shorten(reprlib.repr(value), VALUE_CELLS)


def join_first(names: Sequence[str], count: int = 3) -> str:
    """Return the first `count` names in one line, and the number of the others."""
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")


def spreadsheet_text(text: str) -> str:
    """Return `text` for a cell of a CSV file. An apostrophe keeps it from being a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def spreadsheet_path(path: str) -> str:
    """Return a path for a cell of a CSV file. It is no formula, and still opens."""
    return f"./{path}" if path.startswith(FORMULA) else path


def csv_writer(file: TextIO):
    """Return a `csv.writer` whose lines end with a line feed.

    With that as its line terminator, `csv.writer` would not quote carriage returns.
    """
    lines = SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n"))
    return csv.writer(lines)


def in_markdown(text) -> str:
    """Escape `text` for Markdown, also for tables."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", printable(text))
