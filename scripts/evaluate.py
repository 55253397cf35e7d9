"""Evaluate and compare models: keras-arch evaluate MODEL..."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from keras_arch import files
from keras_arch.cli import parse, print_table, progress, quiet, run, say
from keras_arch.errors import InputError
from keras_arch.options import Metavar, Positional
from keras_arch.reports.tables import short_names, transpose


@dataclass
class Options:
    """Print size, accuracy, calibration and latency of models and compare them."""

    artifacts: Annotated[tuple[Path, ...], Positional("MODEL...")]
    """Run directories, .keras, .tflite and .onnx files, SavedModel directories, or demo."""
    dataset: Annotated[str | None, Metavar("DATASET")] = None
    """Name, image folder, .csv or .npz file. Default: training data of the first model."""
    data_dir: Annotated[str | None, Metavar("DIRECTORY|URL")] = None
    """Directory of prepared TFDS data sets. Default: that of the training run."""
    split: Literal["train", "validation", "test", "all"] | None = None
    """Split to evaluate. Default: all for new images without splits, else test."""
    output: Annotated[Path | None, Metavar("DIRECTORY")] = None
    """Output directory for metrics.json, figures and predictions.csv, highest losses first."""


def main():
    options = parse(Options, sys.argv[1:], "train")
    if not options.artifacts:
        raise InputError("Pass at least one model, such as saved_models/quickstart/model.keras.")
    if options.output:
        files.check_writable(options.output)
    with quiet():
        from keras_arch import load_dataset, open_artifact
        from keras_arch.class_names import check_class_order, class_names_of
        from keras_arch.data.classes import with_classes
        from keras_arch.data.folders import is_unsplit
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
    rows, outputs, labels = compare(artifacts, dataset, split, progress)
    metrics = rows[0].metrics
    splits = "all splits" if split == "all" else f"{split} split"
    say(f"{folder}: {name}, {splits}, {metrics.images:,} images")
    print_table(
        transpose({short: evaluation_row(row) for short, row in zip(names, rows, strict=True)})
    )
    print(evaluation_legend(rows))
    say(f"Classes of {names[0]}:")
    print_table(class_rows(metrics))
    print(confusions_line(metrics))
    if absent := absent_classes_line(metrics):
        print(absent)
    if options.output:
        write_evaluation(options.output, dataset, split, names, rows, outputs, labels)
        say(f"metrics.json, predictions and figures saved to {options.output}.")


if __name__ == "__main__":
    run(main)
