"""Tables and sentences for the screen."""

import math
import os

from ..errors import InputError
from ..runs.folder import data_name
from ..text import shorten


def comparison_row(folder, run, history, cost):
    """{title: text} about one run, for a table.

    Args:
        folder: of the run.
        run, history: what `read_run` and `read_history` gave.
        cost: of its model, from `keras_arch.cost`.
    """
    metrics = run.get("metrics")
    if metrics is None:
        raise InputError(
            f"expected a run that has ended, got {folder}, whose run.json has no metrics"
        )
    return {
        "model": run["recipe"].model,
        "dataset": shorten(data_name(run["recipe"].dataset)),
        "parameters": f"{cost.parameters:,}",
        "multiply-adds": f"{cost.multiply_adds:,}",
        "epochs": str(len(history["loss"])),
        "training loss": f"{history['loss'][-1]:.4f}",
        "validation": f"{metrics['validation']['top1']:.2%}",
        "test": f"{metrics['test']['top1']:.2%}",
        **balanced_columns(metrics, run["recipe"].class_weights),
        "training": f"{metrics['training_seconds']:.0f} s",
        "size": f"{(folder / 'model.keras').stat().st_size / 1e6:.2f} MB",
    }


def describe_training(recipe, model, sizes, precision, anew):
    """One line about what is going to be trained."""
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    images = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    begin = f", beginning with {recipe.weights}" if recipe.weights else ""
    begin += f" (anew: {', '.join(sorted(anew))})" if anew else ""
    return f"{recipe.model} ({parameters:,} parameters{begin}) on {data_name(recipe.dataset)} ({images}) in {precision}"


def run_row(recipe, metrics):
    """A row for the screen of what `finish_run` returned."""
    return {
        "model": recipe.model,
        "dataset": shorten(data_name(recipe.dataset)),
        "best epoch": str(metrics["best_epoch"]),
        "validation": f"{metrics['validation']['top1']:.2%}",
        "test": f"{metrics['test']['top1']:.2%}",
        **balanced_columns(metrics, recipe.class_weights),
        "training": f"{metrics['training_seconds']:.0f} s",
    }


def balanced_columns(metrics, class_weights):
    """{title: text} of the balanced accuracies, which matter with balanced class weights; empty without them."""
    splits = ("validation", "test") if class_weights == "balanced" else ()
    return {f"{split}, balanced": f"{metrics[split]['balanced_accuracy']:.2%}" for split in splits}


CLASSES_SHOWN = 20  # that are shown on a screen


CHANCE = 0.05  # below this p a difference is called more than chance


def evaluation_legend(rows):
    """What the titles of `evaluation_row` mean, of those that are there."""
    told = "from, to: 95% intervals. nll: negative log-likelihood. ece: expected calibration error. ms: one image, median."
    if len(rows) > 1:
        told += (
            "\nagrees: images with the top class of the first artifact. lost, won: images that the first alone, or this one\n"
            f"alone, got right. p: how likely so uneven a split is if both are equally good. differs: by more than chance, p < {CHANCE:g}."
        )
    return told


def class_rows(row):
    """A row of text for each class that has images, of what `compare` gives, the worst first where they are many."""
    present = [(name, found) for name, found in row["classes"].items() if found["support"]]
    classes = sorted(present, key=lambda one: one[1]["f1"] if len(present) > CLASSES_SHOWN else 0)
    return [
        {
            "class": shorten(name),
            **{
                f"{column} %": f"{100 * found[column]:.2f}"
                for column in ("precision", "recall", "f1")
            },
            "images": f"{found['support']:,}",
        }
        for name, found in classes[:CLASSES_SHOWN]
    ]


def absent_classes_line(row):
    """The classes without images as a sentence, or nothing if there are none."""
    names = [shorten(name) for name, found in row["classes"].items() if not found["support"]]
    more = f" and {len(names) - CLASSES_SHOWN:,} more" if len(names) > CLASSES_SHOWN else ""
    return f"No images of: {', '.join(names[:CLASSES_SHOWN])}{more}." if names else ""


def confusions_line(row):
    """The most frequent mistakes as a sentence."""
    pairs = (
        f"{shorten(one['true'])} taken for {shorten(one['predicted'])} ({one['images']:,})"
        for one in row["confused"]
    )
    return f"Most confused: {', '.join(pairs) or 'none'}."


def evaluation_row(row):
    """{title: text} of one artifact, of what `compare` gives."""
    found = {"size MB": f"{row['bytes'] / 1e6:.2f}"}
    for title, name in {"top-1": "top1", "top-5": "top5"}.items():
        if name in row:
            low, high = row[f"{name}_interval"]
            shares = {f"{title} %": row[name], f"{title} from": low, f"{title} to": high}
            found |= {column: f"{100 * share:.2f}" for column, share in shares.items()}
    found |= {
        "nll": f"{row['nll']:.4f}",
        "ece %": f"{100 * row['ece']:.2f}",
    }
    if "against_first" in row:
        test = row["against_first"]
        found |= {
            "agrees %": f"{100 * row['agreement']:.2f}",
            "lost, won": f"{test['only_first']}, {test['only_second']}",
            "p": f"{test['p']:.2g}",
            "differs": "yes" if test["p"] < CHANCE else "no",
        }
    return found | {"ms": f"{row['latency_ms']:.2f}"}


def list_recipes(recipes, expected):
    """What scripts/train.py says when it is asked for nothing."""
    print(
        "usage: python scripts/train.py RECIPE [options]; RECIPE --help lists the options. Recipes:"
    )
    for name, recipe in recipes.items():
        print(f"  {name:26}{recipe.summary}\n  {'':26}{expected[name]}")


def transpose(columns):
    """Rows for `print_table` from {name: {title: text}}, a column for each name."""
    titles = dict.fromkeys(title for column in columns.values() for title in column)
    return [
        {"": title, **{name: column.get(title, "") for name, column in columns.items()}}
        for title in titles
    ]


def short_names(paths):
    """The folder that all `paths` share, and a short name for each: float32 for export/model_float32.tflite."""
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
    rows = [file_row(name, row) for name, row in report["artifacts"].items() if not row["refused"]]
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


def file_row(name: str, row: dict) -> dict[str, str]:
    """Return {title: text} of one file for the screen."""
    metrics = row["metrics"]
    numbers = dict.fromkeys(("top-1 %", "drop (95%)", "agree %", "max error", "ms"), "-")
    if metrics:
        low, high = metrics["drop_interval"]
        numbers = {
            "top-1 %": f"{100 * metrics['top1']:.2f}",
            "drop (95%)": f"{metrics['drop']:.2f} ±{(high - low) / 2:.2f}",
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


VERIFICATION_LEGEND = (
    "drop: points of top-1 accuracy lost compared with the Keras model, and 95%\n"
    "interval. agree: images with the Keras model's top class. max error: maximum\n"
    "absolute error of a probability. ms: median for one image, 1 thread."
)


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
    if metrics := row["metrics"]:
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
