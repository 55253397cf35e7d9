"""Write and read run.json, the record of a run."""

import dataclasses
import json
import platform
import shutil
from pathlib import Path

from ..class_names import LABELS, first_difference, read_labels, write_labels
from ..errors import InputError, choose
from ..files import CHECKPOINT, is_url, without_none, write_json
from ..machine import available_cores, cpu_name, git_commit, version_of
from ..plugins import find_functions, hash_file
from ..recipes import RECIPES
from ..text import brief
from .fields import read_record
from .history import best_epoch

PACKAGES = ("keras", "tensorflow", "tensorflow-datasets", "numpy")  # and the Keras backend
VALIDATION_METRICS = ("images", "top1", "balanced_accuracy")


def start_run(folder, recipe, precision, data_dir, dataset, devices=None, teacher_sha256=None):
    """Write labels.txt and the fields of run.json that are known before training.

    If `folder` has a checkpoint, only check that the data, the precision, the Keras backend, the
    teacher and the files with functions of the user are those of the interrupted run.

    Args:
        folder: `Path` of the unfinished run.
        recipe: a `keras_arch.Recipe`.
        precision: a `training.precision.Precision`.
        data_dir: directory of prepared TFDS data sets, or None.
        dataset: a `keras_arch.Dataset`.
        devices: {"count", "processes", "kind"} of the devices. Default: one device.
        teacher_sha256: SHA-256 of the teacher's weights. Default: no teacher.

    Raises:
        InputError (a ValueError): the interrupted run has other data, another precision, another
            backend, other weights of the teacher or another content of a file with functions.
    """
    import keras  # takes seconds, and scripts/compare.py first reads its runs

    backend = keras.backend.backend()
    if (folder / CHECKPOINT).exists():
        before = read_run(folder)
        changed = data_changes(folder, before, dataset)
        if precision.name != before["precision"]:
            changed.append(f"precision {precision.name} instead of {before['precision']}")
        # Runs of earlier versions have no backend. They ran on TensorFlow.
        if backend != (recorded := before.get("backend", "tensorflow")):
            changed.append(f"Keras backend {backend} instead of {recorded}")
        if teacher_sha256 != before.get("teacher_sha256"):
            changed.append("other weights of the teacher")
        before_hashes = before.get("functions", {})
        changed += [
            f"another content of {Path(text).name}"
            for text in find_functions(recipe)
            if before_hashes.get(text) != hash_file(text)
        ]
        if changed:
            raise InputError(
                f"{folder} has other data, precision or backend. Received: "
                f"{', '.join(changed)}. Use the original ones, or pass --overwrite to start again."
            )
        return
    write_labels(folder / LABELS, dataset.class_names)
    run = {
        "recipe": dataclasses.asdict(recipe),
        "precision": precision.name,
        "precision_gflops": precision.speeds,
        "backend": backend,
        "devices": devices or {"count": 1, "processes": 1, "kind": ""},
        "functions": {text: hash_file(text) for text in find_functions(recipe)},
        "teacher_sha256": teacher_sha256,
        "data_dir": resolve_data_dir(data_dir),
        "images": dataset.sizes,
        "data_fingerprint": dataset.fingerprint,
        "git_commit": git_commit(),
        "versions": {name: version_of(name) for name in dict.fromkeys((*PACKAGES, backend))},
        "python": platform.python_version(),
        "hardware": {
            "processor": cpu_name(),
            "cores": available_cores(),
            "system": platform.system(),
        },
    }
    write_json(folder / "run.json", run)


def resolve_data_dir(data_dir):
    """Return an absolute path, a URL unchanged, or None."""
    return data_dir if data_dir is None or is_url(data_dir) else str(Path(data_dir).resolve())


def data_changes(folder, run, dataset):
    """Return a list of differences between `dataset` and the data that a run was started with.

    Args:
        folder: `Path` of the run directory.
        run: what `read_run` returned. Runs of earlier versions have no fingerprint; their contents
            are not compared.
        dataset: a `keras_arch.Dataset`.
    """
    labels = folder / LABELS
    changed = first_difference(
        read_labels(labels) if labels.exists() else dataset.class_names, dataset.class_names
    )
    if changed:
        number, before, now = changed
        return [f"class {number} is {brief(now)} instead of {brief(before)}"]
    sizes = [(split, count, run["images"].get(split)) for split, count in dataset.sizes.items()]
    if other := [
        f"{count} {split} images instead of {before}"
        for split, count, before in sizes
        if count != before
    ]:
        return other
    if run.get("data_fingerprint", dataset.fingerprint) != dataset.fingerprint:
        return [f"{dataset.name} with the same number of images but other contents"]
    return []


def finish_run(folder, history, metrics, cost, weights_sha256):
    """Add metrics and cost to run.json.

    Args:
        folder: `Path` of the unfinished run.
        history: {column: [value of each epoch]}.
        metrics: {"validation": `Metrics`, "test": `Metrics`}, from `evaluate_run`.
        cost: the `Cost` of the model.
        weights_sha256: SHA-256 of the saved weights.

    Returns:
        The "metrics" of run.json.
    """
    run = json.loads((folder / "run.json").read_text())
    recipe = read_run(folder)["recipe"]
    run["metrics"] = {
        "best_epoch": best_epoch(history, recipe.first_candidate) + 1,
        **describe_metrics(metrics),
        "training_seconds": round(sum(history["seconds"]), 1),
        "weights_sha256": weights_sha256,
    }
    run["cost"] = {
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "stages": [
            [row.name, row.parameters, row.multiply_adds, row.activations]
            for row in cost.by_stage().layers
        ],
    }
    write_json(folder / "run.json", run)
    return run["metrics"]


def describe_metrics(metrics):
    """Return the metrics of both splits for run.json. See `finish_run`."""
    return {
        "validation": {name: getattr(metrics["validation"], name) for name in VALIDATION_METRICS},
        "test": dataclasses.asdict(metrics["test"], dict_factory=without_none),
    }


def finish_calibration(folder, source, metrics, calibration, weights_sha256):
    """Write labels.txt, history.csv and run.json of a calibrated copy of a run.

    Args:
        folder: `Path` of the unfinished copy.
        source: `Path` of the run.
        metrics: {"validation": `Metrics`, "test": `Metrics`} of the calibrated model.
        calibration: the `Calibration`, from `calibrate_model`.
        weights_sha256: SHA-256 of the calibrated weights.

    Returns:
        The "calibration" of run.json.
    """
    for name in (LABELS, "history.csv"):
        shutil.copyfile(source / name, folder / name)
    run = json.loads((source / "run.json").read_text(encoding="utf-8"))
    run["metrics"] |= {**describe_metrics(metrics), "weights_sha256": weights_sha256}
    run["calibration"] = dataclasses.asdict(calibration, dict_factory=without_none)
    write_json(folder / "run.json", run)
    return run["calibration"]


def find_recipe(name):
    """Return the recipe to train by, and the directory of prepared TFDS data sets.

    Args:
        name: name of a recipe, or path of a run directory. The recipe of a finished run has the
            precision that the run used, because "auto" may choose another one.

    Returns:
        A `keras_arch.Recipe`, and the directory of TFDS data sets or None.

    Raises:
        InputError (a ValueError): `name` is neither.
    """
    if name not in RECIPES and Path(name).exists():
        run = read_run(Path(name))
        precision = run["precision"] if "metrics" in run else run["recipe"].precision
        return dataclasses.replace(run["recipe"], precision=precision), run["data_dir"]
    if Path(name).name != name:  # with a directory
        raise InputError(f"{name} does not exist. Pass a run directory or the name of a recipe.")
    hint = "keras-arch train --help lists the recipes."
    return RECIPES[
        choose("a recipe or a run directory as the first word", name, RECIPES, hint)
    ], None


def read_run(folder):
    """Return the content of run.json in a run directory, "recipe" as a `Recipe`.

    Raises:
        InputError (a ValueError): `folder` is not a run directory, or run.json is damaged.
    """
    path = folder / "run.json"
    if not path.is_file():
        hint = f" Pass {folder.parent}." if (folder.parent / "run.json").is_file() else ""
        raise InputError(f"{folder} is not a run directory: it has no run.json.{hint}")
    return read_record(path)
