"""Tables and sentences for the screen."""

import math
import os
import textwrap

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


def class_rows(metrics):
    """Return a row of text for each class that has images. If there are many, the lowest F1 comes first."""
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


def absent_classes_line(metrics):
    """The classes without images as a sentence, or nothing if there are none."""
    names = [shorten(name) for name, found in metrics.classes.items() if not found.support]
    more = f" and {len(names) - CLASSES_SHOWN:,} more" if len(names) > CLASSES_SHOWN else ""
    return f"No images of: {', '.join(names[:CLASSES_SHOWN])}{more}." if names else ""


def confusions_line(metrics):
    """The most frequent mistakes as a sentence."""
    pairs = (
        f"{shorten(one.true)} taken for {shorten(one.predicted)} ({one.images:,})"
        for one in metrics.most_confused
    )
    return f"Most confused: {', '.join(pairs) or 'none'}."


def evaluation_row(row):
    """Return {title: text} of one `Evaluation`."""
    metrics = row.metrics
    found = {"size MB": f"{row.bytes / 1e6:.2f}"}
    for title, name in {"top-1": "top1", "top-5": "top5"}.items():
        share = getattr(metrics, name)
        if share is not None:
            low, high = getattr(metrics, f"{name}_interval")
            shares = {f"{title} %": share, f"{title} from": low, f"{title} to": high}
            found |= {column: f"{100 * value:.2f}" for column, value in shares.items()}
    found |= {"nll": f"{metrics.nll:.4f}", "ece %": f"{100 * metrics.ece:.2f}"}
    if row.against_first is not None:
        test = row.against_first
        found |= {
            "agrees %": f"{100 * row.agreement:.2f}",
            "lost, won": f"{test.only_first}, {test.only_second}",
            "p": f"{test.p:.2g}",
            "differs": "yes" if test.p < CHANCE else "no",
        }
    return found | {"ms": f"{row.latency_ms:.2f}"}


def recipe_table(recipes, expected):
    """Return the usage of scripts/train.py and a table of all recipes, 80 columns wide.

    Args:
        recipes: {name: `Recipe`}.
        expected: {name: `Expected`}.
    """
    row = "{:25}{:11}{:14}{:>6}  {:13}  {}".format
    lines = [
        "usage: train.py RECIPE [OPTIONS]",
        "       train.py RECIPE --help     list the options",
        "",
        row("recipe", "model", "data", "epochs", "test accuracy", "time"),
    ]
    for name, recipe in recipes.items():
        found = expected[name]
        result = found.accuracy or "not run yet", found.time or "-"
        lines.append(row(name, recipe.model, recipe.dataset, recipe.epochs, *result))
    notes = [
        textwrap.fill(f"{name}: {found.note}", 80, initial_indent="  ", subsequent_indent="    ")
        for name, found in expected.items()
        if found.note
    ]
    return "\n".join([*lines, "", "Times are for 2 CPU cores without a GPU. Notes:", *notes])


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


def verification_table(report):
    """{format name: {title: text}} for the screen."""
    return {
        name: file_row(row) for name, row in report["artifacts"].items() if "refused" not in row
    }


def file_row(row):
    """{title: text} of one file."""
    found = {"size MB": f"{row['bytes'] / 1e6:.2f}"}
    if "top1" in row:
        low, high = row["drop_interval"]
        found |= {
            "top-1 %": f"{100 * row['top1']:.2f}",
            "drop": f"{row['drop']:.2f}",
            "at least": f"{low:.2f}",
            "at most": f"{high:.2f}",
            "agrees %": f"{100 * row['agreement']:.2f}",
            "differs": f"{row['max_difference']:.1e}",
            "on average": f"{row['mean_difference']:.1e}",
        }
        for threads, (median, slow) in row["latency_ms"].items():
            found |= {
                f"ms {threads} thread{'s' * (threads != '1')}": f"{median:.2f}",
                f"p95 {threads}": f"{slow:.2f}",
            }
        if row["peak_memory"] is not None:
            found["memory MB"] = f"{row['peak_memory'] / 1e6:.1f}"
    return found | {"verdict": "FAILED" if row["problems"] else "ok"}


VERIFICATION_LEGEND = (
    "drop: points of top-1 lost against the Keras model, and its 95% interval. differs: the largest difference of a\n"
    "probability. ms: one image, median and 95th percentile. memory: the most beyond the empty runtime."
)


def operator_lines(report):
    """A line of operator counts for all .tflite files that have the same, and one for each file that was left out."""
    alike: dict[str, list[str]] = {}
    for name, row in report["artifacts"].items():
        if "operators" in row:
            counts = ", ".join(
                f"{operator} {count}" for operator, count in row["operators"].items()
            )
            alike.setdefault(counts, []).append(name)
    lines = [f"{', '.join(names)}: {counts}" for counts, names in alike.items()]
    return lines + [
        f"{name}: not written, {row['refused']}"
        for name, row in report["artifacts"].items()
        if "refused" in row
    ]
