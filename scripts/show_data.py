"""Show training images and counts: keras-arch show-data DATASET [--augment POLICY]."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from keras_arch import files
from keras_arch.cli import parse, print_table, quiet, run, say
from keras_arch.options import PIXELS, SEEDS, Metavar, Positional
from keras_arch.plugins import is_function, load_function
from keras_arch.recipes import Augment
from keras_arch.text import shorten


@dataclass
class Options:
    """Plot training images with their labels, and count the images of each class."""

    dataset: Annotated[str, Positional("DATASET")]
    """"digits", a TFDS name, an image folder, a .csv manifest or an .npz file."""
    augment: Augment = "none"
    """Augmentation policy (see docs/data.md), or a function."""
    data_dir: Annotated[str | None, Metavar("DIRECTORY|URL")] = None
    """Directory of prepared TFDS data. Default: that of TFDS."""
    image_size: Annotated[int, PIXELS] | None = None
    """Height and width of the images in pixels. Default: the original size."""
    skip_unreadable: bool = False
    """Skip images of a folder or manifest that cannot be decoded."""
    allow_duplicates: bool = False
    """Remove images of a folder or manifest that are also in another split."""
    seed: Annotated[int, SEEDS] = 0
    """Random seed of the images shown."""
    output: Path = Path("data.png")
    """PNG file to write."""


def main():
    options = parse(Options, sys.argv[1:], "train")
    files.check_image_output(options.output)
    files.refuse_inside(options.output, [options.dataset])
    with quiet():
        from keras_arch import load_dataset
        from keras_arch.data.dataset import count_images
        from keras_arch.data.manifest import refuse_images
        from keras_arch.data.policies import check_augment
        from keras_arch.reports.figures import draw_grid

    refuse_images(options.output, options.dataset)
    data_options = {
        "skip_unreadable": options.skip_unreadable,
        "allow_duplicates": options.allow_duplicates,
    }
    augment = load_function(options.augment) if is_function(options.augment) else None
    dataset = load_dataset(options.dataset, options.data_dir, options.image_size, **data_options)
    height, width, channels = dataset.image_shape
    if augment is not None:
        check_augment(augment, dataset, options.seed)
    say(f"{dataset.name}: {height}x{width} pixels, {'RGB' if channels == 3 else 'grayscale'}")
    print_table(
        [
            {"class": shorten(name), **{split: f"{n:,}" for split, n in row.items()}}
            for name, row in count_images(dataset).items()
        ]
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw_grid(options.output, dataset, options.augment, options.seed)
    say(f"Training images of the first epoch (augment={options.augment}): {options.output}")


if __name__ == "__main__":
    run(main)
