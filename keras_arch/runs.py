"""Run folders: written beside their final name and moved into place, so that a crash leaves the old or the new."""

import csv
import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from .errors import InputError
from .recipes import Recipe


def findable(recipe):
    """The recipe with the whole path where its data set is a folder or a file, so that run.json finds it from anywhere."""
    if recipe.dataset != "digits" and Path(recipe.dataset).exists():
        return dataclasses.replace(recipe, dataset=str(Path(recipe.dataset).resolve()))
    return recipe


def default_folder(recipe):
    """saved_models/<model>-<dataset>."""
    path = Path(recipe.dataset)
    name = path.stem if path.is_absolute() else re.sub("[/:]", "-", recipe.dataset)
    return Path("saved_models") / f"{recipe.model}-{name}"


def partial_name(folder):
    """Where a run or an export is written until it is whole."""
    folder = folder.resolve()
    return folder.with_name(folder.name + ".partial")


def refuse_existing(folder, overwrite):
    """Raise InputError where a run, or the checkpoint of an interrupted one, would be lost without being asked."""
    refuse_foreign(folder, "run.json")
    above = next(parent for parent in folder.resolve().parents if parent.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise InputError(
            f"expected a run folder that can be written, got {folder}: {above} cannot; --output names another"
        )
    for existing in (folder / "run.json", partial_name(folder) / "model.keras"):
        if existing.exists() and not overwrite:
            raise InputError(
                f"expected a run folder that is free, got {folder}: {existing} exists and stays as it is; "
                "--overwrite would replace it, --output FOLDER would write elsewhere"
            )


def refuse_foreign(folder, marker):
    """Raise InputError where `folder` holds anything without a file called `marker`: it is not ours to replace."""
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / marker).is_file())):
        raise InputError(
            f"expected a new folder, an empty one or one with {marker} in it, got {folder}, which stays as it is"
        )


@contextmanager
def whole_folder(folder, marker):
    """A new folder beside `folder` to fill, which takes its place when the block ends.

    When the block is left by an exception, `folder` stays as it was; of the unfinished one a checkpoint is kept, and
    what a user reads says where. A folder without a file called `marker` is never replaced.
    """
    refuse_foreign(folder, marker)
    folder, partial = folder.resolve(), partial_name(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    checkpoint = partial / "model.keras"
    try:
        yield partial
    except (KeyboardInterrupt, InputError) as stop:
        if checkpoint.exists():
            message = f"{str(stop) or 'stopped'}; the best checkpoint so far is kept in {checkpoint}"
            raise type(stop)(message) from stop
        raise
    finally:
        if sys.exc_info()[0] is not None and not checkpoint.exists():
            shutil.rmtree(partial, ignore_errors=True)
    if folder.exists():
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.replaced-", dir=folder.parent) as replaced:
            old = folder.rename(Path(replaced) / folder.name)
            try:
                partial.rename(folder)
            except OSError:
                old.rename(folder)  # or it would go with the temporary folder
                raise
    else:
        partial.rename(folder)


def save_whole(path, write):
    """Let `write(path)` write a file beside `path`, then move it there: a reader sees the old file or the new one."""
    beside = path.with_name(f"partial-{path.name}")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_whole(path, lambda beside: beside.write_text(json.dumps(content, indent=2) + "\n"))


def write_labels(path, class_names):
    """One class a line, in the order of the model's outputs."""
    path.write_text("\n".join(class_names) + "\n", encoding="utf-8")


def write_history(path, history):
    """history: {column: [value of each epoch]}, as Keras keeps it."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["epoch", *history])
        rows.writerows([epoch, *values] for epoch, values in enumerate(zip(*history.values(), strict=True), start=1))


def draw_curves(path, history):
    """Loss and accuracy of training and validation over the epochs, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        epochs = range(1, len(history[metric]) + 1)
        axes.plot(epochs, history[metric], label="training")
        axes.plot(epochs, history[f"val_{metric}"], label="validation")
        axes.set(xlabel="epoch", title=metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def start(folder, recipe, data_dir, dataset):
    """Write what is known before the first step: labels.txt, and a run.json that says enough to repeat the run."""
    write_labels(folder / "labels.txt", dataset.class_names)
    run = {
        "recipe": dataclasses.asdict(recipe),
        "data_dir": None if data_dir is None else str(Path(data_dir).resolve()),
        "images": dataset.sizes,
        "git_commit": git_commit(),
        "versions": {name: version(name) for name in ("keras", "tensorflow", "tensorflow-datasets", "numpy")},
        "python": platform.python_version(),
        "hardware": {"machine": platform.machine(), "system": platform.system(), "cpu_cores": os.cpu_count()},
    }
    write_json(folder / "run.json", run)


def finish(folder, history, test_metrics):
    """Write what came out, history.csv, curves.png and into run.json the metrics of the kept checkpoint; return these."""
    write_history(folder / "history.csv", history)
    draw_curves(folder / "curves.png", history)
    scores = list(zip(history["val_accuracy"], (-loss for loss in history["val_loss"]), strict=True))
    best = max(range(len(scores)), key=scores.__getitem__)
    run = json.loads((folder / "run.json").read_text())
    run["metrics"] = {
        "best_epoch": best + 1,
        "validation": {"loss": history["val_loss"][best], "top1": history["val_accuracy"][best]},
        "test": test_metrics,
        "training_seconds": round(sum(history["seconds"]), 1),
    }
    write_json(folder / "run.json", run)
    return run["metrics"]


def summary(recipe, metrics):
    """A row for the screen of what `finish` returned."""
    return {
        "model": recipe.model,
        "dataset": recipe.dataset,
        "best epoch": str(metrics["best_epoch"]),
        "validation": f"{metrics['validation']['top1']:.2%}",
        "test": f"{metrics['test']['top1']:.2%}",
        "training": f"{metrics['training_seconds']:.0f} s",
    }


def git_commit():
    """The commit of the code that runs, with a + where files differ from it; None outside a checkout."""
    try:
        command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        here = Path(__file__).parent
        return subprocess.run(command, cwd=here, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def find_beside(artifact, name):
    """The file called `name` of the run that `artifact` lies in: beside it or up to two folders above; or None."""
    folders = Path(artifact).resolve().parents[:3]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def read_labels(path):
    """The class names of a labels.txt, in the order of the model's outputs."""
    return tuple(path.read_text(encoding="utf-8").splitlines())


def read_run(folder):
    """What run.json in a run folder says, its recipe as a `Recipe`."""
    path = folder / "run.json"
    if not path.is_file():
        hint = f"; {folder.parent} would work" if (folder.parent / "run.json").is_file() else ""
        raise InputError(
            f"expected a run folder that scripts/train.py wrote, got {folder}, which has no run.json{hint}"
        )
    try:
        run = json.loads(path.read_text())
        return {**run, "recipe": Recipe(**run["recipe"])}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"expected {path} as scripts/train.py of this version writes it, got: {error}") from error


def labels_of(artifact):
    """The class names of an opened artifact, from the labels.txt of its run; numbers where there is none."""
    path = find_beside(artifact.path, "labels.txt")
    if path is None:
        return tuple(f"class {number}" for number in range(artifact.classes))
    labels = read_labels(path)
    if len(labels) != artifact.classes:
        raise InputError(
            f"expected {artifact.classes} lines in {path}, one for each class of {artifact.path}, got {len(labels)}"
        )
    return labels


def dataset_of(artifact, name=None, data_dir=None):
    """What an artifact's run was trained on, or `name` instead: its name, its data folder, and whether to skip_unreadable.

    Raises:
        InputError (a ValueError): no name is given and the artifact lies in no run folder.
    """
    path = find_beside(artifact, "run.json")
    if path is None and name is None:
        raise InputError(
            f"expected {artifact} in a run folder, whose run.json names its data; --dataset NAME would work"
        )
    if path is None:
        return name, data_dir, False
    run = read_run(path.parent)
    return name or run["recipe"].dataset, data_dir or run["data_dir"], run["recipe"].skip_unreadable
