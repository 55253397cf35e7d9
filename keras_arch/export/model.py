"""Export a trained model to SavedModel, TFLite and ONNX files."""

from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ..class_names import LABELS, check_class_names, pack_labels, write_labels
from ..errors import InputError, explain_surroundings, first_line, is_disk_full, require
from ..files import check_folder, hash_of
from ..formats import BUILTINS_INT8, FORMATS, ExportSettings, Format
from ..models import (
    check_backend,
    check_probabilities,
    plain_model,
    resize_model,
    run_model,
    strip_auxiliary_heads,
    with_traceable_variables,
)
from ..quantization.copy import check_quantizable, quantized_copy
from ..quantization.ranges import Ranges
from .checks import check_precision, check_raw_images
from .int4 import quantize_int4
from .metadata import add_metadata, image_classifier_metadata
from .onnx import write_onnx
from .quantization import LayerError, convert_mixed, rank_layers
from .saved_model import write_saved_model
from .second_process import NAMES, second_process
from .tflite import build_int8_model, build_tflite_model, convert, open_converter, trace
from .verification.spec import FileSpec, TensorSpec

CHECKED_IMAGES = 16  # calibration images whose outputs must be probabilities


@explain_surroundings()
def export_model(
    model: keras.Model,
    folder: str | Path,
    class_names: Iterable[str | int],
    calibration: np.ndarray,
    settings: ExportSettings = ExportSettings(),  # noqa: B008, it is frozen
    ranges: Ranges | None = None,
) -> tuple[dict[str, FileSpec], dict[str, str]]:
    """Export a model to SavedModel, TFLite and ONNX.

    Args:
        model: `keras.Model` from raw images (batch, height, width, channels) of 0-255 to class
            probabilities.
        folder: existing directory. It receives labels.txt and the files of `settings.formats`.
        class_names: names of the classes in the order of the outputs. Integers become text.
        calibration: training images (count, height, width, channels) of 0-255 without
            augmentation. They set the ranges of the activations in int8 files.
        settings: an `ExportSettings`. With `height` and `width`, the model is resized first.
        ranges: ranges of the int8 file that a training with `quantize_aware` learned, from
            `read_int8_ranges`. None: calibration images set them.

    Returns:
        {format name: `FileSpec`} of the files that were written, and {format name: error message}
        of the files that the converter could not write.

    Raises:
        InputError (a ValueError): before any file is written, if
            - Keras does not run on TensorFlow, or a format requires a missing package;
            - the model has several outputs, no fixed image size, layers that do not compute in
              float32, or outputs that are not probabilities;
            - the number of class names or the shape of the images does not fit the model;
            - `ranges` are those of another model;
            - the images are empty, not finite or not in 0-255;
            - the directory does not exist.

            Also if `settings.keep_float` names an unknown layer, or if the disk is full.

    Example:
        specs, refused = export_model(model, "export", ["cat", "dog"], train_images[:100])
    """
    check_backend("export_model")
    named, names, calibration = check_arguments(model, class_names, calibration, settings)
    formats, directory, model = settings.selected(), check_folder(folder), plain_model(named)
    simulation = simulate_int8(model, settings, ranges)
    tflite_model = build_tflite_model(model, settings.keep_channels)
    image_shape = tflite_model.input_shape[1:]
    calibration = np.broadcast_to(calibration, (len(calibration), *image_shape))
    metadata = build_metadata(named, image_shape, settings.license)
    labels = directory / LABELS
    write_labels(labels, names)
    with (
        trace(tflite_model) as traced,
        second_process(traced, model, formats, calibration) as content_of,
    ):
        converter = open_converter(traced)

        def write_tflite(form: Format, path: Path) -> None:
            if form.operators == BUILTINS_INT8 and simulation is not None:
                content = convert_simulation(simulation, form, settings.keep_channels)
            else:
                content = content_of(form) or convert_format(
                    traced, converter, model, form, calibration
                )
            path.write_bytes(add_metadata(content, metadata))
            pack_labels(path, names)

        writers: dict[str, Callable[[Format, Path], object]] = {
            "saved_model": lambda form, path: write_saved_model(model, path, labels, names),
            "onnx": lambda form, path: write_onnx(model, path, names),
            "tflite": write_tflite,
        }
        # The files of the second process come last, so that this one does not wait for them.
        in_order = dict(sorted(formats.items(), key=lambda row: row[0] in NAMES))
        refused = write_files(in_order, writers, directory)
    return {
        name: build_spec(form, model, tflite_model, metadata)
        for name, form in formats.items()
        if name not in refused
    }, refused


def check_arguments(
    model: keras.Model,
    class_names: Iterable[str | int],
    calibration: np.ndarray,
    settings: ExportSettings,
) -> tuple[keras.Model, tuple[str, ...], np.ndarray]:
    """Check the arguments of `export_model`, except the directory, before it writes a file.

    Returns:
        The model with one output and the image size of the settings, the class names as text, and
        the calibration images as an array.
    """
    if not isinstance(settings, ExportSettings):
        raise InputError(
            f"`settings` must be `keras_arch.ExportSettings`. Received: {type(settings).__name__}."
        )
    if "onnx" in settings.formats:
        require("onnx", ["onnx", "onnxruntime", "tf2onnx"])
    if "int4" in settings.formats:
        require("int4", ["ai_edge_quantizer"])
    names = check_class_names(class_names)
    calibration = check_raw_images(calibration, "calibration")
    model = resize_to_settings(strip_auxiliary_heads(model), settings)
    model = with_traceable_variables(model)
    plain = plain_model(model)
    check_exportable(plain, len(names), calibration)
    check_channels(plain, settings)
    check_precision(plain)
    check_probabilities(plain, calibration[:CHECKED_IMAGES])
    return model, names, calibration


def resize_to_settings(model: keras.Model, settings: ExportSettings) -> keras.Model:
    """Return the model for images of the height and width in the settings, if they have any."""
    height, width = settings.height, settings.width
    if height is None or width is None or tuple(model.inputs[0].shape[1:3]) == (height, width):
        return model
    return resize_model(model, height, width)


def write_files(
    formats: dict[str, Format], writers: dict[str, Callable[[Format, Path], object]], folder: Path
) -> dict[str, str]:
    """Write a file for each format, and return the error messages of those that failed.

    Args:
        formats: {format name: `Format`}.
        writers: {`Format.kind`: function that writes a file at a path}.
        folder: export directory.
    """
    refused = {}
    for name, form in formats.items():
        try:
            writers[form.kind](form, folder / form.file)
        except InputError:
            raise
        except Exception as error:  # the converters have no public exceptions
            if is_disk_full(error):
                raise InputError(
                    f"{form.file} cannot be written. Received: {first_line(error)}. "
                    "Free disk space, then export again."
                ) from error
            refused[name] = first_line(error)
    return refused


def simulate_int8(
    model: keras.Model, settings: ExportSettings, ranges: Ranges | None
) -> keras.Model | None:
    """Return the copy of a model that computes with learned ranges, or None if there are none.

    Args:
        model: what `plain_model` returned.
        settings: settings of the export.
        ranges: as in `export_model`.

    Raises:
        InputError (a ValueError): the ranges are those of another model, or `keep_float` is set.
    """
    if ranges is None or not settings.learned_int8:
        return None
    if settings.keep_float:
        raise InputError(
            "`keep_float` needs calibrated ranges. Received: a model with learned ranges. Pass "
            "int8_ranges='calibrated' (--int8-ranges calibrated)."
        )
    check_quantizable(model)
    return quantized_copy(model, ranges)


def convert_simulation(simulation: keras.Model, form: Format, keep_channels: bool) -> bytes:
    """Return the content of an int8 file with learned ranges. See `simulate_int8`."""
    with trace(build_int8_model(simulation, keep_channels)) as traced:
        return convert(open_converter(traced), form, None)


def convert_format(
    traced: str,
    converter: tf.lite.TFLiteConverter,
    model: keras.Model,
    form: Format,
    calibration: np.ndarray,
) -> bytes:
    """Return the content of a .tflite file.

    Args:
        traced: SavedModel that `trace` wrote.
        converter: its converter.
        model: the model in it.
        form: a row of `FORMATS`.
        calibration: images of the shape that the file takes.
    """
    if form.keep_float:
        return convert_mixed(traced, model, form, FORMATS["float32"], calibration)
    if form.weights == "int4":
        return quantize_int4(convert(converter, FORMATS["float32"], None))
    return convert(converter, form, calibration)


def check_exportable(model: keras.Model, classes: int, calibration: np.ndarray) -> None:
    """Raise InputError unless the model fits the class names and the calibration images."""
    shape = model.input_shape[1:]
    if None in shape:
        raise InputError(
            f"The model must have a fixed image size. Received: image shape {shape}. "
            "Set `height` and `width` (--height, --width), or build it with an input_shape such as (224, 224, 3)."
        )
    if model.output_shape[-1] != classes:
        raise InputError(
            "`class_names` must have one name for each class of the model. "
            f"Received: {classes} names for {model.output_shape[-1]} classes. "
            "Use the classes that the model was trained on."
        )
    if calibration.shape[1:] != shape:
        raise InputError(
            f"`calibration` must have the model's image shape {shape}. "
            f"Received: {calibration.shape[1:]}. Resize the images."
        )


def check_channels(model: keras.Model, settings: ExportSettings) -> None:
    """Raise InputError for a SavedModel of images that JPEG and PNG files cannot hold."""
    channels = model.input_shape[-1]
    if "saved_model" in settings.formats and channels not in (1, 3):
        raise InputError(
            "A SavedModel also takes JPEG and PNG files, so its images must have 1 or 3 channels. "
            f"Received: a model of {channels} channels. Leave saved_model out of `formats` "
            "(--formats)."
        )


def build_metadata(model: keras.Model, image_shape: tuple[int, int, int], license: str) -> bytes:
    """Return the TFLite metadata of a model."""
    (height, width, _), classes = image_shape, model.output_shape[-1]
    return image_classifier_metadata(
        name=model.name,
        description=f"Classifies images of {width}x{height} pixels into {classes} classes.",
        version=weights_version(model),
        license=license,
        image_shape=image_shape,
    )


def weights_version(model: keras.Model) -> str:
    """Return the first 12 digits of the SHA-256 of the weights."""
    return hash_of(model.get_weights())[:12]


def build_spec(
    form: Format, model: keras.Model, tflite_model: keras.Model, metadata: bytes | None
) -> FileSpec:
    """Return the specification of a file.

    Args:
        form: a row of `FORMATS`.
        model: the exported model.
        tflite_model: what `build_tflite_model` returned for it.
        metadata: TFLite metadata.
    """
    classes = model.output_shape[-1]
    if form.kind == "tflite":
        # With scale 1 and zero point 0, a uint8 input takes the pixels themselves.
        quantization = (1.0, 0) if form.input_type == "uint8" else (None, None)
        image = TensorSpec("image", form.input_type, tflite_model.input_shape, *quantization)
        output = TensorSpec("probabilities", form.output_type, (1, classes))
        return FileSpec(
            form.file, form.kind, form.exact, (image,), (output,), form.integers, metadata
        )
    image = TensorSpec("image", "float32", (None, *model.input_shape[1:]))
    outputs = [TensorSpec("probabilities", "float32", (None, classes))]
    if form.kind == "saved_model":
        outputs.insert(0, TensorSpec("classes", "string", (None,)))
    return FileSpec(form.file, form.kind, form.exact, (image,), tuple(outputs))


def quantization_errors(
    model: keras.Model,
    calibration: np.ndarray,
    images: np.ndarray,
    keep_channels: bool = False,
) -> list[LayerError]:
    """Return the int8 error of each layer. See `rank_layers`.

    Args:
        model: `keras.Model` from raw images of 0-255 to class probabilities.
        calibration: images (count, height, width, channels) of 0-255 that set the ranges.
        images: images (count, height, width, channels) of 0-255 that the errors are measured on.
        keep_channels: as in `ExportSettings`.

    Raises:
        InputError (a ValueError): Keras does not run on TensorFlow; the model has several outputs
            or layers that do not compute in float32; images are empty, not finite or not in 0-255.
    """
    check_backend("quantization_errors")
    model = plain_model(strip_auxiliary_heads(model))
    check_precision(model)
    calibration = check_raw_images(calibration, "calibration")
    images = check_raw_images(images, "images")
    run_model(model, calibration[:1])
    tflite_model = build_tflite_model(model, keep_channels)
    image_shape = tflite_model.input_shape[1:]
    calibration, images = (
        np.broadcast_to(one, (len(one), *image_shape)) for one in (calibration, images)
    )
    with trace(tflite_model) as traced:
        return rank_layers(traced, model, FORMATS["int8"], FORMATS["float32"], calibration, images)
