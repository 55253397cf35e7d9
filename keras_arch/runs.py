"""Run folders: what a run says about itself, and how that is read again."""

import csv
import dataclasses
import json
import math
import platform
import re
import warnings
from importlib.metadata import version
from pathlib import Path

from .class_names import LABELS, first_difference, read_labels, write_labels
from .errors import DataWarning, InputError, first_line
from .files import (
    CHECKPOINT,
    check_writable,
    find_beside,
    locked,
    partial_name,
    refuse_foreign,
    refuse_inside,
    save_whole,
    write_json,
)
from .machine import available_cores, cpu_name, git_commit
from .record import damaged, read_record
from .text import brief, shorten

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")  # columns of history.csv that every run has


def findable(recipe):
    """The recipe with whole paths where it names folders or files, so that run.json finds them from anywhere."""
    if recipe.freeze == "backbone" and recipe.weights is None:
        raise InputError("expected --weights with --freeze backbone, got none: a random backbone would never learn")
    return dataclasses.replace(recipe, dataset=full_path(recipe.dataset), weights=full_path(recipe.weights))


def full_path(name):
    """The absolute path of a file or folder that is there; any other name as it is."""
    return name if name in ("digits", "imagenet", None) or not Path(name).exists() else str(Path(name).resolve())


def data_name(dataset):
    """A data set as people call it: the last part of the path of a folder or file, which `findable` has made whole."""
    return Path(dataset).stem if Path(dataset).is_absolute() else dataset


def default_folder(recipe):
    """saved_models/<model>-<dataset>."""
    return Path("saved_models") / f"{recipe.model}-{re.sub('[/:]', '-', data_name(recipe.dataset))}"


def free_folder(folder, recipe, overwrite, resume):
    """`folder`, or InputError where a run or an unfinished one would be lost or mixed with another without being asked."""
    refuse_inside(folder, [recipe.dataset])
    if Path(recipe.dataset).exists() and folder.resolve() in Path(recipe.dataset).resolve().parents:
        raise InputError(f"{folder} holds the data, {recipe.dataset}, and must not be replaced. Pass another --output")
    refuse_foreign(folder, "run.json")
    check_writable(folder)
    if (folder / "run.json").exists() and not overwrite:
        raise InputError(
            f"expected a run folder that is free, got {folder}, which holds a whole run and stays as it is; "
            "--overwrite would replace it, --output FOLDER would write elsewhere"
        )
    partial = partial_name(folder)
    if resume and (partial / CHECKPOINT).exists():
        before, now = (dataclasses.asdict(one) for one in (read_run(partial)["recipe"], recipe))
        changed = [f"{field} {before[field]!r} and not {now[field]!r}" for field in now if now[field] != before[field]]
        if changed:
            raise InputError(f"expected the options that {partial} was begun with: {', '.join(changed)}")
    for existing in (partial / "model.keras", partial / CHECKPOINT):
        if existing.exists() and not (overwrite or resume):
            with locked(partial):  # or it would be called interrupted while it is running
                pass
            raise InputError(
                f"expected a run folder that is free, got {folder}: {existing} is what an interrupted run left; --resume "
                "would go on with it, --overwrite begin anew"
            )
    return folder


def write_history(path, history):
    """history: {column: [value of each epoch]}, as Keras keeps it."""

    def write(beside):
        with beside.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["epoch", *history])
            rows.writerows(
                [epoch, *values] for epoch, values in enumerate(zip(*history.values(), strict=True), start=1)
            )

    save_whole(path, write)


def read_history(folder):
    """{column: [value of each epoch]} of a run's history.csv, without the numbers of the epochs."""
    path = folder / "history.csv"
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(path, first_line(error)) from error
    if len(rows) < 2:
        raise damaged(path, "no epoch")
    if len({len(row) for row in rows}) > 1:
        raise damaged(path, "rows of different lengths")
    columns = {name: texts for name, *texts in zip(*rows, strict=True)}
    if missing := [name for name in CURVES if name not in columns]:
        raise damaged(path, f"no column {missing[0]}")
    return {name: [number_in(path, name, text) for text in texts] for name, texts in columns.items() if name != "epoch"}


def number_in(path, column, text):
    """The number in a field of history.csv."""
    try:
        return float(text)
    except ValueError:
        raise damaged(path, f"{brief(column)} of {brief(text)}, which must be a number") from None


def draw_curves(path, histories):
    """Loss and accuracy over the epochs of runs {name: history}, as a picture: validation drawn through, training dashed."""
    from .figures import drawing, label

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


def comparison(folder, run, history, cost):
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
        **balanced_cells(metrics),
        "training": f"{metrics['training_seconds']:.0f} s",
        "size": f"{(folder / 'model.keras').stat().st_size / 1e6:.2f} MB",
    }


def best_epoch(history):
    """Return the epoch, counted from 0, of the highest validation accuracy, or balanced accuracy with class weights.

    Of equal ones it is that of the lowest validation loss, then the first.
    """
    accuracy = history.get("val_balanced_accuracy", history["val_accuracy"])
    scores = list(zip(accuracy, (-loss for loss in history["val_loss"]), strict=True))
    return max(range(len(scores)), key=scores.__getitem__)


def start(folder, recipe, precision, data_dir, dataset):
    """Write what is known before the first step: labels.txt, and a run.json that says enough to repeat the run.

    Where an unfinished run is there already it stays, if it can go on: with the same data in the same precision.

    Raises:
        InputError (a ValueError): the unfinished run was started with other data or in another precision.
    """
    if (folder / CHECKPOINT).exists():
        before = read_run(folder)
        changed = data_changes(folder, before, dataset)
        if precision.name != before["precision"]:
            changed.append(f"precision {precision.name} instead of {before['precision']}")
        if changed:
            raise InputError(
                f"{folder} was started with other data or precision. Received: {', '.join(changed)}. Use the original ones, or "
                "pass --overwrite to start again"
            )
        return
    write_labels(folder / LABELS, dataset.class_names)
    run = {
        "recipe": dataclasses.asdict(recipe),
        "precision": precision.name,
        "precision_gflops": precision.speeds,
        "data_dir": None if data_dir is None else str(Path(data_dir).resolve()),
        "images": dataset.sizes,
        "data_fingerprint": dataset.fingerprint,
        "git_commit": git_commit(),
        "versions": {name: version(name) for name in ("keras", "tensorflow", "tensorflow-datasets", "numpy")},
        "python": platform.python_version(),
        "hardware": {"processor": cpu_name(), "cores": available_cores(), "system": platform.system()},
    }
    write_json(folder / "run.json", run)


def data_changes(folder, run, dataset):
    """How `dataset` differs from the data that a run was started with, as texts; none if it does not.

    Args:
        folder: of the run.
        run: what its run.json holds. Runs of earlier versions have no fingerprint; their contents are not compared.
        dataset: a `keras_arch.data.dataset.Dataset`.
    """
    labels = folder / LABELS
    changed = first_difference(read_labels(labels) if labels.exists() else dataset.class_names, dataset.class_names)
    if changed:
        number, before, now = changed
        return [f"class {number} is {brief(now)} instead of {brief(before)}"]
    if dataset.sizes != run["images"]:
        return [f"images {dataset.sizes} instead of {run['images']}"]
    if run.get("data_fingerprint", dataset.fingerprint) != dataset.fingerprint:
        return [f"{dataset.name} with other contents, in the same number of images"]
    return []


def finish(folder, history, answers, weights_sha256):
    """Write into run.json how right the kept model's `answers` are; return what is written there.

    Args:
        folder: of the run.
        history: {column: [value of each epoch]}.
        answers: {split: (probabilities, labels)}.
        weights_sha256: of the kept model.
    """
    from .evaluation import accuracy, balanced_accuracy

    run = json.loads((folder / "run.json").read_text())
    run["metrics"] = {
        "best_epoch": best_epoch(history) + 1,
        **{split: accuracy(*answer) for split, answer in answers.items()},
        "training_seconds": round(sum(history["seconds"]), 1),
        "weights_sha256": weights_sha256,
    }
    if run["recipe"]["class_weights"] == "balanced":
        for split, answer in answers.items():
            run["metrics"][split]["balanced_accuracy"] = balanced_accuracy(*answer)
    write_json(folder / "run.json", run)
    return run["metrics"]


def title(recipe, model, sizes, precision, anew):
    """One line about what is going to be trained."""
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    images = ", ".join(f"{count:,} {split}" for split, count in sizes.items())
    begin = f", beginning with {recipe.weights}" if recipe.weights else ""
    begin += f" (anew: {', '.join(sorted(anew))})" if anew else ""
    return f"{recipe.model} ({parameters:,} parameters{begin}) on {data_name(recipe.dataset)} ({images}) in {precision}"


def summary(recipe, metrics):
    """A row for the screen of what `finish` returned."""
    return {
        "model": recipe.model,
        "dataset": shorten(data_name(recipe.dataset)),
        "best epoch": str(metrics["best_epoch"]),
        "validation": f"{metrics['validation']['top1']:.2%}",
        "test": f"{metrics['test']['top1']:.2%}",
        **balanced_cells(metrics),
        "training": f"{metrics['training_seconds']:.0f} s",
    }


def balanced_cells(metrics):
    """{title: text} of the balanced accuracies of a run that was trained with class weights; empty for any other."""
    splits = [split for split in ("validation", "test") if "balanced_accuracy" in metrics[split]]
    return {f"{split}, balanced": f"{metrics[split]['balanced_accuracy']:.2%}" for split in splits}


def read_run(folder):
    """What run.json in a run folder says, its recipe as a `Recipe`."""
    path = folder / "run.json"
    if not path.is_file():
        hint = f"; {folder.parent} would work" if (folder.parent / "run.json").is_file() else ""
        raise InputError(
            f"expected a run folder that scripts/train.py wrote, got {folder}, which has no run.json{hint}"
        )
    return read_record(path)


def warn_of_changes(artifacts, name, dataset, split="test"):
    """Issue a `DataWarning` for each run of `artifacts` whose training images may be among those to evaluate.

    The run was trained on data of this name with other contents, or `split` is "all" and the contents are the same.

    Args:
        artifacts: opened artifacts; one outside a run folder is not compared.
        name: what `dataset` was loaded from, as a recipe names it.
        dataset: a `keras_arch.data.dataset.Dataset`.
        split: which split of it is evaluated.
    """
    for folder, run in runs_of(artifacts):
        if run["recipe"].dataset == name and (changed := data_changes(folder, run, dataset)):
            warnings.warn(
                f"{folder} was trained on other data: here {', '.join(changed)}. The images to evaluate may be among those "
                "it was trained on",
                DataWarning,
                stacklevel=2,
            )
        elif split == "all" and dataset.fingerprint and dataset.fingerprint == run.get("data_fingerprint"):
            warnings.warn(
                f"{folder} was trained on the same data. Evaluate --split test for images that it was not trained on",
                DataWarning,
                stacklevel=2,
            )


def runs_of(artifacts):
    """(folder, what `read_run` gives) of each run that opened artifacts lie in."""
    found = {find_beside(artifact.path, "run.json") for artifact in artifacts}
    return [(path.parent, read_run(path.parent)) for path in sorted(filter(None, found))]


def is_training_data(artifacts, name):
    """Whether a run of opened artifacts was trained on data of this name, as a recipe names it."""
    return any(run["recipe"].dataset == name for _, run in runs_of(artifacts))


def dataset_of(artifact, name=None, data_dir=None):
    """What an artifact's run was trained on, or `name` instead: its name, its data folder, and options of
    `load_dataset`.

    Raises:
        InputError (a ValueError): no name is given and the artifact lies in no run folder.
    """
    path = find_beside(artifact, "run.json")
    if path is None and name is None:
        raise InputError(
            f"expected {artifact} in a run folder, whose run.json names its data; --dataset NAME would work"
        )
    if path is None:
        return full_path(name), data_dir, {}
    run = read_run(path.parent)
    return full_path(name) or run["recipe"].dataset, data_dir or run["data_dir"], run["recipe"].data_options
