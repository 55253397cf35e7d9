"""What is in a data set, for people: a grid of pictures and a count of classes."""

import numpy as np

from ..recipes import Recipe
from .pipeline import training_batches

COLUMNS, ROWS = 8, 4
NAME_CELLS = 16  # of a class name above an image


def counts(dataset):
    """{class: {split: number of images}}, in the order of the classes."""
    labels = {
        split: np.fromiter((label for _, label in getattr(dataset, split).examples.as_numpy_iterator()), "int64")
        for split in dataset.sizes
    }
    return {
        name: {split: int((numbers == label).sum()) for split, numbers in labels.items()}
        for label, name in enumerate(dataset.class_names)
    }


def draw_grid(path, dataset, augment, seed):
    """Write a PNG of the first training images as `augment` makes them, each under its label (two where two are mixed)."""
    from ..figures import drawing, label

    recipe = Recipe("", dataset.name, epochs=1, learning_rate=1, batch_size=COLUMNS * ROWS, augment=augment, seed=seed)
    images, labels = next(training_batches(dataset, recipe).as_numpy_iterator())
    names = [label(name, NAME_CELLS) for name in dataset.class_names]
    with drawing(path, (1.5 * COLUMNS, 1.75 * ROWS)) as figure:
        for axes, *example in zip(figure.subplots(ROWS, COLUMNS).flat, images, labels, strict=False):
            image, shares = example
            axes.imshow(np.round(image).astype("uint8"), cmap="gray", vmin=0, vmax=255)
            named = [f"{names[one]} {shares[one]:.0%}" for one in np.argsort(-shares, kind="stable") if shares[one] > 0]
            axes.set_title("\n".join(named[:2]).removesuffix(" 100%"), fontsize=8)
        for axes in figure.axes:
            axes.axis("off")
