"""Export a classifier, verify its files, and write export.json and the model card."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..errors import InputError, explain_surroundings
from ..files import atomic_folder, check_writable, is_path, refuse_foreign, write_json
from ..formats import ExportSettings
from ..models import check_backend, plain_model
from ..quantization.ranges import Ranges
from .model import export_model, quantization_errors, simulate_int8, weights_version
from .model_card import write_model_card
from .quantization import LayerError, layers_to_keep
from .record import ExportInputs, describe_export, describe_refusal, raise_problems
from .source import ExportSource, ImageSet, source_of_model
from .verification.process import start_early
from .verification.verify import Reference, verify_files

BATCH = 100
MARKER = "export.json"  # identifies an export directory


@explain_surroundings()
def export_and_verify(
    model: keras.Model,
    folder: str | Path,
    class_names: Iterable[str | int],
    calibration: np.ndarray,
    test: tuple[np.ndarray, np.ndarray | None] | None = None,
    settings: ExportSettings = ExportSettings(),  # noqa: B008, it is frozen
    ranges: Ranges | None = None,
) -> dict[str, Any]:
    """Export any Keras image classifier and verify every file.

    The directory receives the files of `settings.formats`, labels.txt, MODEL_CARD.md and
    export.json. It is replaced only if all files pass.

    Args:
        model: `keras.Model` from raw images (batch, height, width, channels) of 0-255 to class
            probabilities. It has one input and one output, and may contain other models and
            augmentation layers.
        folder: directory to write. An earlier export in it is replaced.
        class_names: names of the classes in the order of the outputs. Integers become text.
        calibration: training images (count, height, width, channels) of 0-255 without
            augmentation. They set the ranges of the activations in integer files.
        test: held-out images of the same shape and their integer labels (count,), or None instead
            of the labels. Without labels, the files are compared with the Keras model alone.
            Default: the calibration images without labels.
        settings: an `ExportSettings`. It limits the number of images that are used. With `height`
            and `width`, the model is resized first.
        ranges: ranges of the int8 file that a training with `quantize_aware` learned, from
            `read_int8_ranges`. None: calibration images set them.

    Returns:
        The content of export.json: model, images, and a row for each file with its `FileSpec` and
        `FileVerification`.

    Raises:
        InputError (a ValueError): before any file is written, if
            - `export_model` refuses the model, the class names or the images;
            - the answers for raw images are constant or saturated, and those for scaled images
              are not: the model takes another range than 0-255;
            - the labels are not integers from 0, one for each image;
            - the directory cannot be written, or has content that is not an export.
        VerificationError: a file fails. Its `details` are the problems. `folder` is not changed.

    Example:
        image = keras.Input((224, 224, 3))
        backbone = keras.applications.MobileNetV2(pooling="avg", include_top=False)
        features = backbone(keras.layers.Rescaling(1 / 127.5, offset=-1)(image))
        model = keras.Model(image, keras.layers.Dense(2, "softmax")(features))
        ...  # train the model on raw images
        report = keras_arch.export_and_verify(
            model, "export", ["cat", "dog"], train_images, (test_images, test_labels)
        )
    """
    check_backend("export_and_verify")
    if not is_path(folder):
        raise InputError(
            f"`folder` must be the path of a directory. Received: {type(folder).__name__}."
        )
    images = None if test is None else to_test_images(test)
    source = source_of_model(
        model, class_names, ImageSet(calibration, split="calibration"), images, settings
    )
    source = replace(source, ranges=ranges)
    folder = Path(folder)
    check_writable(folder)
    refuse_foreign(folder, MARKER)
    with atomic_folder(folder, MARKER) as partial:
        report = write_export(source, partial, settings)
        raise_problems(folder, report)
    return report


def to_test_images(test: tuple[np.ndarray, np.ndarray | None]) -> ImageSet:
    """Return the argument `test` as an `ImageSet`, or raise InputError if it is not a pair."""
    if not isinstance(test, (tuple, list)) or len(test) != 2:
        raise InputError(
            f"`test` must be (images, labels) or None. Received: {type(test).__name__}. "
            "Pass (images, None) for images without labels."
        )
    return ImageSet(*test, split="test")


def write_export(
    source: ExportSource,
    folder: Path,
    settings: ExportSettings,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> dict[str, Any]:
    """Write and verify the files of an export, export.json and MODEL_CARD.md.

    Args:
        source: the model and its images.
        folder: existing directory.
        settings: settings of the export.
        progress: see `verify`.

    Returns:
        The content of export.json.
    """
    # By default, GPUs compute float32 in TensorFloat-32, which has 10 bits of mantissa.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    model, names, images = source.model, source.class_names, source.verification
    with start_early({form.kind for form in settings.selected().values()}) as started:
        specs, refused = export_model(
            model, folder, names, source.calibration.pixels, settings, source.ranges
        )
        plain = plain_model(model)
        simulation = simulate_int8(plain, settings, source.ranges)
        probabilities = plain.predict(images.pixels, batch_size=BATCH, verbose=0)
        simulated = simulation and simulation.predict(images.pixels, batch_size=BATCH, verbose=0)
        reference = Reference(
            images.pixels, images.labels, probabilities, names, settings.max_drop, simulated
        )
        results = verify_files(folder, specs, reference, started, progress)
    results |= {name: describe_refusal(name, reason) for name, reason in refused.items()}
    right = None if images.labels is None else probabilities.argmax(axis=1) == images.labels
    inputs = ExportInputs(
        model=model.name,
        version=weights_version(model),
        dataset=source.run["recipe"].dataset if source.run else None,
        image_size=images.pixels.shape[1:3],
        calibration=source.calibration,
        verification=images,
        top1=None if right is None else float(np.mean(right)),
        learned=simulation is not None,
    )
    report = describe_export(inputs, settings, specs, results)
    write_json(folder / MARKER, report)
    write_model_card(folder, report, source.run, names)
    return report


def debug_quantization(
    source: ExportSource, settings: ExportSettings
) -> tuple[list[LayerError], list[str]]:
    """Return the int8 errors of the layers, highest first, and the layers to keep in float32."""
    if source.ranges is not None and settings.learned_int8:
        raise InputError(
            "--debug-quantization measures calibrated ranges. Received: a model with learned "
            "ranges. Pass --int8-ranges calibrated."
        )
    ranking = quantization_errors(
        source.model, source.calibration.pixels, source.debug_images, settings.keep_channels
    )
    return ranking, layers_to_keep(ranking)
