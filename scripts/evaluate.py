"""Test trained models side by side: python scripts/evaluate.py ARTIFACT..."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from keras_arch import files
from keras_arch.cli import parse, print_table, progress, quiet, run, say
from keras_arch.errors import InputError
from keras_arch.reports.tables import short_names, transpose


@dataclass
class Options:
    """One table of size, accuracy, calibration and latency, and whether each differs from the first by more than chance."""

    artifacts: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="ARTIFACT")]
    """Run folders, .keras files, SavedModel folders, .tflite and .onnx files."""
    dataset: str | None = None
    """A name, a folder or an .npz file; the data of the first artifact's run if not given."""
    data_dir: Path | None = None
    """Folder of prepared TFDS data sets; the one that the run was trained from if not given."""
    split: Literal["train", "validation", "test", "all"] | None = None
    """Images to evaluate. Default: all of a --dataset folder without split folders that is not the training data, else test."""
    output: Path | None = None
    """Folder for metrics.json and, of each artifact, confusion matrix, reliability diagram and worst mistakes."""


def main():
    options = parse(Options, sys.argv[1:], prog="evaluate.py")
    if not options.artifacts:
        raise InputError(
            "expected one ARTIFACT or more, got none; saved_models/quickstart/model.keras would work"
        )
    if options.output:
        files.check_writable(options.output)
    with quiet():
        from keras_arch import load_dataset, open_artifact
        from keras_arch.class_names import check_class_order, class_names_of
        from keras_arch.data.classes import with_classes
        from keras_arch.data.image_folder import is_unsplit
        from keras_arch.data.tfds import SPLITS
        from keras_arch.evaluation.evaluate import compare
        from keras_arch.reports.figures import write_evaluation
        from keras_arch.reports.tables import (
            absent_classes_line,
            class_rows,
            confusions_line,
            evaluation_legend,
            evaluation_row,
        )
        from keras_arch.runs.origin import dataset_of, is_training_data, warn_of_changes

        artifacts = [open_artifact(path) for path in options.artifacts]
    folder, names = short_names(options.artifacts)
    name, data_dir, data_options = dataset_of(artifacts[0].path, options.dataset, options.data_dir)
    if options.output:
        files.refuse_inside(options.output, [name])
    held_out = is_unsplit(name) and not is_training_data(artifacts, name)
    split = options.split or ("all" if held_out else "test")
    keep = SPLITS if split == "all" else (split,)
    dataset = load_dataset(
        name,
        data_dir,
        artifacts[0].image_size,
        keep=keep,
        allow_absent_classes=True,
        **data_options,
    )
    warn_of_changes(artifacts, name, dataset, split)
    dataset = with_classes(dataset, class_names_of(artifacts) or dataset.class_names)
    for artifact in artifacts:
        check_class_order(artifact, dataset.class_names)
    found = rows, *_ = compare(artifacts, dataset, split, progress)
    say(
        f"{folder}: {name}, {'all splits' if split == 'all' else f'{split} split'}, {rows[0]['images']:,} images"
    )
    print_table(
        transpose({short: evaluation_row(row) for short, row in zip(names, rows, strict=True)})
    )
    print(evaluation_legend(rows))
    say(f"{names[0]}, class by class:")
    print_table(class_rows(rows[0]))
    print(confusions_line(rows[0]))
    if absent := absent_classes_line(rows[0]):
        print(absent)
    if options.output:
        write_evaluation(options.output, dataset, split, names, *found)
        say(f"metrics.json and pictures are in {options.output}.")


if __name__ == "__main__":
    run(main)
