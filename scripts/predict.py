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
    """Image files of any size (formats: docs/data.md), or directories of them."""
    top: Annotated[int, Range(1, 1_000_000)] = 5
    """Number of classes per image."""
    format: Literal["table", "json", "csv"] = "table"
    """Output format. json prints one object per line."""
    explain: Annotated[Path | None, Metavar("DIRECTORY")] = None
    """Output directory for Grad-CAM heat maps (.keras files only)."""


def main():
    options = parse(Options, sys.argv[1:], "predict")
    from keras_arch import open_artifact
    from keras_arch.class_names import class_names_or_numbers
    from keras_arch.evaluation.predictions import classify, explain
    from keras_arch.images.find import find_images
    from keras_arch.reports.predictions import WRITERS

    if not options.images:
        raise InputError("Pass at least one image, such as examples/digit.png.")
    if options.explain:
        use_tensorflow()  # for its gradients
        require("train", ["matplotlib", "tensorflow"])
        files.check_writable(options.explain)
        files.refuse_inside(options.explain, options.images)
    paths = find_images(options.images)
    with quiet():
        artifact = open_artifact(options.artifact)
    if options.explain and artifact.kind != "keras":
        raise InputError(
            f"--explain needs the gradients of a .keras file. Received: {options.artifact}."
        )
    labels = class_names_or_numbers(artifact)
    if options.explain:
        with quiet():
            explain(artifact.path, paths, options.explain)
        print(f"Heat maps saved to {options.explain}.", file=sys.stderr)
    WRITERS[options.format](classify(artifact, paths, labels, options.top))


if __name__ == "__main__":
    run(main)
