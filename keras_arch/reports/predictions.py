"""Print predictions as a table, JSON lines or CSV."""

import csv
import json
import sys

from ..text import printable


def print_text(rows):
    """Print a line for each image: its path, then class names and probabilities."""
    for row in rows:
        classes = ", ".join(f"{one['label']} {one['probability']:.1%}" for one in row["classes"])
        print(printable(f"{row['image']}: {classes}"))


def print_json(rows):
    """Print a JSON object for each image."""
    for row in rows:
        print(json.dumps(row))


def print_csv(rows):
    """Print a header and a row for each image."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    header: list[str] = []
    for row in rows:
        if not header:  # the model may have fewer classes than --top
            columns = range(1, len(row["classes"]) + 1)
            header = [
                "image",
                *(f"{kind}_{number}" for number in columns for kind in ("label", "probability")),
            ]
            writer.writerow(header)
        writer.writerow(
            [row["image"], *(value for one in row["classes"] for value in one.values())]
        )


WRITERS = {"table": print_text, "json": print_json, "csv": print_csv}
