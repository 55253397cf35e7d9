"""Test trained models side by side: python scripts/evaluate.py ARTIFACT..."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from keras_arch import cli
from keras_arch.errors import InputError


@dataclass
class Options:
    """One table of size, accuracy, agreement with the first artifact, and latency at batch 1 (median)."""

    artifacts: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ARTIFACT")]
    """.keras files, SavedModel folders and .tflite files."""
    dataset: str | None = None
    """A name, a folder or an .npz file; the data of the first artifact's run if not given."""
    data_dir: Path | None = None
    """Folder of prepared TFDS data sets; the one that the run was trained from if not given."""
    split: Literal["train", "validation", "test"] = "test"
    """Which images."""
    output: Path | None = None
    """A .json file for the same numbers."""


def main():
    options = cli.parse(Options, sys.argv[1:], prog="evaluate.py")
    if not options.artifacts:
        raise InputError("expected one ARTIFACT or more, got none; saved_models/quickstart/model.keras would work")
    if options.output is not None and (options.output.is_dir() or options.output.suffix != ".json"):
        raise InputError(f"expected --output to be a .json file, got {options.output}")
    with cli.quiet():
        from keras_arch import evaluation, files, load_dataset, open_artifact, runs

        artifacts = [open_artifact(path) for path in options.artifacts]
    name, data_dir, skip_unreadable = runs.dataset_of(options.artifacts[0], options.dataset, options.data_dir)
    dataset = load_dataset(name, data_dir, artifacts[0].image_size, skip_unreadable)
    rows = evaluation.compare(artifacts, dataset, options.split)
    if options.output:
        files.write_json(options.output, {"dataset": name, "split": options.split, "artifacts": rows})
    folder, names = cli.short_names(options.artifacts)
    print(f"{folder or '.'}: {name}, {options.split} split, {rows[0]['images']:,} images")
    cli.print_table([readable(name, row) for name, row in zip(names, rows, strict=True)])


def readable(name, row):
    """A row of numbers as a person reads them."""
    titles = {"top1": "top-1", "top5": "top-5", "agreement": "agrees"}
    shares = {title: f"{row[column]:.2%}" for column, title in titles.items() if column in row}
    return {"artifact": name, "size": cli.megabytes(row["bytes"]), **shares, "latency": f"{row['latency_ms']:.2f} ms"}


if __name__ == "__main__":
    cli.run(main)
