"""Print predictions as a table, JSON lines or CSV."""

import csv
import json
import sys

from ..text import printable


def print_text(rows):
    """Print a line for each image: its path, then class names and probabilities."""
    for row in rows:
        classes = ", ".join(f"{one.label} {one.probability:.1%}" for one in row.classes)
        print(printable(f"{row.image}: {classes}"))


def print_json(rows):
    """Print a JSON object for each image."""
    for row in rows:
        print(json.dumps({"image": row.image, "classes": [one._asdict() for one in row.classes]}))


def print_csv(rows):
    """Print a header and a row for each image."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, row in enumerate(rows):
        if number == 0:  # the model may have fewer classes than --top
            writer.writerow(columns_of(len(row.classes)))
        writer.writerow(cells_of(row))


def columns_of(classes):
    """Return the names of the columns of a CSV file.

    Args:
        classes: number of classes of each image.
    """
    numbers = range(1, classes + 1)
    return [
        "image",
        *(f"{kind}_{number}" for number in numbers for kind in ("label", "probability")),
    ]


def cells_of(row):
    """Return the cells of a prediction in the columns of `columns_of`."""
    return [row.image, *(value for one in row.classes for value in one)]


WRITERS = {"table": print_text, "json": print_json, "csv": print_csv}
