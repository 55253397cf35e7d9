"""Calibrate a Keras classifier by one temperature."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import keras
import numpy as np

from ..artifacts.keras import keras_artifact
from ..errors import DataWarning, InputError, explain_surroundings
from ..models import check_model
from ..options import Range, check_value
from ..text import shorten
from .calibration import (
    LEVELS,
    Calibration,
    accept,
    find_threshold,
    fit_temperature,
    measure_error,
    to_probabilities,
)
from .evaluate import predict_split
from .metrics import compute_metrics
from .temperature import copy_model, find_scaled_layers, scale_layer, without_softmax

if TYPE_CHECKING:
    from ..data.dataset import Dataset

SPLITS = ("validation", "test")
# Largest difference from softmax(logits / temperature). Rounding of large logits stays below it,
# and a temperature in the wrong place does not.
TOLERANCE = 1e-4
WORSE = 1e-3  # rise of the negative log-likelihood on test that is a warning


@dataclass(frozen=True)
class Calibrated:
    """A calibrated model, and what it predicts."""

    model: keras.Model
    calibration: Calibration
    scaled: tuple[str, ...]
    """Names of the layers whose outputs are divided by the temperature."""
    predictions: dict[str, tuple[np.ndarray, np.ndarray]]
    """{split: (probabilities (images, classes), labels (images,))} of validation and test."""


@explain_surroundings()
def calibrate(
    model: keras.Model,
    dataset: "Dataset",
    accuracy: Annotated[float, Range(0, 1)] = 0.99,
) -> tuple[keras.Model, Calibration]:
    """Calibrate a classifier, so that its probabilities match its accuracy.

    One temperature divides the logits. It minimizes the negative log-likelihood on the validation
    split. The temperature is folded into the weights of the last layer of a copy. So the most
    probable class of an image does not change, and all exported files are calibrated.

    Args:
        model: `keras.Model` from raw images (batch, height, width, channels) of 0-255 to class
            probabilities. It ends in a softmax.
        dataset: a `keras_arch.Dataset`. The model was not trained on its validation and test
            splits.
        accuracy: accuracy that the recommended threshold must reach on validation, 0 to 1.

    Returns:
        The calibrated copy, and a `Calibration`: the temperature, the calibration error on the test
        split before and after, and the accuracy above probability thresholds.

    Raises:
        InputError (a ValueError): the model does not fit the data set or does not end in a softmax;
            there are no validation or test images; or no validation image is classified wrongly,
            so that there is no best temperature.

    Warns:
        DataWarning: the calibrated model is worse on test, because validation has too few wrongly
            classified images.

    Example:
        model, found = keras_arch.calibrate(model, keras_arch.load_dataset("digits"))
        probabilities = model.predict(images)
        is_sure = probabilities.max(axis=1) >= found.recommended.threshold

    Reference:
        Guo et al. 2017, arXiv:1706.04599.
    """
    found = calibrate_model(model, dataset, accuracy)
    return found.model, found.calibration


def calibrate_model(
    model: keras.Model,
    dataset: "Dataset",
    accuracy: float = 0.99,
    progress=lambda batches, total: batches,
) -> Calibrated:
    """Calibrate a classifier. See `calibrate`, and `predict_split` for `progress`."""
    check_model(model)
    accuracy = check_value("accuracy", accuracy, Annotated[float, Range(0, 1)])
    if not hasattr(dataset, "image_shape"):
        raise InputError(
            f"`dataset` must be from keras_arch.load_dataset. Received: {type(dataset).__name__}."
        )
    for split in SPLITS:
        if not getattr(dataset, split).count:
            raise InputError(
                f"Data set {dataset.name!r} must have a {split} split. Received: no images in it. "
                "The temperature is fitted on validation and measured on test."
            )
    disable_tensor_float()
    model = copy_model(model)
    name = Path(shorten(model.name))

    def predict(model: keras.Model) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        artifact = keras_artifact(name, model)
        return {split: predict_split(artifact, dataset, split, progress) for split in SPLITS}

    with without_softmax(model) as logits_model:
        layer, *later = find_scaled_layers(logits_model.outputs[0])
        logits = predict(logits_model)
    temperature = fit_temperature(*logits["validation"])
    scale_layer(layer, temperature)
    predictions = predict(model)
    for split in SPLITS:
        check_scaled(to_probabilities(logits[split][0], temperature), predictions[split][0])
    before = to_probabilities(logits["test"][0]), logits["test"][1]
    threshold = find_threshold(*predictions["validation"], accuracy)
    after = predictions["test"]
    calibration = Calibration(
        temperature,
        measure_error(compute_metrics(*before, dataset.class_names), *before),
        measure_error(compute_metrics(*after, dataset.class_names), *after),
        accuracy,
        recommended=None if threshold is None else accept(*after, threshold),
        accepted=tuple(accept(*after, level) for level in LEVELS),
    )
    warn_if_worse(calibration)
    scaled = tuple(one.name for one in (layer, *later))
    return Calibrated(model, calibration, scaled, predictions)


def warn_if_worse(calibration: Calibration) -> None:
    """Issue a `DataWarning` if the temperature of validation does not suit the test split."""
    before, after = calibration.before.nll, calibration.after.nll
    if after - before > WORSE:
        warnings.warn(
            "The calibrated model is worse on test. Received: a negative log-likelihood of "
            f"{after:.4f} instead of {before:.4f}. Validation has too few wrongly classified images "
            "for a temperature. Use the model as it is, or add validation images.",
            DataWarning,
            stacklevel=3,
        )


def disable_tensor_float() -> None:
    """Let GPUs compute float32 exactly. TensorFloat-32 has 10 bits of mantissa."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_tensor_float_32_execution(False)


def check_scaled(expected: np.ndarray, found: np.ndarray) -> None:
    """Raise InputError unless a calibrated model computes the expected probabilities.

    Args:
        expected: softmax(logits / temperature), array (images, classes).
        found: probabilities of the calibrated model.
    """
    second, first = np.sort(expected, axis=1)[:, -2:].T
    changed = (expected.argmax(axis=1) != found.argmax(axis=1)) & (first - second > TOLERANCE)
    difference = np.abs(expected - found).max()
    if difference > TOLERANCE or changed.any():
        raise InputError(
            "The last layer must scale the logits. Received: probabilities that differ by "
            f"{difference:.1e} from the calibrated ones. Use a float32 model whose logits come from "
            "a layer that is used once."
        )
