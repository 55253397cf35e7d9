"""Export a run for servers and phones: python scripts/export.py RUN."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from keras_arch import cli


@dataclass
class Options:
    """Write RUN/export/: saved_model/, model_float32.tflite, model_int8.tflite, labels.txt and export.json."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder that scripts/train.py wrote."""
    data_dir: Path | None = None
    """Folder of prepared TFDS data sets, for calibration; the one that the run was trained from if not given."""


def main():
    options = cli.parse(Options, sys.argv[1:], prog="export.py")
    with cli.quiet():
        from keras_arch import export_model, files, load_dataset, runs
        from keras_arch.artifacts import load_keras
        from keras_arch.export import CALIBRATION_IMAGES

    run = runs.read_run(options.run)
    model = load_keras(options.run / "model.keras")
    recipe = run["recipe"]
    dataset = load_dataset(
        recipe.dataset, options.data_dir or run["data_dir"], recipe.image_size, recipe.skip_unreadable
    )
    images = [image for image, _ in dataset.train.examples.take(CALIBRATION_IMAGES).as_numpy_iterator()]
    folder = options.run / "export"
    print(f"Exporting {options.run / 'model.keras'} to {folder} ...")
    with files.whole_folder(folder, "export.json") as partial, cli.quiet():
        report = export_model(model, partial, dataset.class_names, images)
    cli.print_table([readable(name, row) for name, row in report["artifacts"].items()])
    print(f"Next: python scripts/evaluate.py {options.run}/model.keras {folder}/saved_model {folder}/*.tflite")


def readable(name, row):
    """A row of export.json as a person reads it."""
    operators = " ".join(f"{operator}:{count}" for operator, count in row.get("operators", {}).items())
    return {"artifact": name, "size": cli.megabytes(row["bytes"]), "operators": operators}


if __name__ == "__main__":
    cli.run(main)
