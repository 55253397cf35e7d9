"""Classify pictures: python scripts/predict.py ARTIFACT IMAGE..."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from keras_arch import cli
from keras_arch.errors import InputError


@dataclass
class Options:
    """Print the most probable classes of each picture."""

    artifact: Annotated[Path, tyro.conf.Positional]
    """A .keras file, a SavedModel folder, a .tflite or an .onnx file."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
    """Pictures of any size: JPEG, PNG, BMP, GIF, WebP, ..."""
    top: int = 3
    """How many classes."""


def main():
    options = cli.parse(Options, sys.argv[1:], prog="predict.py")
    from keras_arch import open_artifact, runs
    from keras_arch.images import read_image

    if not options.images:
        raise InputError("expected one IMAGE or more, got none; examples/digit.png would work")
    if options.top < 1:
        raise InputError(f"expected --top to be 1 or more, got {options.top}")
    with cli.quiet():
        artifact = open_artifact(options.artifact)
    labels = runs.labels_of(artifact)
    images = [read_image(path, artifact.image_shape) for path in options.images]
    for path, image in zip(options.images, images, strict=True):
        probabilities = artifact.predict(image[None])[0]
        best = probabilities.argsort()[::-1][: options.top]
        print(f"{path}: " + ", ".join(f"{labels[index]} {probabilities[index]:.1%}" for index in best))


if __name__ == "__main__":
    cli.run(main)
