"""Classify pictures: python scripts/predict.py ARTIFACT IMAGE_OR_FOLDER..."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from keras_arch import files
from keras_arch.cli import parse, quiet, run
from keras_arch.errors import InputError
from keras_arch.options import Range


@dataclass
class Options:
    """Print the most probable classes of each picture, a line a picture."""

    artifact: Annotated[Path, tyro.conf.Positional]
    """A run folder, a .keras file, a SavedModel folder, a .tflite or an .onnx file."""
    images: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE_OR_FOLDER")
    ]
    """Pictures of any size, JPEG, PNG, BMP, GIF, WebP ..., and folders of them."""
    top: Annotated[int, Range(1, 1_000_000)] = 5
    """How many classes."""
    format: Literal["table", "json", "csv"] = "table"
    """For people, or for programs: a JSON object a line, or comma-separated values under a header."""
    explain: Path | None = None
    """Folder for pictures of where the model looked, by Grad-CAM, from blue, nothing, to red, most; for .keras files."""


def main():
    options = parse(Options, sys.argv[1:], prog="predict.py")
    from keras_arch import open_artifact
    from keras_arch.class_names import class_names_or_numbers
    from keras_arch.evaluation.predictions import classify, explain
    from keras_arch.images.find import find_images
    from keras_arch.reports.predictions import WRITERS

    if not options.images:
        raise InputError("expected one IMAGE or more, got none; examples/digit.png would work")
    if options.explain:
        files.check_writable(options.explain)
        files.refuse_inside(options.explain, options.images)
    paths = find_images(options.images)
    with quiet():
        artifact = open_artifact(options.artifact)
    if options.explain and artifact.kind != "keras":
        raise InputError(
            f"expected a .keras file with --explain, got {options.artifact}: a gradient is needed"
        )
    labels = class_names_or_numbers(artifact)
    if options.explain:
        with quiet():
            explain(artifact.path, paths, options.explain)
        print(f"Where it looked is in {options.explain}.", file=sys.stderr)
    WRITERS[options.format](classify(artifact, paths, labels, options.top))


if __name__ == "__main__":
    run(main)
