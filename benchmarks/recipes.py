"""Train recipes with one or more seeds and write a row of results for each recipe.

    python benchmarks/recipes.py quickstart digits --seeds 3

Each seed runs `keras-arch train` and exports the run to int8. The verification measures the int8
file on all test images. After its last seed, a recipe gets its row in results/recipes.csv, which
`keras-arch train --help` reads. Then run `make generate`, which writes all rows into README.md.

`other_load` is the share of the processor time that other programs took during the training.

    python benchmarks/recipes.py fashion-mnist-best --runs saved_models/best

takes finished runs of the recipe instead, such as that of a machine with a GPU. The load of that
machine is unknown.
"""

import argparse
import csv
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

import keras_arch
from keras_arch.evaluation.metrics import wilson_interval
from keras_arch.files import atomic_write
from keras_arch.machine import git_commit
from keras_arch.runs.folder import data_name

OUTPUT = Path(__file__).parent / "results" / "recipes.csv"
COMMAND = "from keras_arch.command import main; main()"
ALL_IMAGES = "1000000"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("recipes", nargs="+", choices=keras_arch.RECIPES, metavar="RECIPE", help="Recipes to run.")
    add("--seeds", type=int, default=1, help="Number of seeds, from 0. Default: 1.")
    add("--runs", type=Path, nargs="+", help="Finished runs of the recipe, instead of training.")
    add("--data-dir", help="Directory of prepared TFDS data sets.")
    add("--dataset", help="Data set to train on. Default: that of the recipe.")
    add("--epochs", help="Epochs for a trial. Default: those of the recipe.")
    add("--output", type=Path, default=OUTPUT, help="CSV file. Default: results/recipes.csv.")
    options = parser.parse_args()
    data = ["--data-dir", options.data_dir] if options.data_dir else []
    changes = ["--dataset", options.dataset] if options.dataset else []
    changes += ["--epochs", options.epochs] if options.epochs else []
    if options.runs and (len(options.recipes) > 1 or changes or options.seeds > 1):
        parser.error("--runs takes one recipe, without --seeds, --dataset and --epochs")
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    if options.epochs and options.output == OUTPUT:
        parser.error("--epochs is for a trial. Pass --output, too.")
    commit = git_commit()  # before the output changes
    for name in options.recipes:
        if options.runs:
            check_runs(name, options.runs)
            runs = [evaluate(folder, data) for folder in options.runs]
        else:
            runs = [
                measure(name, seed, changes, data) | {"git_commit": commit}
                for seed in range(options.seeds)
            ]
        write_row(options.output, summarize(name, runs))


def measure(name, seed, changes, data):
    """Train a recipe and return run.json, the int8 accuracy and the load of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started, own, busy = clock()
        keras_arch_command("train", name, "--seed", seed, "--output", run, *changes, *data)
        ended, own_end, busy_end = clock()
        found = evaluate(run, data)
    own, busy = own_end - own, busy_end - busy
    return found | {
        "processor_seconds": own,
        "other_load": max(0, busy - own) / (ended - started) / psutil.cpu_count(),
    }


def check_runs(name, folders):
    """End with an error unless the runs in `folders` have the options of a recipe."""
    chosen = {"seed": 0, "dataset": "any", "precision": "auto"}
    expected = dataclasses.replace(keras_arch.RECIPES[name], **chosen)
    for folder in folders:
        found = json.loads((folder / "run.json").read_text())["recipe"] | chosen
        if found != json.loads(json.dumps(dataclasses.asdict(expected))):
            sys.exit(f"{folder} is not a run of {name}, or of an earlier version of it.")


def evaluate(run, data):
    """Export a run to int8. Return run.json, and the accuracy of the int8 file on all images."""
    images = ("--verification-images", ALL_IMAGES, "--max-drop", 100)
    keras_arch_command("export", run, "--formats", "int8", *images, *data)
    record = json.loads((run / "run.json").read_text())
    exported = json.loads((run / "export" / "export.json").read_text())
    return record | {"int8": exported["artifacts"]["int8"]["metrics"]["top1"]}


def keras_arch_command(*words):
    """Run a command of keras-arch. Raise CalledProcessError if it fails."""
    subprocess.run([sys.executable, "-c", COMMAND, *map(str, words)], check=True)


def clock():
    """Return the time, the processor time of finished child processes, and that of all programs."""
    children, machine = os.times(), psutil.cpu_times()
    idle = machine.idle + getattr(machine, "iowait", 0)
    # The time of a virtual machine's guests is also part of its user time.
    guests = getattr(machine, "guest", 0) + getattr(machine, "guest_nice", 0)
    return (
        time.time(),
        children.children_user + children.children_system,
        sum(machine) - idle - guests,
    )


def summarize(name, runs):
    """Return the row of a recipe.

    Args:
        name: name of the recipe.
        runs: what `measure` returned for each seed.
    """
    first = runs[0]
    found = [run["metrics"]["test"]["top1"] for run in runs]
    images = first["images"]["test"]
    low, high = wilson_interval(round(statistics.mean(found) * images), images)
    seconds = statistics.mean(run["metrics"]["training_seconds"] for run in runs)
    recipe, load = first["recipe"], [run["other_load"] for run in runs if "other_load" in run]
    worked = [run["processor_seconds"] for run in runs if "processor_seconds" in run]
    trained = recipe["epochs"] * first["images"]["train"]
    return {
        "recipe": name,
        "model": recipe["model"],
        "width": recipe["width"] or 1,
        "data": data_name(recipe["dataset"]),
        "parameters": first["cost"]["parameters"],
        "epochs": recipe["epochs"],
        "test_images": images,
        "top1_of_each_seed": " ".join(f"{value:.4f}" for value in found),
        "top1": f"{statistics.mean(found):.4f}",
        "deviation": f"{statistics.stdev(found):.4f}" if len(found) > 1 else "",
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "int8_top1": f"{statistics.mean(run['int8'] for run in runs):.4f}",
        "seconds": f"{seconds:.1f}",
        "images_per_second": f"{trained / seconds:.0f}",
        "processor_seconds": f"{statistics.mean(worked):.0f}" if worked else "",
        "other_load": f"{statistics.mean(load):.3f}" if load else "",
        "accelerator": name_accelerator(first["devices"]),
        "processor": first["hardware"]["processor"],
        "cores": first["hardware"]["cores"],
        "precision": first["precision"],
        "backend": first["backend"],
        "keras": first["versions"]["keras"],
        "tensorflow": first["versions"]["tensorflow"],
        "commit": first["git_commit"] or "",
    }


def name_accelerator(devices):
    """Return the devices of run.json as text, such as "2 x NVIDIA H100", or "" for a CPU."""
    if devices["kind"] in ("", "cpu"):
        return ""
    return devices["kind"] if devices["count"] == 1 else f"{devices['count']} x {devices['kind']}"


def write_row(path, row):
    """Replace the row of a recipe in a CSV file, in the order of the recipes."""
    rows = {}
    if path.exists():
        with path.open(newline="") as file:
            rows = {old["recipe"]: old for old in csv.DictReader(file)}
    rows[row["recipe"]] = row
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(partial):
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[name] for name in keras_arch.RECIPES if name in rows)

    atomic_write(path, write)
    print(f"{row['recipe']}: {float(row['top1']):.2%} in {row['seconds']} s. Written to {path}.")


if __name__ == "__main__":
    main()
