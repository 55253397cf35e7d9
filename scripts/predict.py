"""Classify images: keras-arch predict MODEL IMAGE..."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from keras_arch import files
from keras_arch.cli import parse, quiet, run, use_tensorflow
from keras_arch.errors import InputError, require
from keras_arch.options import Metavar, Positional, Range


@dataclass
class Options:
    """Print the most probable classes of each image.

    To classify images in a browser, run keras-arch demo.
    """

    artifact: Annotated[Path, Positional("MODEL")]
    """Run directory, .keras, .tflite or .onnx file, SavedModel directory, or demo."""
    images: Annotated[tuple[Path, ...], Positional("IMAGE...")]
    """Image files of any size (formats: docs/data.md), directories, or CSV files of paths."""
    top: Annotated[int, Range(1, 1_000_000)] = 5
    """Number of classes per image."""
    format: Literal["table", "json", "csv"] = "table"
    """Output format on the screen. json prints one object per line."""
    output: Annotated[Path | None, Metavar("FILE")] = None
    """Path of a .csv or .parquet file to write. The same command continues an unfinished file."""
    shard: Annotated[str | None, Metavar("K/N")] = None
    """Slice of the images, 1/N to N/N, for N jobs. Requires --output."""
    at_least: Annotated[float, Range(0, 1)] | None = None
    """Probability below which an image is unsure, from keras-arch calibrate. Default: none."""
    explain: Annotated[Path | None, Metavar("DIRECTORY")] = None
    """Output directory for Grad-CAM heat maps (.keras files only)."""


def main():
    options = parse(Options, sys.argv[1:], "predict")
    from keras_arch import open_artifact
    from keras_arch.class_names import class_names_or_numbers
    from keras_arch.evaluation.inputs import ALL, list_images, parse_slice
    from keras_arch.evaluation.predictions import classify, explain
    from keras_arch.reports.predictions import WRITERS

    if not options.images:
        raise InputError("Pass at least one image, such as examples/digit.png.")
    shard = parse_slice(options.shard) if options.shard else ALL
    if options.output:
        check_output(options)
    elif options.shard:
        raise InputError("--shard needs --output FILE.csv or FILE.parquet.")
    if options.explain:
        use_tensorflow()  # for its gradients
        require("train", ["matplotlib", "tensorflow"])
        files.check_writable(options.explain)
        files.refuse_inside(options.explain, options.images)
    paths = list_images(options.images)
    with quiet():
        artifact = open_artifact(options.artifact)
    if options.explain and artifact.kind != "keras":
        raise InputError(
            f"--explain needs the gradients of a .keras file. Received: {options.artifact}."
        )
    labels = class_names_or_numbers(artifact)
    if options.output:
        return write_file(options, artifact, labels, paths, shard)
    if options.explain:
        with quiet():
            explain(artifact.path, paths, options.explain)
        print(f"Heat maps saved to {options.explain}.", file=sys.stderr)
    WRITERS[options.format](classify(artifact, paths, labels, options.top), options.at_least)


def check_output(options):
    """Raise InputError unless a file of predictions can be written."""
    from keras_arch.reports.prediction_file import check_suffix

    if options.explain or options.format != "table":
        option = "--explain" if options.explain else "--format"
        raise InputError(f"--output writes one file of predictions. Remove {option}.")
    check_suffix(options.output)
    files.check_writable(options.output, "file")
    files.refuse_inside(options.output, options.images)


def write_file(options, artifact, labels, paths, shard):
    """Write the predictions of a slice to --output."""
    from keras_arch.evaluation.predictions import predict_files
    from keras_arch.reports.prediction_file import Source, write_predictions

    top = min(options.top, artifact.classes)
    source = Source(
        model=files.hash_of_path(artifact.path),
        class_names=files.hash_of_json(labels),
        images=files.hash_of_json(list(map(str, paths))),
        shard=str(shard),
        top=top,
        at_least=options.at_least,
    )
    write_predictions(
        options.output,
        source,
        shard.of(paths),
        lambda images: predict_files(artifact, images, labels, top),
    )


if __name__ == "__main__":
    run(main)
