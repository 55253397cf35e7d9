"""What an export starts from: a model, its class names and images."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from ..errors import InputError
from ..formats import ExportSettings
from ..models import plain_model
from ..quantization.ranges import Ranges
from .checks import check_labels, check_raw_images
from .input_range import check_input_range
from .model import check_arguments


@dataclass(frozen=True)
class ImageSet:
    """Raw images, and where they come from."""

    pixels: np.ndarray
    """(count, height, width, channels), 0-255."""
    labels: np.ndarray | None = None
    """(count,) integer classes. None: unknown."""
    data: str | None = None
    """Name of the data set. None: arrays."""
    split: str | None = None
    """Split of the data set. None: arrays."""

    def first(self, count: int) -> "ImageSet":
        """Return the first `count` images."""
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, pixels=self.pixels[:count], labels=labels)


@dataclass(frozen=True)
class ExportSource:
    """A model to export, and the images that calibrate and verify its files."""

    model: keras.Model
    """One input, one output: class probabilities."""
    class_names: tuple[str, ...]
    calibration: ImageSet
    verification: ImageSet
    """Images that no training or calibration used if they have labels."""
    debug_images: np.ndarray
    """Images that the int8 errors of the layers are measured on."""
    ranges: Ranges | None = None
    """Ranges of the int8 file that the training learned. None: calibration images set them."""
    run: dict[str, Any] | None = None
    """Content of run.json. None: the model is not of a run."""


def source_of_model(
    model: keras.Model,
    class_names: Iterable[str | int],
    calibration: ImageSet,
    test: ImageSet | None,
    settings: ExportSettings,
) -> ExportSource:
    """Check a model and its images, and divide the images into calibration and verification.

    Args:
        model: a Keras model of any origin.
        class_names: names of the classes in the order of the outputs.
        calibration: training images. Without `test`, they also verify the files.
        test: held-out images. None: there are none.
        settings: settings of the export.

    Raises:
        InputError (a ValueError): as `export_and_verify`.
    """
    model, names, images = check_arguments(model, class_names, calibration.pixels, settings)
    known = to_pixels(replace(calibration, pixels=images))
    calibration = replace(calibration, pixels=images, labels=None)
    verification = calibration if test is None else check_test(test, images.shape[1:], len(names))
    verification = to_pixels(verification.first(settings.verification_images))
    if not settings.skip_range_check:
        seen = known if test is None else verification
        check_input_range(plain_model(model), seen.pixels, seen.labels)
    calibration = calibration.first(settings.calibration_images)
    return ExportSource(model, names, calibration, verification, calibration.pixels)


def check_test(test: ImageSet, shape: tuple[int, ...], classes: int) -> ImageSet:
    """Return test images with (count,) labels, or raise InputError if they do not fit."""
    images = check_raw_images(test.pixels, "test")
    if images.shape[1:] != shape:
        raise InputError(
            f"`test` must have the model's image shape {shape}. Received: {images.shape[1:]}. "
            "Resize the images."
        )
    if test.labels is None:
        return replace(test, pixels=images)
    labels = check_labels(test.labels, len(images), classes, "test")
    return replace(test, pixels=images, labels=labels)


def to_pixels(images: ImageSet) -> ImageSet:
    """Return images as uint8, which files with integer input take."""
    return replace(images, pixels=np.round(images.pixels).astype("uint8"))
