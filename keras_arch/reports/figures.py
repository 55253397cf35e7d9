"""TODO"""

import dataclasses
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib import font_manager, rc_context, rcParams
from matplotlib.figure import Figure
from rich.cells import cell_len

from ..data.pipeline import training_batches
from ..errors import warn_on_failure
from ..evaluation.evaluate import find_mistakes
from ..files import atomic_write, lock_path, without_none, write_json
from ..recipes import Recipe
from ..text import shorten

GRID_COLUMNS, GRID_ROWS = 8, 4
GRID_NAME_CELLS = 16  # of a class name above an image


def draw_grid(path, dataset, augment, seed):
    """Write a PNG of the first training images as `augment` makes them, each under its label (two where two are mixed)."""

    recipe = Recipe(
        "",
        dataset.name,
        epochs=1,
        learning_rate=1,
        batch_size=GRID_COLUMNS * GRID_ROWS,
        augment=augment,
        seed=seed,
    )
    images, labels = next(training_batches(dataset, recipe).as_numpy_iterator())
    names = [figure_label(name, GRID_NAME_CELLS) for name in dataset.class_names]
    with save_figure(path, (1.5 * GRID_COLUMNS, 1.75 * GRID_ROWS)) as figure:
        for axes, *example in zip(
            figure.subplots(GRID_ROWS, GRID_COLUMNS).flat, images, labels, strict=False
        ):
            image, shares = example
            axes.imshow(np.round(image).astype("uint8"), cmap="gray", vmin=0, vmax=255)
            named = [
                f"{names[one]} {shares[one]:.0%}"
                for one in np.argsort(-shares, kind="stable")
                if shares[one] > 0
            ]
            axes.set_title("\n".join(named[:2]).removesuffix(" 100%"), fontsize=8)
        for axes in figure.axes:
            axes.axis("off")


def draw_curves(path, histories):
    """Loss and accuracy over the epochs of runs {name: history}, as a picture: validation drawn through, training dashed."""

    with save_figure(path, (9, 3.5), dpi=120) as figure:
        for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for number, (name, history) in enumerate(histories.items()):
                epochs, color, told = (
                    range(1, len(history[metric]) + 1),
                    f"C{number}",
                    figure_label(name),
                )
                # The name is last: matplotlib leaves a label that begins with an underscore out of the legend.
                axes.plot(
                    epochs,
                    history[f"val_{metric}"],
                    color=color,
                    label=f"validation {told}".strip(),
                )
                axes.plot(
                    epochs,
                    history[metric],
                    color=color,
                    linestyle="--",
                    label=f"training {told}".strip(),
                )
            axes.set(xlabel="epoch", title=metric)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize="small")


# Fonts with Chinese, Japanese and Korean characters, of which those are used that are installed.
CJK_FONTS = (
    *(
        "Noto Sans CJK SC",
        "Noto Sans CJK JP",
        "Noto Sans SC",
        "Source Han Sans SC",
        "WenQuanYi Zen Hei",
    ),
    *(
        "PingFang SC",
        "Hiragino Sans",
        "Apple SD Gothic Neo",
        "Microsoft YaHei",
        "Malgun Gothic",
        "Arial Unicode MS",
    ),
)


@contextmanager
def save_figure(path, size, dpi=100):
    """Yield a new `matplotlib.figure.Figure`, which is written to a PNG file when the block ends.

    Args:
        path: the file, or an open binary file.
        size: (width, height) in inches.
        dpi: pixels per inch.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = [*rcParams["font.family"], *(name for name in CJK_FONTS if name in installed)]
    with rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        if isinstance(path, (str, Path)):
            kind = Path(path).suffix.removeprefix(".") or "png"
            atomic_write(Path(path), lambda beside: figure.savefig(beside, dpi=dpi, format=kind))
        else:
            figure.savefig(path, dpi=dpi)


def figure_label(name, cells=24):
    """Return a name for a figure: at most `cells` wide, and with its dollar signs, which would begin a formula, escaped."""
    return shorten(name, cells).replace("$", r"\$")


FEW_CLASSES = 30  # whose names and numbers have room in a matrix
COLUMNS = 8
NAME_CELLS = 14  # of a class name above a small image


def draw_confusion(path, counts, class_names):
    """Draw confusions as shares of each true class, in rows; the numbers are images.

    Args:
        path: of the picture.
        counts: [true class, predicted class, images] of each pair that occurs.
        class_names: one for each class.
    """
    matrix = np.zeros((len(class_names), len(class_names)), "int64")
    for true, predicted, images in counts:
        matrix[true, predicted] = images
    few = len(class_names) <= FEW_CLASSES
    names = [figure_label(name) for name in class_names]
    side = 1.9 + 0.1 * max(map(cell_len, names)) + 0.45 * len(names) if few else 9
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with save_figure(path, (side, side)) as figure:
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="predicted", ylabel="true")
        if few:
            axes.set_xticks(range(len(names)), names, rotation=90)
            axes.set_yticks(range(len(names)), names)
            for (row, column), images in np.ndenumerate(matrix):
                if images:
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(
                        column, row, str(images), ha="center", va="center", color=colour, fontsize=8
                    )


def draw_reliability(path, calibration, ece):
    """Accuracy over confidence: on the diagonal, a model is right as often as it says. Below, where the images are."""
    confidence = [one.confidence for one in calibration]
    with save_figure(path, (5, 5)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
        upper.plot(confidence, [one.accuracy for one in calibration], marker="o")
        upper.set(
            ylabel="accuracy",
            xlim=(0, 1),
            ylim=(0, 1),
            title=f"expected calibration error {ece:.2%}",
        )
        lower.bar(confidence, [one.images for one in calibration], width=0.04)
        lower.set(xlabel="confidence", ylabel="images", yscale="log")
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)


def draw_mistakes(path, worst):
    """Images under what they are, and what they were taken for and how surely; as `evaluation.mistakes` has them."""
    rows = max(1, -(-len(worst) // COLUMNS))
    with save_figure(path, (1.6 * COLUMNS, 2.1 * rows)) as figure:
        grid = figure.subplots(rows, COLUMNS, squeeze=False).flat
        for axes, (image, true, predicted, confidence) in zip(grid, worst, strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            true, predicted = figure_label(true, NAME_CELLS), figure_label(predicted, NAME_CELLS)
            axes.set_title(f"{true}, taken for\n{predicted} at {confidence:.1%}", fontsize=8)
        for axes in figure.axes:
            axes.axis("off")


def write_evaluation(folder, dataset, split, names, rows, outputs, labels):
    """metrics.json, and three pictures of each artifact, into `folder`.

    Args:
        folder: a pathlib.Path; made where it is not there.
        dataset: a `keras_arch.data.dataset.Dataset`.
        split: which was evaluated.
        names: of the artifacts, which the pictures' names begin with.
        rows, outputs, labels: what `evaluation.evaluate.compare` returned.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock_path(folder, wait=True):  # or two evaluations would mix their files
        found = [dataclasses.asdict(row, dict_factory=without_none) for row in rows]
        write_json(
            folder / "metrics.json", {"dataset": dataset.name, "split": split, "artifacts": found}
        )
        for name, row, probabilities in zip(names, rows, outputs, strict=True):
            metrics = row.metrics
            picture = folder / name.replace(".", "_")
            picture.parent.mkdir(parents=True, exist_ok=True)
            with warn_on_failure(f"A picture of {name}"):
                draw_confusion(f"{picture}_confusion.png", metrics.confusion, dataset.class_names)
                draw_reliability(f"{picture}_reliability.png", metrics.calibration, metrics.ece)
                draw_mistakes(
                    f"{picture}_mistakes.png", find_mistakes(probabilities, labels, dataset, split)
                )
