"""Open a run to export it."""

from pathlib import Path
from typing import Any

import keras

from ..data.dataset import Dataset
from ..data.load import load_dataset
from ..errors import InputError
from ..formats import ExportSettings
from ..models import load_keras, resize_model, strip_auxiliary_heads
from ..quantization.ranges import Ranges
from ..runs.record import data_changes, read_run
from .source import ExportSource, ImageSet

DEBUG_IMAGES = 100  # validation images that int8 errors are measured on


def open_run(
    folder: Path, settings: ExportSettings, data_dir: str | Path | None = None
) -> tuple[dict[str, Any], keras.Model, Dataset]:
    """Open a finished run.

    Args:
        folder: run directory.
        settings: their height and width replace the image size of the run.
        data_dir: directory of TFDS datasets. None: the directory that the run used.

    Returns:
        The content of run.json, the model and the dataset.

    Raises:
        InputError (a ValueError): the run is not finished, or its dataset has changed.
    """
    run = read_run(folder)
    if "metrics" not in run:
        raise InputError(
            f"{folder} is not a finished run. Received: a run.json without metrics. "
            "Finish the training with keras-arch train --resume."
        )
    model = strip_auxiliary_heads(load_keras(folder / "model.keras"))
    size = run["recipe"].image_size
    if settings.height is not None and settings.width is not None:
        size = (settings.height, settings.width)
        model = resize_model(model, settings.height, settings.width)
    return run, model, load_run_data(folder, run, size, data_dir)


def load_run_data(
    folder: Path, run: dict[str, Any], size: tuple[int, int], data_dir: str | Path | None = None
) -> Dataset:
    """Load the dataset of a run.

    Args:
        folder: run directory.
        run: what `read_run` returned.
        size: height and width of the images in pixels.
        data_dir: directory of TFDS datasets. None: the directory that the run used.

    Raises:
        InputError (a ValueError): the dataset has changed, or it does not exist.
    """
    recipe = run["recipe"]
    data = load_dataset(recipe.dataset, data_dir or run["data_dir"], size, **recipe.data_options)
    if changed := data_changes(folder, run, data):
        raise InputError(
            f"{folder} was trained on other data. Received: {', '.join(changed)}. Restore the "
            "original data, or train again."
        )
    return data


def source_of_run(
    run: dict[str, Any],
    model: keras.Model,
    data: Dataset,
    settings: ExportSettings,
    ranges: Ranges | None = None,
) -> ExportSource:
    """Return the model and the images of a run for an export.

    Args:
        run, model, data: what `open_run` returned.
        settings: their numbers of images and seed draw training and test images.
        ranges: ranges of the int8 file in model.keras.
    """
    name, seed = run["recipe"].dataset, settings.seed
    calibration, _ = data.train.sample(settings.calibration_images, seed)
    return ExportSource(
        model,
        data.class_names,
        ImageSet(calibration, None, name, "train"),
        ImageSet(*data.test.sample(settings.verification_images, seed), name, "test"),
        data.validation.sample(DEBUG_IMAGES, seed)[0],
        ranges,
        run,
    )
