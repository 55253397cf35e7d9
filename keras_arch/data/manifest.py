"""Read a CSV manifest: a row per image with the columns path, label and, optionally, split."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..class_names import NOT_IN_LABELS
from ..datasets import is_manifest
from ..errors import DataWarning, InputError
from ..files import real_path
from ..text import brief, join_first, shorten
from .dataset import SPLIT_NAMES
from .image_folder import ClassPaths, ImageFolder
from .table import directory_of, read_table

COLUMNS = ("path", "label", "split")  # split is optional
SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
ROWS_LISTED = 20  # in the details of an error


class Row(NamedTuple):
    """A row of a manifest."""

    file: str
    label: str
    split: str


def read_manifest(path: Path) -> ImageFolder:
    """Return the images of a manifest by split and class. Without a split column, all is training.

    Paths in the manifest are relative to its directory. The files exist, but are not decoded.

    Raises:
        InputError (a ValueError): the file is not a manifest, a row cannot be used, or no row is
            for training. The details list the rows.

    Warns:
        DataWarning: columns are not used.
    """
    (columns, rows), directory = read_table(path), directory_of(path)
    if unused := [shorten(column) for column in columns if column not in COLUMNS]:
        warnings.warn(
            f"Columns of {path} that are not used: {join_first(unused)}.", DataWarning, stacklevel=2
        )
    splits: dict[str, ClassPaths] = {split: {} for split in SPLIT_NAMES}
    first: dict[str, tuple[int, str]] = {}  # {file: number and label of its first row}
    problems = []
    for number, cells in rows.items():
        try:
            row = parse_row(columns, cells, directory)
        except InputError as error:
            problems.append(f"row {number}: {error}")
            continue
        before, label = first.setdefault(os.path.normpath(row.file), (number, row.label))
        if before != number:
            problems.append(
                f"row {number}: {brief(cells[columns.index('path')])} is also in row {before}, "
                f"with the label {brief(label)}"
            )
        splits[row.split].setdefault(row.label, []).append(row.file)
    raise_row_problems(path, problems)
    if not splits["train"]:
        received = "rows of other splits" if rows else "no rows after the header"
        raise InputError(
            f"{path} must have rows of the training split. Received: {received}. Add rows with the "
            "split train, or remove the column split."
        )
    used = {split: classes for split, classes in splits.items() if classes}
    return ImageFolder({split: Path(split) for split in used}, used)


def has_splits(path: Path) -> bool:
    """Return whether a manifest has the column split."""
    return "split" in read_table(path).columns


def parse_row(columns: Sequence[str], cells: Sequence[str], directory: str) -> Row:
    """Return the file, label and split in a row. The message of an InputError is the problem."""
    if len(cells) != len(columns):
        raise InputError(f"{len(cells)} cells instead of {len(columns)}")
    row = dict(zip(columns, cells, strict=True))
    if empty := [column for column in COLUMNS if row.get(column) == ""]:
        raise InputError(f"no {empty[0]}")
    if NOT_IN_LABELS.search(row["label"]):
        raise InputError(f"the label {brief(row['label'])} is not one line of text")
    split = SPLIT_OF.get(row.get("split", "train").lower())
    if split is None:
        raise InputError(f"the split {brief(row['split'])} is not train, validation or test")
    file = os.path.join(directory, row["path"])
    if not os.path.isfile(file):
        problem = "is not a file" if os.path.exists(file) else "does not exist"
        raise InputError(f"{brief(row['path'])} {problem}")
    return Row(file, row["label"], split)


def raise_row_problems(path: Path, problems: Sequence[str]) -> None:
    """Raise InputError if any row has a problem. Its details list the first ones."""
    if not problems:
        return
    more = len(problems) - ROWS_LISTED
    details = [*problems[:ROWS_LISTED], *([f"{more} more rows"] if more > 0 else [])]
    others = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    raise InputError(
        f"{path} must have an image and a label in each row. Received: {problems[0]}{others}. "
        "Correct or remove the row.",
        details=details if others else (),
    )


def refuse_images(output: Path, name: str | Path) -> None:
    """Raise InputError if an output is an image of a manifest, or a directory that contains one.

    Args:
        output: path of a file or directory to write.
        name: data set, as in `keras_arch.load_dataset`. Only manifests are compared.
    """
    if not is_manifest(name):
        return
    columns, rows = read_table(Path(name))
    column, directory, real = columns.index("path"), directory_of(Path(name)), real_path(output)
    for path in (cells[column] for cells in rows.values() if len(cells) > column):
        file = os.path.normpath(os.path.join(directory, path))
        if f"{file}/".startswith(f"{real}/"):
            raise InputError(
                f"{output} must not replace {brief(file)}, an image of {name}. Pass another "
                "--output."
            )
