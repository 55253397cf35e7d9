"""Figures of data sets, runs and evaluations."""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from matplotlib import font_manager, rc_context, rcParams
from matplotlib.figure import Figure
from rich.cells import cell_len

from ..data.dataset import Dataset
from ..data.pipeline import training_batches
from ..errors import warn_on_failure
from ..evaluation.evaluate import Mistake, find_mistakes
from ..files import atomic_write, lock_path, without_none, write_json
from ..recipes import Augment, Recipe
from ..text import shorten
from .prediction_table import write_prediction_table

FigureFile = str | Path | IO[bytes]
GRID_COLUMNS, GRID_ROWS = 8, 4
GRID_NAME_CELLS = 16  # width of a class name above an image, in characters
FEW_CLASSES = 30  # a larger confusion matrix has no room for names and numbers
SHORT_NAME_CELLS = 3  # width of a class name that fits below a column, in characters
MISTAKE_COLUMNS = 6
MISTAKE_NAME_CELLS = 14  # width of a class name above a small image, in characters
# Fonts with Chinese, Japanese and Korean characters. Figures use those that are installed.
CJK_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC"),
    *("WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS"),
)


def draw_grid(path: FigureFile, dataset: Dataset, augment: Augment, seed: int) -> None:
    """Draw the first 32 training images of an epoch, augmented, with their class names.

    A mixed image has two class names with their shares.

    Args:
        path: PNG file.
        dataset: the data set.
        augment: augmentation policy of a `Recipe`.
        seed: seed of the order and the augmentation.
    """
    recipe = Recipe(
        "none",  # no network is built
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
        grid = figure.subplots(GRID_ROWS, GRID_COLUMNS).flat
        for axes, image, shares in zip(grid, images, labels, strict=False):
            axes.imshow(np.round(image).astype("uint8"), cmap="gray", vmin=0, vmax=255)
            lines = [
                f"{names[label]} {shares[label]:.0%}"
                for label in np.argsort(-shares, kind="stable")
                if shares[label] > 0
            ]
            axes.set_title("\n".join(lines[:2]).removesuffix(" 100%"), fontsize=8)
        for axes in figure.axes:
            axes.axis("off")


def draw_curves(path: FigureFile, histories: dict[str, dict[str, list[float]]]) -> None:
    """Draw the learning curves of one or several runs: loss and accuracy over the epochs.

    Args:
        path: PNG file.
        histories: {name: history} of each run. With one run, the name may be empty.
    """
    with save_figure(path, (9, 3.5), dpi=120) as figure:
        for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            for number, (name, history) in enumerate(histories.items()):
                epochs = range(1, len(history[metric]) + 1)
                for split, column, style in (
                    ("validation", f"val_{metric}", "-"),
                    ("training", metric, "--"),
                ):
                    # matplotlib omits labels that begin with an underscore, so the name is last.
                    label = f"{split} {figure_label(name)}".strip()
                    axes.plot(epochs, history[column], style, color=f"C{number}", label=label)
            axes.set(xlabel="epoch", ylabel=metric)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False, fontsize="small")


@contextmanager
def save_figure(path: FigureFile, size: tuple[float, float], dpi: int = 100) -> Iterator[Figure]:
    """Yield a new `matplotlib.figure.Figure` and save it when the block ends.

    Args:
        path: file, in the format of its suffix, or an open binary file, as PNG.
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
            atomic_write(Path(path), lambda partial: figure.savefig(partial, dpi=dpi, format=kind))
        else:
            figure.savefig(path, dpi=dpi)


def figure_label(name: str, cells: int = 24) -> str:
    """Return `name` for a figure: at most `cells` wide, with dollar signs escaped.

    matplotlib reads text between dollar signs as a formula.
    """
    return shorten(name, cells).replace("$", r"\$")


def draw_confusion(path: FigureFile, counts: list[list[int]], class_names: Sequence[str]) -> None:
    """Draw a confusion matrix.

    Rows are the true classes and columns are the predicted classes. Colors show the share of the
    true class and numbers count images. Names and numbers are omitted above 30 classes.

    Args:
        path: PNG file.
        counts: [true class, predicted class, images] of each pair that occurs.
        class_names: name of each class.
    """
    matrix = np.zeros((len(class_names), len(class_names)), "int64")
    for true, predicted, images in counts:
        matrix[true, predicted] = images
    few = len(class_names) <= FEW_CLASSES
    names = [figure_label(name) for name in class_names]
    widest = max(map(cell_len, names))
    side = 1.9 + 0.1 * widest + 0.45 * len(names) if few else 9
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    with save_figure(path, (side, side)) as figure:
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set(xlabel="predicted class", ylabel="true class")
        if few:
            rotation = 90 if widest > SHORT_NAME_CELLS else 0
            axes.set_xticks(range(len(names)), names, rotation=rotation)
            axes.set_yticks(range(len(names)), names)
            for (row, column), images in np.ndenumerate(matrix):
                if images:
                    color = "white" if shares[row, column] > 0.5 else "black"
                    axes.text(
                        column, row, str(images), ha="center", va="center", color=color, fontsize=8
                    )


def draw_reliability(path: FigureFile, calibration: list, ece: float) -> None:
    """Draw a reliability diagram (Guo et al. 2017, arXiv:1706.04599).

    The upper axes show accuracy over confidence, which is the diagonal for a calibrated model. The
    lower axes show the number of images.

    Args:
        path: PNG file.
        calibration: bins of confidence, as `compute_metrics` returns them.
        ece: expected calibration error, 0 to 1.
    """
    confidence = [one.confidence for one in calibration]
    with save_figure(path, (5, 5)) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], "--", color="gray", linewidth=1, label="perfect calibration")
        upper.plot(
            confidence,
            [one.accuracy for one in calibration],
            marker="o",
            label="model",
            clip_on=False,
        )
        upper.set(
            ylabel="accuracy",
            xlim=(0, 1),
            ylim=(0, 1),
            title=f"expected calibration error {ece:.2%}",
        )
        upper.legend(frameon=False, fontsize="small", loc="upper left")
        lower.bar(confidence, [one.images for one in calibration], width=0.04)
        lower.set(xlabel="confidence", ylabel="images", yscale="log")
        for axes in (upper, lower):
            axes.spines[["top", "right"]].set_visible(False)


def draw_mistakes(path: FigureFile, mistakes: Sequence[Mistake]) -> None:
    """Draw misclassified images with their true class, predicted class and confidence.

    Args:
        path: PNG file.
        mistakes: misclassified images, as `find_mistakes` returns them.
    """
    columns = min(max(len(mistakes), 3), MISTAKE_COLUMNS)
    rows = max(1, -(-len(mistakes) // columns))
    with save_figure(path, (1.6 * columns, 2.2 * rows)) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).flat
        for axes, (image, true, predicted, confidence) in zip(grid, mistakes, strict=False):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            true, predicted = (figure_label(name, MISTAKE_NAME_CELLS) for name in (true, predicted))
            axes.set_title(f"true: {true}\npredicted: {predicted}\n{confidence:.1%}", fontsize=8)
        for axes in figure.axes:
            axes.axis("off")


def write_evaluation(folder, dataset, split, names, rows, outputs, labels):
    """Write metrics.json, and a table of predictions and three figures of each artifact.

    The table is predictions.csv, or NAME_predictions.csv for each of several artifacts. The figures
    are NAME_confusion.png, NAME_reliability.png and NAME_mistakes.png.

    Args:
        folder: pathlib.Path, created if it does not exist.
        dataset: `keras_arch.data.dataset.Dataset`.
        split: name of the split that was evaluated.
        names: name of each artifact.
        rows, outputs, labels: results of `evaluation.evaluate.compare`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with lock_path(folder, wait=True):  # two evaluations must not mix their files
        found = [dataclasses.asdict(row, dict_factory=without_none) for row in rows]
        write_json(
            folder / "metrics.json", {"dataset": dataset.name, "split": split, "artifacts": found}
        )
        for name, row, probabilities in zip(names, rows, outputs, strict=True):
            figure = folder / name.replace(".", "_")
            figure.parent.mkdir(parents=True, exist_ok=True)
            table = Path(f"{figure}_predictions.csv") if names[1:] else folder / "predictions.csv"
            write_prediction_table(table, dataset, split, probabilities, labels)
            with warn_on_failure(f"A figure of {name}"):
                draw_confusion(
                    f"{figure}_confusion.png", row.metrics.confusion, dataset.class_names
                )
                draw_reliability(
                    f"{figure}_reliability.png", row.metrics.calibration, row.metrics.ece
                )
                draw_mistakes(
                    f"{figure}_mistakes.png", find_mistakes(probabilities, labels, dataset, split)
                )
