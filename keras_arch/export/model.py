"""A trained model as a SavedModel, TFLite and ONNX files, each with a promise that proof.py holds it to."""

from dataclasses import replace

import numpy as np

from ..class_names import LABELS, check_class_names, write_labels
from ..errors import InputError, choose, explain_surroundings, first_line, is_disk_full
from ..files import check_folder, hash_of
from ..formats import FORMATS, ExportSettings
from ..models import check_backend, check_probabilities, plain_model, strip_auxiliary_heads
from .checks import check_precision, check_raw_images
from .metadata import image_classifier_metadata, pack_labels, with_metadata
from .onnx import check_installed, write_onnx
from .quantization import convert_keeping, rank_layers
from .saved_model import write_saved_model
from .tflite import build_tflite_model, convert, trace
from .verification.spec import FileSpec

CHECKED_IMAGES = 16  # calibration images whose outputs must be probabilities


@explain_surroundings()
def export_model(model, folder, class_names, calibration, settings=ExportSettings()):  # noqa: B008, it is frozen
    """Write `model` into `folder` for servers and phones.

    Args:
        model: a `keras.Model` from raw images (batch, height, width, channels) of 0-255 to class probabilities.
        folder: path of an existing folder. It receives labels.txt and the files that `settings.formats` names.
        class_names: one for each output, in their order, as text; whole numbers become text.
        calibration: un-augmented training images (count, height, width, channels) of 0-255, for the ranges of int8.
        settings: a `keras_arch.formats.ExportSettings`.

    Returns:
        {format name: `FileSpec`} of what was written, for `prove`, and {format name: reason} of what the converter refused.

    Raises:
        InputError (a ValueError): Keras does not run on TensorFlow; the model has no fixed image
            size, which a TFLite file needs, or another number of classes or another image shape than
            class_names and calibration; the folder does not exist; an unknown layer in
            settings.keep_float; a package is missing that a format takes; the model has several
            outputs, or computes in mixed precision, or its outputs are not probabilities; the calibration images are none, not finite
            or not in 0-255.
    """
    check_backend("export_model")
    if not isinstance(settings, ExportSettings):
        raise InputError(
            f"`settings` must be `keras_arch.ExportSettings`. Received: {type(settings).__name__}."
        )
    forms = {choose("a format", name, list(FORMATS)): FORMATS[name] for name in settings.formats}
    if "onnx" in forms:
        check_installed()
    if "int8" in forms:
        ends = ("float32", "float32") if settings.keep_float else ("uint8", settings.int8_output)
        forms["int8"] = replace(forms["int8"], input_type=ends[0], output_type=ends[1])
    folder, class_names = check_folder(folder), check_class_names(class_names)
    calibration = check_raw_images(calibration, "calibration")
    named = strip_auxiliary_heads(model)
    model = plain_model(named)
    check_model(model, class_names, calibration)
    check_precision(model)
    check_probabilities(model, calibration[:CHECKED_IMAGES])
    phone = build_tflite_model(model, settings.keep_channels)
    calibration = np.broadcast_to(calibration, (len(calibration), *phone.input_shape[1:]))
    metadata = build_metadata(named, phone.input_shape[1:], settings.license)
    labels = folder / LABELS
    write_labels(labels, class_names)
    promises, refused = {}, {}
    with trace(phone) as source:

        def write(name, form, path):
            if form.kind == "saved_model":
                return write_saved_model(model, path, labels, class_names)
            if form.kind == "onnx":
                return write_onnx(model, path)
            if name == "int8" and settings.keep_float:
                content = convert_keeping(
                    source, model, form, FORMATS["float32"], calibration, settings.keep_float
                )
            else:
                content = convert(source, name, form, calibration)
            path.write_bytes(with_metadata(content, metadata))
            pack_labels(path, labels)

        for name, form in forms.items():
            try:
                write(name, form, folder / form.file)
                promises[name] = file_spec(form, model, phone, metadata)
            except InputError:
                raise
            except Exception as error:  # the converters have no public exception of their own
                if is_disk_full(error):
                    raise InputError(
                        f"{form.file} could not be written: {first_line(error)}"
                    ) from error
                refused[name] = first_line(error)
    return promises, refused


def check_model(model, class_names, calibration):
    """Raise InputError unless the model fits the data and a file of fixed size."""
    shape = model.input_shape[1:]
    if None in shape:
        raise InputError(
            f"expected a model with a fixed image size, got {shape}; build it with input_shape=(224, 224, 3)"
        )
    if model.output_shape[-1] != len(class_names):
        raise InputError(
            f"expected a model of {len(class_names)} classes, as the data has, got {model.output_shape[-1]}"
        )
    if calibration.shape[1:] != shape:
        raise InputError(
            f"expected a model of images {calibration.shape[1:]}, as the data has, got {shape}"
        )


def build_metadata(model, image_shape, license):
    """The metadata of a .tflite file of `model`."""
    height, width, _ = image_shape
    return image_classifier_metadata(
        name=model.name,
        description=f"Classifies images of {width}x{height} pixels into {model.output_shape[-1]} classes.",
        version=version_of(model),
        license=license,
        image_shape=image_shape,
    )


def version_of(model):
    """The version of a trained model: the first digits of the SHA-256 of its weights."""
    return hash_of(model.get_weights())[:12]


def file_spec(form, model, phone, metadata):
    """What the receiver of a file may rely on."""
    classes = model.output_shape[-1]
    if form.kind == "tflite":
        image = {"name": "image", "type": form.input_type, "shape": list(phone.input_shape)}
        output = {"name": "probabilities", "type": form.output_type, "shape": [1, classes]}
        if form.input_type == "uint8":
            image |= {"scale": 1.0, "zero_point": 0}  # the number is the pixel
        integers = form.input_type == "uint8"
        return FileSpec(form.file, form.kind, form.exact, [image], [output], integers, metadata)
    image = {"name": "image", "type": "float32", "shape": list(model.input_shape)}
    outputs = [{"name": "probabilities", "type": "float32", "shape": [None, classes]}]
    if form.kind == "saved_model":
        outputs = [{"name": "classes", "type": "string", "shape": [None]}, *outputs]
    return FileSpec(form.file, form.kind, form.exact, [image], outputs)


def quantization_errors(model, calibration, images, keep_channels=False):
    """What int8 costs, layer by layer: see `rank_layers`.

    Args:
        model: a `keras.Model` from raw images to class probabilities.
        calibration: images (count, height, width, channels) of 0-255 that the ranges are measured on.
        images: such images that the errors are measured on.
        keep_channels: as in `ExportSettings`.

    Raises:
        InputError (a ValueError): Keras does not run on TensorFlow; the model has several outputs,
            or computes in mixed precision; images are none, not finite or not in 0-255.
    """
    check_backend("quantization_errors")
    model = plain_model(strip_auxiliary_heads(model))
    check_precision(model)
    calibration, images = (
        check_raw_images(calibration, "calibration"),
        check_raw_images(images, "images"),
    )
    phone = build_tflite_model(model, keep_channels)
    calibration, images = (
        np.broadcast_to(one, (len(one), *phone.input_shape[1:])) for one in (calibration, images)
    )
    with trace(phone) as source:
        return rank_layers(source, model, FORMATS["int8"], FORMATS["float32"], calibration, images)
