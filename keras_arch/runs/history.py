"""history.csv: the metrics of each epoch."""

import csv

from ..errors import first_line
from ..files import atomic_write
from ..text import brief
from .fields import damaged_error

CURVES = (
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
)  # columns of history.csv that every run has


def write_history(path, history):
    """history: {column: [value of each epoch]}, as Keras keeps it."""

    def write(beside):
        with beside.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["epoch", *history])
            rows.writerows(
                [epoch, *values]
                for epoch, values in enumerate(zip(*history.values(), strict=True), start=1)
            )

    atomic_write(path, write)


def read_history(folder):
    """{column: [value of each epoch]} of a run's history.csv, without the numbers of the epochs."""
    path = folder / "history.csv"
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise damaged_error(path, first_line(error)) from error
    if len(rows) < 2:
        raise damaged_error(path, "no epoch")
    if len({len(row) for row in rows}) > 1:
        raise damaged_error(path, "rows of different lengths")
    columns = {name: texts for name, *texts in zip(*rows, strict=True)}
    if missing := [name for name in CURVES if name not in columns]:
        raise damaged_error(path, f"no column {missing[0]}")
    return {
        name: [parse_number(path, name, text) for text in texts]
        for name, texts in columns.items()
        if name != "epoch"
    }


def parse_number(path, column, text):
    """The number in a field of history.csv."""
    try:
        return float(text)
    except ValueError:
        raise damaged_error(
            path, f"{brief(column)} of {brief(text)}, which must be a number"
        ) from None


def best_epoch(history):
    """Return the epoch, counted from 0, of the highest validation accuracy, or balanced accuracy with class weights.

    Of equal ones it is that of the lowest validation loss, then the first.
    """
    accuracy = history.get("val_balanced_accuracy", history["val_accuracy"])
    scores = list(zip(accuracy, (-loss for loss in history["val_loss"]), strict=True))
    return max(range(len(scores)), key=scores.__getitem__)
