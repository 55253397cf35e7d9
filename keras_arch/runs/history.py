"""Write and read history.csv, the metrics of each epoch."""

import csv

from ..errors import first_line
from ..files import atomic_write
from ..text import brief
from .fields import damaged_error

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")  # columns of every history.csv


def write_history(path, history):
    """Write `history`, {column: [value of each epoch]}, to a CSV file."""

    def write(path):
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["epoch", *history])
            rows.writerows(
                [epoch, *values]
                for epoch, values in enumerate(zip(*history.values(), strict=True), start=1)
            )

    atomic_write(path, write)


def read_history(folder):
    """Return the history of a run directory.

    Returns:
        {column: [value of each epoch]} without the column "epoch".

    Raises:
        InputError (a ValueError): history.csv is missing or damaged.
    """
    path = folder / "history.csv"
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise damaged_error(path, first_line(error)) from error
    if len(rows) < 2:
        raise damaged_error(path, "it has no epochs")
    if len({len(row) for row in rows}) > 1:
        raise damaged_error(path, "its rows have different lengths")
    columns = {name: texts for name, *texts in zip(*rows, strict=True)}
    if missing := [name for name in CURVES if name not in columns]:
        raise damaged_error(path, f"it has no column {missing[0]}")
    return {
        name: [parse_number(path, name, text) for text in texts]
        for name, texts in columns.items()
        if name != "epoch"
    }


def parse_number(path, column, text):
    """Return the number in a field of history.csv."""
    try:
        return float(text)
    except ValueError:
        raise damaged_error(
            path, f"column {brief(column)} must hold numbers. Received: {brief(text)}"
        ) from None


def best_epoch(history, first=0):
    """Return the index of the best epoch, counted from 0.

    Epochs before `first` do not count if there are later ones.

    The best epoch has the highest validation accuracy, or balanced validation accuracy if the
    history has it. Ties are resolved by the lowest validation loss, then by the first epoch.
    """
    accuracy = history.get("val_balanced_accuracy", history["val_accuracy"])
    scores = list(zip(accuracy, (-loss for loss in history["val_loss"]), strict=True))
    return max(range(first if first < len(scores) else 0, len(scores)), key=scores.__getitem__)
