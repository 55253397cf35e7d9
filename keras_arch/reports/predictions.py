"""Predictions on the screen: a table, JSON or CSV."""

import csv
import json
import sys

from ..text import printable


def write_table(rows):
    for row in rows:
        shares = ", ".join(f"{one['label']} {one['probability']:.1%}" for one in row["classes"])
        print(printable(f"{row['image']}: {shares}"))


def write_json(rows):
    for row in rows:
        print(json.dumps(row))


def write_csv(rows):
    writer = csv.writer(sys.stdout, lineterminator="\n")
    header: list[str] = []
    for row in rows:
        if not header:  # of as many classes as there are, where there are fewer than asked for
            columns = range(1, len(row["classes"]) + 1)
            header = [
                "image",
                *(f"{kind}_{number}" for number in columns for kind in ("label", "probability")),
            ]
            writer.writerow(header)
        writer.writerow(
            [row["image"], *(value for one in row["classes"] for value in one.values())]
        )


WRITERS = {"table": write_table, "json": write_json, "csv": write_csv}
