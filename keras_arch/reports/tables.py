"""Rows of tables, legends and sentences for the screen."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..recipes import Recipe
from ..results import Result
from ..runs.folder import data_name, model_name
from ..text import shorten

if TYPE_CHECKING:
    import keras

    from ..export.quantization import LayerError

CLASSES_SHOWN = 20  # rows of the table of classes
LAYERS_SHOWN = 20  # in the table of int8 errors
QUANTIZATION_LEGEND = (
    "error: root mean square of the difference in the layer's median channel, as a\n"
    "fraction of the channel's standard deviation. added: without the inputs' error.\n"
    "Softmax: square root of the fraction of images whose top class changes."
)
VERIFICATION_LEGEND = (
    "drop: points of top-1 accuracy lost compared with the Keras model, and 95%\n"
    "interval. agree: images with the Keras model's top class. max error: maximum\n"
    "absolute error of a probability. ms: median for one image, 1 thread."
)
UNLABELED_LEGEND = (
    "agree: images with the Keras model's top class. max error: maximum absolute\n"
    "error of a probability. ms: median for one image, 1 thread."
)
SIGNIFICANCE = 0.05  # a difference with a lower p-value is significant


def comparison_row(folder: Path, run: dict, history: dict, cost) -> dict[str, str]:
    """Return {title: text} of a run for the table of keras-arch compare.

    Args:
        folder: run directory, a pathlib.Path.
        run: result of `read_run`.
        history: result of `read_history`.
        cost: `Cost` of the model, from `keras_arch.cost`.

    Raises:
        InputError: the run is not finished.
    """
    metrics = run.get("metrics")
    if metrics is None:
        raise InputError(
            f"{folder} is not a finished run: run.json has no metrics. Finish it with "
            "keras-arch train --resume."
        )
    return {
        "model": shorten(model_name(run["recipe"].model)),
        "dataset": shorten(data_name(run["recipe"].dataset)),
        "parameters": f"{cost.parameters:,}",
        "multiply-adds": f"{cost.multiply_adds:,}",
        "epochs": str(len(history["loss"])),
        "final training loss": f"{history['loss'][-1]:.4f}",
        "validation accuracy": f"{metrics['validation']['top1']:.2%}",
        "test accuracy": f"{metrics['test']['top1']:.2%}",
        **balanced_columns(metrics, run["recipe"].class_weights),
        "training time": f"{metrics['training_seconds']:.0f} s",
        "size": f"{(folder / 'model.keras').stat().st_size / 1e6:.2f} MB",
    }


def describe_training(
    recipe: Recipe,
    model: keras.Model,
    sizes: dict[str, int],
    precision: str,
    devices: int = 1,
) -> str:
    """Return one line on what keras-arch train is about to train.

    Args:
        recipe: recipe of the run.
        model: model to train.
        sizes: {split: number of images}.
        precision: dtype policy of the training.
        devices: number of devices.
    """
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    images = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    weights = f", weights from {recipe.weights}" if recipe.weights else ""
    has_phases = recipe.freeze != "none" or recipe.quantize_aware != "none"
    phases = f", {recipe.outline}" if has_phases else ""
    teacher = f", taught by {recipe.teacher}" if recipe.teacher else ""
    place = f" on {devices} devices" if devices > 1 else ""
    return (
        f"{model_name(recipe.model)} ({parameters:,} trainable parameters{weights}{teacher}) on "
        f"{data_name(recipe.dataset)} ({images} images) in {precision}{place}{phases}"
    )


def run_row(recipe: Recipe, metrics: dict) -> dict[str, str]:
    """Return {title: text} of a finished run.

    Args:
        recipe: recipe of the run.
        metrics: result of `finish_run`.
    """
    return {
        "model": shorten(model_name(recipe.model)),
        "dataset": shorten(data_name(recipe.dataset)),
        "best epoch": str(metrics["best_epoch"]),
        "validation accuracy": f"{metrics['validation']['top1']:.2%}",
        "test accuracy": f"{metrics['test']['top1']:.2%}",
        **balanced_columns(metrics, recipe.class_weights),
        "training time": f"{metrics['training_seconds']:.0f} s",
    }


def balanced_columns(metrics: dict, class_weights: str | Sequence[str]) -> dict[str, str]:
    """Return {title: text} of the balanced accuracies if there are class weights, else {}."""
    splits = () if class_weights == "none" else ("validation", "test")
    return {
        f"balanced {split} accuracy": f"{metrics[split]['balanced_accuracy']:.2%}"
        for split in splits
    }


def evaluation_legend(rows: list) -> str:
    """Return the explanation of the titles of `evaluation_row`.

    Args:
        rows: metrics of each artifact, from `compare`.
    """
    legend = (
        "low, high: 95% confidence interval. NLL: negative log-likelihood. ECE: expected\n"
        "calibration error. latency: median of one image at a time."
    )
    if len(rows) > 1:
        legend += (
            "\nagreement: images with the same top-1 class as the first artifact. only first,\n"
            "only this: images that only one of the two classifies correctly.\n"
            f"p: McNemar's exact test. significant: p < {SIGNIFICANCE:g}."
        )
    return legend


def class_rows(metrics) -> list[dict[str, str]]:
    """Return {title: text} of each class that has images.

    Of more than 20 classes, return the 20 with the lowest F1 score.

    Args:
        metrics: `Metrics` of an artifact.
    """
    present = [(name, found) for name, found in metrics.classes.items() if found.support]
    classes = sorted(present, key=lambda one: one[1].f1 if len(present) > CLASSES_SHOWN else 0)
    return [
        {
            "class": shorten(name),
            **{
                f"{column} %": f"{100 * getattr(found, column):.2f}"
                for column in ("precision", "recall", "f1")
            },
            "images": f"{found.support:,}",
        }
        for name, found in classes[:CLASSES_SHOWN]
    ]


def absent_classes_line(metrics) -> str:
    """Return a sentence that lists the classes without images, or "" if there are none."""
    names = [shorten(name) for name, found in metrics.classes.items() if not found.support]
    more = f" and {len(names) - CLASSES_SHOWN:,} more" if len(names) > CLASSES_SHOWN else ""
    return f"Classes without images: {', '.join(names[:CLASSES_SHOWN])}{more}." if names else ""


def confusions_line(metrics) -> str:
    """Return a sentence that lists the most frequent confusions."""
    pairs = (
        f"{shorten(one.true)} predicted as {shorten(one.predicted)} ({one.images:,})"
        for one in metrics.most_confused
    )
    return f"Most frequent confusions: {', '.join(pairs) or 'none'}."


def evaluation_row(row) -> dict[str, str]:
    """Return {title: text} of an `Evaluation`."""
    metrics = row.metrics
    found = {"size MB": f"{row.bytes / 1e6:.2f}"}
    for title, name in {"top-1": "top1", "top-5": "top5"}.items():
        share = getattr(metrics, name)
        if share is not None:
            low, high = getattr(metrics, f"{name}_interval")
            shares = {f"{title} %": share, f"{title} low": low, f"{title} high": high}
            found |= {column: f"{100 * value:.2f}" for column, value in shares.items()}
    found |= {"NLL": f"{metrics.nll:.4f}", "ECE %": f"{100 * metrics.ece:.2f}"}
    if row.against_first is not None:
        test = row.against_first
        found |= {
            "agreement %": f"{100 * row.agreement:.2f}",
            "only first, only this": f"{test.only_first}, {test.only_second}",
            "p": f"{test.p:.2g}",
            "significant": "yes" if test.p < SIGNIFICANCE else "no",
        }
    return found | {"latency ms": f"{row.latency_ms:.2f}"}


def calibration_title(calibration: dict, validation: int, test: int) -> str:
    """Return the line before the tables of keras-arch calibrate.

    Args:
        calibration: the "calibration" of run.json.
        validation, test: number of images in each split.
    """
    return (
        f"Temperature {calibration['temperature']:.4g}, fitted on {validation:,} validation images. "
        f"Measured on {test:,} test images:"
    )


def calibration_rows(calibration: dict) -> list[dict[str, str]]:
    """Return {title: text} of the calibration errors before and after.

    Args:
        calibration: the "calibration" of run.json.
    """
    found = {"before": calibration["before"], "after": calibration["after"]}
    return [
        {"": "ECE (95% interval)"}
        | {
            name: f"{one['ece']:.2%} ({percent_range(one['ece_interval'])})"
            for name, one in found.items()
        },
        {"": "negative log-likelihood"}
        | {name: f"{one['nll']:.4f}" for name, one in found.items()},
    ]


def acceptance_rows(calibration: dict) -> list[dict[str, str]]:
    """Return {title: text} of the images that each probability threshold accepts.

    Args:
        calibration: the "calibration" of run.json.
    """
    return [
        {
            "probability at least": f"{row['threshold']:g}",
            "accepted images": f"{row['share']:.1%}",
            "accuracy (95% interval)": describe_accuracy(row),
        }
        for row in calibration["accepted"]
    ]


def describe_accuracy(row: dict) -> str:
    """Return the accuracy of accepted images and its interval as text."""
    if "accuracy" not in row:
        return "-"
    return f"{row['accuracy']:.2%} ({percent_range(row['accuracy_interval'])})"


def percent_range(interval: Sequence[float]) -> str:
    """Return an interval of shares as text."""
    low, high = interval
    return f"{100 * low:.2f} to {high:.2%}"


def recommendation_lines(calibration: dict) -> list[str]:
    """Return sentences on the recommended threshold.

    Args:
        calibration: the "calibration" of run.json.
    """
    wanted = f"{calibration['accuracy']:.2%}"
    if "recommended" not in calibration:
        return [f"No threshold reaches an accuracy of {wanted} on validation. Lower --accuracy."]
    row = calibration["recommended"]
    if row["threshold"] == 0:
        return [f"No threshold is needed: all validation images together reach {wanted} accuracy."]
    return [
        f"Recommended threshold: {row['threshold']:g}, the lowest with {wanted} accuracy on "
        "validation.",
        f"On test, it accepts {row['share']:.1%} of the images. Their accuracy is "
        f"{describe_accuracy(row)}.",
    ]


def recipe_table(
    program: str, recipes: dict[str, Recipe], results: dict[str, Result], notes: dict[str, str]
) -> str:
    """Return the usage of training and a table of all recipes, 80 columns wide.

    Args:
        program: name of the script or command.
        recipes: {name: `Recipe`}.
        results: {name: `Result`} of the recipes that were run.
        notes: {name: remark}.
    """
    row = "{:24}{:10}{:14}{:>6}  {:13}  {}".format
    lines = [
        f"usage: {program} RECIPE|RUN [OPTIONS]",
        f"       {program} RECIPE --help     list the options",
        "",
        row("recipe", "model", "data", "epochs", "test accuracy", "time"),
    ]
    for name, recipe in recipes.items():
        found = results.get(name)
        cells = (f"{found.top1:.1%}", training_time(found)) if found else ("not run yet", "-")
        lines.append(row(name, recipe.model, recipe.dataset, recipe.epochs, *cells))
    remarks = [f"{name}: {text}" for name, text in notes.items()]
    if results:
        machines = dict.fromkeys(map(machine_of, results.values()))
        remarks.insert(
            0, f"Measured on {'; '.join(machines)}. CPU: processor time, if other programs ran."
        )
    wrapped = (textwrap.fill(remark, 80, subsequent_indent="  ") for remark in remarks)
    return "\n".join([*lines, "", *wrapped])


def training_time(result: Result) -> str:
    """Return the training time as text, or processor time if other programs slowed it."""
    seconds = result.processor_time or result.seconds
    text = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    if result.processor_time:
        return f"{text} CPU"
    return f"{text} GPU" if result.accelerator else text


def machine_of(result: Result) -> str:
    """Return the accelerator, the processor, the precision and the backend of a training."""
    return ", ".join(
        (
            *([result.accelerator] if result.accelerator else []),
            result.processor,
            f"{result.cores} cores",
            result.precision,
            *([f"Keras on {result.backend}"] if result.backend != "tensorflow" else []),
        )
    )


def transpose(columns: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    """Return the rows of a table with a column for each name.

    Args:
        columns: {name: {title: text}}. Titles may differ between names.
    """
    titles = dict.fromkeys(title for column in columns.values() for title in column)
    return [
        {"": title, **{name: column.get(title, "") for name, column in columns.items()}}
        for title in titles
    ]


def short_names(paths: list[Path] | tuple[Path, ...]) -> tuple[str, list[str]]:
    """Return the common directory of all paths and a short name for each path.

    Example: run/export/model_float32.tflite is "float32" in "run/export".
    """
    if any(path.is_absolute() for path in paths):
        paths = [path.absolute() for path in paths]
    shared = os.path.commonpath([path.parent for path in paths])
    names = [
        path.stem.removeprefix("model_") if path.suffix == ".tflite" else path.name
        for path in paths
    ]
    if len(set(names)) < len(names):
        names = [os.path.relpath(path, shared or ".") for path in paths]
    return shared or ".", names


def verification_table(report: dict) -> str:
    """Return a table of the content of export.json, one line for each file that was written."""
    labeled = report["verification"]["top1"] is not None
    rows = [
        file_row(name, row, labeled)
        for name, row in report["artifacts"].items()
        if not row["refused"]
    ]
    if not rows:
        return ""
    lines = [{title: title for title in rows[0]}, *rows]
    widths = {title: max(len(line[title]) for line in lines) for title in rows[0]}
    left = ("file", "verdict")  # numbers are aligned to the right
    return "\n".join(
        "  ".join(
            text.ljust(widths[title]) if title in left else text.rjust(widths[title])
            for title, text in line.items()
        ).rstrip()
        for line in lines
    )


def verification_title(report: dict) -> str:
    """Return the line before the table of the content of export.json."""
    images = report["verification"]
    if images["top1"] is not None:
        return f"Verified on {images['images']:,} test images:"
    kind = "test" if images["split"] == "test" else "calibration"
    return f"Compared with the Keras model alone on {images['images']:,} {kind} images, no labels:"


def verification_legend(report: dict) -> str:
    """Return the explanation of the titles of `verification_table`."""
    labeled = report["verification"]["top1"] is not None
    return VERIFICATION_LEGEND if labeled else UNLABELED_LEGEND


def file_row(name: str, row: dict, labeled: bool) -> dict[str, str]:
    """Return {title: text} of one file for the screen, with its accuracy if it is `labeled`."""
    metrics = row["metrics"]
    titles = ("top-1 %", "drop (95%)") if labeled else ()
    numbers = dict.fromkeys((*titles, "agree %", "max error", "ms"), "-")
    if metrics and labeled:
        low, high = metrics["drop_interval"]
        numbers |= {
            "top-1 %": f"{100 * metrics['top1']:.2f}",
            "drop (95%)": f"{metrics['drop']:.2f} ±{(high - low) / 2:.2f}",
        }
    if metrics:
        numbers |= {
            "agree %": f"{100 * metrics['agreement']:.2f}",
            "max error": f"{metrics['max_difference']:.1e}",
            "ms": f"{row['latency_ms']['1']['median']:.2f}",
        }
    return {
        "file": name,
        "size MB": f"{row['bytes'] / 1e6:.2f}",
        **numbers,
        "verdict": "FAILED" if row["problems"] else "ok",
    }


def refusal_lines(report: dict) -> list[str]:
    """Return a line for each format that the converter could not write."""
    return [
        f"{name}: not written. The converter failed: {row['refused']}."
        for name, row in report["artifacts"].items()
        if row["refused"]
    ]


def verification_columns(report: dict) -> dict[str, dict[str, str]]:
    """Return {format name: {title: text}} of all metrics in export.json, for report.html."""
    return {
        name: file_column(row) for name, row in report["artifacts"].items() if not row["refused"]
    }


def file_column(row: dict) -> dict[str, str]:
    """Return {title: text} of all metrics of one file, for report.html."""
    found = {"file": row["file"], "size": f"{row['bytes'] / 1e6:.2f} MB"}
    if metrics := row["metrics"]:  # a run has labels
        low, high = metrics["drop_interval"]
        found["top-1 accuracy"] = f"{metrics['top1']:.2%}"
        if metrics["top5"] is not None:
            found["top-5 accuracy"] = f"{metrics['top5']:.2%}"
        found |= {
            "drop in points": f"{metrics['drop']:.2f}",
            "95% interval": f"{low:.2f} to {high:.2f}",
            "agreement": f"{metrics['agreement']:.2%}",
            "maximum absolute error": f"{metrics['max_difference']:.1e}",
            "mean absolute error": f"{metrics['mean_difference']:.1e}",
        }
        if metrics.get("simulated") is not None:
            found["within 0.02 of simulated int8 (learned ranges)"] = f"{metrics['simulated']:.2%}"
        for threads, latency in row["latency_ms"].items():
            unit = "thread" if threads == "1" else "threads"
            found |= {
                f"median, {threads} {unit}": f"{latency['median']:.2f} ms",
                f"95th percentile, {threads} {unit}": f"{latency['p95']:.2f} ms",
            }
        if row["peak_memory"] is not None:
            found["peak memory"] = f"{row['peak_memory'] / 1e6:.1f} MB"
    return found | {"verdict": "FAILED" if row["problems"] else "ok"}


def operator_columns(report: dict) -> dict[str, dict[str, str]]:
    """Return {format name: {operator: count}} of the .tflite files, for report.html."""
    files = {name: row["operators"] for name, row in report["artifacts"].items()}
    names = sorted({operator for counts in files.values() for operator in counts or ()})
    return {
        name: {operator: str(counts.get(operator, 0)) for operator in names}
        for name, counts in files.items()
        if counts
    }


def quantization_rows(ranking: list[LayerError]) -> list[dict[str, str]]:
    """Return {title: text} of the 20 layers with the highest int8 errors.

    Args:
        ranking: errors of the layers, highest first, from `debug_quantization`.
    """
    return [
        {
            "layer": row.layer,
            "operator": row.operator,
            "added": f"{row.added:.1%}",
            "error": f"{row.error:.1%}",
            "read by": ", ".join(row.readers),
        }
        for row in ranking[:LAYERS_SHOWN]
    ]
