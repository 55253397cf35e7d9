"""Tables and sentences for the screen."""

import math

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
        raise InputError(f"expected a run that has ended, got {folder}, whose run.json has no metrics")
    return {
        "model": run["recipe"].model,
        "dataset": shorten(data_name(run["recipe"].dataset)),
        "parameters": f"{cost.parameters:,}",
        "multiply-adds": f"{cost.multiply_adds:,}",
        "epochs": str(len(history["loss"])),
        "training loss": f"{history['loss'][-1]:.4f}",
        "validation": f"{metrics['validation']['top1']:.2%}",
        "test": f"{metrics['test']['top1']:.2%}",
        **balanced_columns(metrics),
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
        **balanced_columns(metrics),
        "training": f"{metrics['training_seconds']:.0f} s",
    }


def balanced_columns(metrics):
    """{title: text} of the balanced accuracies of a run that was trained with class weights; empty for any other."""
    splits = [split for split in ("validation", "test") if "balanced_accuracy" in metrics[split]]
    return {f"{split}, balanced": f"{metrics[split]['balanced_accuracy']:.2%}" for split in splits}
