"""Look at the images that a model will see: python scripts/show_data.py DATASET [--augment POLICY]."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from keras_arch import files
from keras_arch.cli import parse, print_table, quiet, run, say
from keras_arch.options import PIXELS, SEEDS
from keras_arch.recipes import Augment
from keras_arch.text import shorten


@dataclass
class Options:
    """Draw a grid of training images with their labels, and print classes, counts and size."""

    dataset: Annotated[str, tyro.conf.Positional]
    """"digits", a TFDS name, a folder of pictures or an .npz file."""
    augment: Augment = "none"
    """What becomes of training images: see docs/data.md."""
    data_dir: Path | None = None
    """Folder of prepared TFDS data sets; TFDS's own if not given."""
    image_size: Annotated[int, PIXELS] | None = None
    """Height and width in pixels to bring all images to; their own if not given."""
    skip_unreadable: bool = False
    """Leave out pictures of a folder that cannot be decoded, instead of refusing it."""
    allow_duplicates: bool = False
    """Leave out pictures of a folder that are also in another split, instead of refusing it; copies in test stay."""
    seed: Annotated[int, SEEDS] = 0
    """Another one shows other images."""
    output: Path = Path("data.png")
    """PNG file of the picture."""


def main():
    options = parse(Options, sys.argv[1:], prog="show_data.py")
    files.check_image_output(options.output)
    files.refuse_inside(options.output, [options.dataset])
    with quiet():
        from keras_arch import load_dataset
        from keras_arch.data.dataset import count_images
        from keras_arch.reports.figures import draw_grid

    data_options = {
        "skip_unreadable": options.skip_unreadable,
        "allow_duplicates": options.allow_duplicates,
    }
    dataset = load_dataset(options.dataset, options.data_dir, options.image_size, **data_options)
    height, width, channels = dataset.image_shape
    say(f"{dataset.name}: {height}x{width} pixels, {'colour' if channels == 3 else 'grey'}")
    print_table(
        [
            {"class": shorten(name), **{split: f"{n:,}" for split, n in row.items()}}
            for name, row in count_images(dataset).items()
        ]
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw_grid(options.output, dataset, options.augment, options.seed)
    say(f"{options.output}: training images of the first epoch, augment={options.augment}")


if __name__ == "__main__":
    run(main)
