"""Run folders: written beside their final name and moved into place, so that a crash leaves the old or the new."""

import csv
import dataclasses
import json
import os
import platform
import shutil
import subprocess
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from .errors import InputError
from .recipes import Recipe


def partial_name(folder):
    """Where a run or an export is written until it is whole."""
    return folder.with_name(folder.name + ".partial")


def refuse_existing(folder, overwrite):
    """Raise InputError where a run, or the checkpoint of an interrupted one, would be lost without being asked."""
    for existing in (folder, partial_name(folder) / "model.keras"):
        if existing.exists() and not overwrite:
            raise InputError(
                f"expected a run folder that is free, got {folder}: {existing} exists and stays as it is; "
                "--overwrite would replace it, --output FOLDER would write elsewhere"
            )


@contextmanager
def whole_folder(folder):
    """A new folder beside `folder` to fill, which takes its place when the block ends.

    When the block is left by an exception, `folder` stays as it was; of the unfinished one a checkpoint is kept, and
    the exception says where.
    """
    partial = partial_name(folder)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except (KeyboardInterrupt, InputError) as stop:
        checkpoint = partial / "model.keras"
        if checkpoint.exists():
            raise type(stop)(f"{str(stop) or 'stopped'}; the best checkpoint so far is kept in {checkpoint}") from stop
        shutil.rmtree(partial)
        raise
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    old = folder.with_name(folder.name + ".old")
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def save_whole(path, write):
    """Let `write(path)` write a file beside `path`, then move it there: a reader sees the old file or the new one."""
    beside = path.with_name(f"partial-{path.name}")
    write(beside)
    os.replace(beside, path)


def write_json(path, content):
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
        "data_dir": None if data_dir is None else str(data_dir),
        "images": dataset.sizes,
        "git_commit": git_commit(),
        "versions": {name: version(name) for name in ("keras", "tensorflow", "tensorflow-datasets", "numpy")},
        "python": platform.python_version(),
        "hardware": {"machine": platform.machine(), "system": platform.system(), "cpu_cores": os.cpu_count()},
    }
    write_json(folder / "run.json", run)


def finish(folder, history, test_metrics):
    """Write what came out: history.csv, curves.png, and into run.json the metrics of the checkpoint that was kept."""
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
        raise InputError(f"expected a run folder that scripts/train.py wrote, got {folder}, which has no run.json")
    run = json.loads(path.read_text())
    return {**run, "recipe": Recipe(**run["recipe"])}


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
    """The arguments of `load_dataset` for the data that an artifact's run was trained on, or for `name` instead.

    Raises:
        InputError (a ValueError): no name is given and the artifact lies in no run folder.
    """
    path = find_beside(artifact, "run.json")
    run = None if path is None else read_run(path.parent)
    if run is None and name is None:
        raise InputError(
            f"expected {artifact} in a run folder, whose run.json names the data set; --dataset NAME would work"
        )
    if run is None or name not in (None, run["recipe"].dataset):
        return name, data_dir, None
    return run["recipe"].dataset, data_dir or run["data_dir"], run["recipe"].image_size
