"""Print predictions as a table, JSON lines or CSV.

With `at_least`, a prediction is unsure if the probability of its class is lower.
"""

import json
import sys

from ..text import csv_writer, printable, spreadsheet_path, spreadsheet_text


def is_unsure(row, at_least):
    """Return whether the probability of the most probable class is below `at_least`."""
    return row.classes[0].probability < at_least


def print_text(rows, at_least=None):
    """Print a line for each image: its path, then class names and probabilities."""
    for row in rows:
        classes = ", ".join(f"{one.label} {one.probability:.1%}" for one in row.classes)
        if at_least is not None and is_unsure(row, at_least):
            classes = f"unsure ({classes})"
        print(printable(f"{row.image}: {classes}"))


def print_json(rows, at_least=None):
    """Print a JSON object for each image."""
    for row in rows:
        found = {"image": row.image, "classes": [one._asdict() for one in row.classes]}
        if at_least is not None:
            found["unsure"] = is_unsure(row, at_least)
        print(json.dumps(found))


def print_csv(rows, at_least=None):
    """Print a header and a row for each image."""
    writer = csv_writer(sys.stdout)
    for number, row in enumerate(rows):
        if number == 0:  # the model may have fewer classes than --top
            writer.writerow(columns_of(len(row.classes), at_least))
        writer.writerow(spreadsheet_cells(row, at_least))


def columns_of(classes, at_least=None):
    """Return the names of the columns of a CSV file.

    Args:
        classes: number of classes of each image.
        at_least: probability below which a prediction is unsure. None: there is no such column.
    """
    numbers = range(1, classes + 1)
    return [
        "image",
        *(f"{kind}_{number}" for number in numbers for kind in ("label", "probability")),
        *(["unsure"] if at_least is not None else []),
    ]


def cells_of(row, at_least=None):
    """Return the cells of a prediction in the columns of `columns_of`.

    An image that cannot be read has only the first one.
    """
    cells = [row.image, *(value for one in row.classes for value in one)]
    if at_least is not None and row.classes:
        cells.append("true" if is_unsure(row, at_least) else "false")
    return cells


def spreadsheet_cells(row, at_least=None):
    """Return the cells of a prediction for a CSV file, in which no text is a formula."""
    image, *cells = cells_of(row, at_least)
    texts = (spreadsheet_text(cell) if isinstance(cell, str) else cell for cell in cells)
    return [spreadsheet_path(image), *texts]


WRITERS = {"table": print_text, "json": print_json, "csv": print_csv}
