"""TODO"""

import numpy as np

from ..data.pipeline import training_batches
from ..recipes import Recipe

GRID_COLUMNS, GRID_ROWS = 8, 4
GRID_NAME_CELLS = 16  # of a class name above an image


def draw_grid(path, dataset, augment, seed):
    """Write a PNG of the first training images as `augment` makes them, each under its label (two where two are mixed)."""
    from ..figures import drawing, label

    recipe = Recipe(
        "", dataset.name, epochs=1, learning_rate=1, batch_size=GRID_COLUMNS * GRID_ROWS, augment=augment, seed=seed
    )
    images, labels = next(training_batches(dataset, recipe).as_numpy_iterator())
    names = [label(name, GRID_NAME_CELLS) for name in dataset.class_names]
    with drawing(path, (1.5 * GRID_COLUMNS, 1.75 * GRID_ROWS)) as figure:
        for axes, *example in zip(figure.subplots(GRID_ROWS, GRID_COLUMNS).flat, images, labels, strict=False):
            image, shares = example
            axes.imshow(np.round(image).astype("uint8"), cmap="gray", vmin=0, vmax=255)
            named = [f"{names[one]} {shares[one]:.0%}" for one in np.argsort(-shares, kind="stable") if shares[one] > 0]
            axes.set_title("\n".join(named[:2]).removesuffix(" 100%"), fontsize=8)
        for axes in figure.axes:
            axes.axis("off")


def draw_curves(path, histories):
    """Loss and accuracy over the epochs of runs {name: history}, as a picture: validation drawn through, training dashed."""
    from ..figures import drawing, label

    with drawing(path, (9, 3.5), dpi=120) as figure:
        for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for number, (name, history) in enumerate(histories.items()):
                epochs, color, told = range(1, len(history[metric]) + 1), f"C{number}", label(name)
                # The name is last: matplotlib leaves a label that begins with an underscore out of the legend.
                axes.plot(epochs, history[f"val_{metric}"], color=color, label=f"validation {told}".strip())
                axes.plot(epochs, history[metric], color=color, linestyle="--", label=f"training {told}".strip())
            axes.set(xlabel="epoch", title=metric)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize="small")
