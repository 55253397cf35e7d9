"""Export a run and verify the files."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.dataset import Dataset
from ..data.load import load_dataset
from ..errors import InputError
from ..files import write_json
from ..formats import ExportSettings
from ..models import load_keras, plain_model, resize_model, strip_auxiliary_heads
from ..runs.record import data_changes, read_run
from .model import export_model, quantization_errors, weights_version
from .quantization import LayerError, layers_to_keep
from .record import ExportInputs, describe_export, describe_refusal
from .verification.verify import Reference, verify

BATCH = 100
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
    recipe, size = run["recipe"], run["recipe"].image_size
    if settings.height is not None and settings.width is not None:
        size = (settings.height, settings.width)
        model = resize_model(model, settings.height, settings.width)
    data = load_dataset(recipe.dataset, data_dir or run["data_dir"], size, **recipe.data_options)
    if changed := data_changes(folder, run, data):
        raise InputError(
            f"{folder} was trained on other data. Received: {', '.join(changed)}. Restore the "
            "original data, or train again."
        )
    return run, model, data


def export_and_verify(
    run: dict[str, Any],
    model: keras.Model,
    data: Dataset,
    folder: Path,
    settings: ExportSettings,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> dict[str, Any]:
    """Export a model, verify the files and write export.json.

    Args:
        run, model, data: what `open_run` returned.
        folder: export directory.
        settings: settings of the export.
        progress: see `verify`.

    Returns:
        The content of export.json.
    """
    # By default, GPUs compute float32 in TensorFloat-32, which has 10 bits of mantissa.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    calibration, _ = data.train.sample(settings.calibration_images, settings.seed)
    specs, refused = export_model(model, folder, data.class_names, calibration, settings)
    images, labels = data.test.sample(settings.verification_images, settings.seed)
    probabilities = plain_model(model).predict(images, batch_size=BATCH, verbose=0)
    reference = Reference(images, labels, probabilities, data.class_names, settings.max_drop)
    results = verify(folder, specs, reference, progress)
    results |= {name: describe_refusal(name, reason) for name, reason in refused.items()}
    inputs = ExportInputs(
        model=model.name,
        version=weights_version(model),
        dataset=run["recipe"].dataset,
        image_size=images.shape[1:3],
        calibration_images=len(calibration),
        verification_images=len(images),
        top1=float(np.mean(probabilities.argmax(axis=1) == labels)),
    )
    report = describe_export(inputs, settings, specs, results)
    write_json(folder / "export.json", report)
    return report


def debug_quantization(
    model: keras.Model, data: Dataset, settings: ExportSettings
) -> tuple[list[LayerError], list[str]]:
    """Return the int8 errors of the layers, highest first, and the layers to keep in float32."""
    calibration, _ = data.train.sample(settings.calibration_images, settings.seed)
    images, _ = data.validation.sample(DEBUG_IMAGES, settings.seed)
    ranking = quantization_errors(model, calibration, images, settings.keep_channels)
    return ranking, layers_to_keep(ranking)
