"""Read a table of images from a CSV file. This module does not import TensorFlow."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError, first_line
from ..files import refuse_pipe
from ..text import brief


class Table(NamedTuple):
    """The cells of a CSV file, without spaces around them. Rows without text are left out."""

    columns: list[str]  # in lower case
    rows: dict[int, list[str]]  # {number: cells}; the header is row 1


def read_table(path: Path, required: Sequence[str] = ("path", "label")) -> Table:
    """Read a CSV file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        required: columns that it must have.

    Raises:
        InputError (a ValueError): the file cannot be read, lacks a required column or has two of
            the same name.
    """
    text = io.StringIO(read_text(path), newline="")
    reader = csv.reader(text, skipinitialspace=True, strict=True)
    try:
        lines = list(reader)
    except csv.Error as error:
        raise InputError(
            f"{path} must be a CSV file. Received: {first_line(error)} (line {reader.line_num}). "
            "Save the table as CSV."
        ) from error
    header = lines[0] if lines else []
    columns = [name.strip().lower() for name in header]
    if any(columns.count(name) != 1 for name in required) or columns.count("split") > 1:
        needed = "columns path and label, and optionally split"
        raise InputError(
            f"The first row of {path} must name the {needed if len(required) > 1 else 'column path'}. "
            f"Received: {brief(','.join(header))}. Separate names by commas."
        )
    rows = {
        number: [cell.strip() for cell in cells]
        for number, cells in enumerate(lines[1:], start=2)
        if any(map(str.strip, cells))
    }
    return Table(columns, rows)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file without a byte order mark, or raise InputError."""
    refuse_pipe(path)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist. Pass an existing .csv file.") from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read. Received: {first_line(error)}. Pass a .csv file."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} must be UTF-8 text. Received: the byte 0x{error.object[error.start]:02x} in "
            f"line {line}. Save it as CSV in UTF-8."
        ) from error


def directory_of(path: Path) -> str:
    """Return the directory to which the paths in a manifest are relative."""
    return str(path.resolve().parent)


def read_paths(path: Path) -> list[Path]:
    """Return the paths in the column "path" of a CSV file. Other columns are ignored.

    Relative paths are relative to the directory of the file, or of the file to which a link leads.
    The images may not exist.

    Raises:
        InputError (a ValueError): the file cannot be read, or lacks the column or a path.
    """
    columns, rows = read_table(path, ["path"])
    column = columns.index("path")
    for number, cells in rows.items():
        if len(cells) <= column or not cells[column]:
            raise InputError(
                f"{path} must have an image in each row. Received: row {number}: no path. "
                "Correct or remove the row."
            )
    directory = path.resolve().parent if path.is_symlink() else path.parent
    return [directory / cells[column] for cells in rows.values()]
