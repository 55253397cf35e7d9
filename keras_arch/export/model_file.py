"""Open a .keras file of any origin to export it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from ..artifacts.artifact import check_signature
from ..data.classes import with_classes
from ..data.dataset import SPLITS, Dataset
from ..data.folders import is_unsplit
from ..data.load import load_dataset
from ..datasets import is_folder
from ..errors import InputError, choose
from ..files import resolve_existing
from ..formats import ExportSettings
from ..models import (
    are_probabilities,
    check_probabilities,
    ends_in_sigmoid,
    layer_of,
    load_keras,
    main_outputs,
    plain_model,
    run_model,
    strip_auxiliary_heads,
)
from ..text import VALUE_CELLS, shorten
from .model import CHECKED_IMAGES, resize_to_settings
from .source import ExportSource, ImageSet, source_of_model


@dataclass(frozen=True)
class ModelFileOptions:
    """What an export needs besides a .keras file."""

    class_names: tuple[str, ...]
    """Names of the classes in the order of the outputs."""
    calibration: str
    """Name or path of training images, as in `load_dataset`."""
    test: str | None = None
    """Name or path of labeled test images. None: there are none."""
    softmax: bool = False
    """Append a softmax to logits."""
    output_name: str | None = None
    """Name of one of several outputs."""
    data_dir: str | Path | None = None
    """Directory of prepared TFDS data sets."""


def open_model_file(
    path: Path, options: ModelFileOptions, settings: ExportSettings
) -> ExportSource:
    """Open a .keras file and its images for an export.

    Raises:
        InputError (a ValueError): the file is not an image classifier of one input; an output must
            be named; the class names or the images do not fit; or the outputs are not
            probabilities.
    """
    names, model = options.class_names, load_keras(path)
    plain_model(model)  # refuses several inputs
    model = select_output(path, model, options.output_name)
    plain = plain_model(model)
    check_signature(path, [plain.inputs[0].shape], [plain.outputs[0].shape])
    check_names(path, names, plain.output_shape[-1])
    model = resize_to_settings(model, settings)
    shape = tuple(model.inputs[0].shape[1:])
    if None in shape:
        raise InputError(
            f"{path} takes images of any size. Received: image shape {shape}. "
            "Pass --height and --width of the files."
        )
    if shape[2] not in (1, 3):
        raise InputError(
            f"{path} must take images of 1 or 3 channels, as data sets have. Received: {shape[2]} "
            "channels. Call keras_arch.export_and_verify in Python with arrays of images."
        )
    calibration, test = load_images(options, names, shape, settings)
    model = with_probabilities(model, calibration.pixels[:CHECKED_IMAGES], options.softmax)
    return source_of_model(model, names, calibration, test, settings)


def check_names(path: Path, names: Sequence[str], classes: int) -> None:
    """Raise InputError unless a model has two classes or more, and a name for each."""
    if classes < 2:
        raise InputError(
            f"{path} must output a probability for each of two classes or more. "
            "Received: one output unit. End the model with Dense(2) and a softmax."
        )
    if len(names) != classes:
        raise InputError(
            f"--labels must have {classes} class names, one per class of {path}. "
            f"Received: {len(names)}."
        )


def select_output(path: Path, model: keras.Model, name: str | None) -> keras.Model:
    """Return the model with one output.

    Args:
        path: .keras file of the model, for messages.
        model: its model.
        name: name of one of the outputs. None: the model has one output, apart from the auxiliary
            classifiers of GoogLeNet.
    """
    outputs = named_outputs(model)
    if name is not None:
        output = outputs[choose("an output of the model as --output-name", name, outputs)]
        return keras.Model(model.inputs[0], output, name=model.name)
    if len(main_outputs(model)) > 1:
        raise InputError(
            f"{path} must have one output, the class probabilities. Received: {len(outputs)} "
            f"outputs: {shorten(', '.join(outputs), VALUE_CELLS)}. Pass one as --output-name."
        )
    return strip_auxiliary_heads(model)


def named_outputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Return {name: output}. The name is the key in a dict of outputs, or that of the layer."""
    output = model.outputs if len(model.outputs) == 1 else model.output
    if isinstance(output, dict):
        return output
    return {layer_of(one).name: one for one in model.outputs}


def load_images(
    options: ModelFileOptions,
    names: Sequence[str],
    shape: tuple[int, ...],
    settings: ExportSettings,
) -> tuple[ImageSet, ImageSet | None]:
    """Return random calibration images and test images of a shape.

    An image folder without splits is used completely, except if it is both.
    """
    calibration, test = map(resolve_existing, (options.calibration, options.test))
    same = calibration == test

    def load(name: str) -> Dataset:
        return load_dataset(
            name,
            options.data_dir,
            (shape[0], shape[1]),
            keep=() if is_folder(name) else SPLITS,  # single files are read, but not records
            allow_duplicates=True,
            allow_absent_classes=True,
        )

    def sample(data: Dataset, name: str, split: str, count: int) -> ImageSet:
        split = "all" if is_unsplit(name) and not same else split
        images, labels = getattr(data, split).sample(count, settings.seed)
        if data.class_names != tuple(names):  # the labels of calibration images are optional
            labels = None
        return ImageSet(match_channels(images, shape, name), labels, name, split)

    assert calibration is not None  # for mypy: `options.calibration` is a name
    needed = settings.calibration_images
    if test is None:
        needed = max(needed, settings.verification_images)
        return sample(load(calibration), calibration, "train", needed), None
    labeled = with_classes(load(test), names)
    held_out = sample(labeled, test, "test", settings.verification_images)
    data = labeled if same else load(calibration)
    return sample(data, calibration, "train", needed), held_out


def match_channels(images: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return images with the channels of a model. An RGB model takes grayscale images."""
    if not len(images):
        raise InputError(f"Data set {name!r} has no images in its split. Add images.")
    if images.shape[3] not in (1, shape[2]):
        raise InputError(
            f"The model takes images of {shape[2]} channel. Received: {images.shape[3]} channels "
            f"in data set {name!r}. Convert the images to grayscale."
        )
    return np.broadcast_to(images, (*images.shape[:3], shape[2]))


def with_probabilities(model: keras.Model, images: np.ndarray, softmax: bool) -> keras.Model:
    """Return the model with probabilities as outputs.

    Args:
        model: model with one output.
        images: raw images (count, height, width, channels).
        softmax: whether the outputs are logits, to which a softmax is appended.
    """
    plain = plain_model(model)
    if not softmax:
        check_probabilities(plain, images, fix="If they are logits, pass --softmax.")
        return model
    outputs = np.asarray(run_model(plain, images))
    if ends_in_sigmoid(plain.outputs[0]) or are_probabilities(outputs):
        raise InputError(
            f"--softmax must follow logits. Received: outputs from {outputs.min():.3g} to "
            f"{outputs.max():.3g}, which are probabilities or sigmoid scores. "
            "Leave --softmax out, or train the model with a softmax."
        )
    return append_softmax(model)


def append_softmax(model: keras.Model) -> keras.Model:
    """Return a model that ends in a softmax. Both models share all layers."""
    names, name = {layer.name for layer in model.layers}, "softmax"
    while name in names:
        name += "_"
    softmax = keras.layers.Softmax(name=name)
    return keras.Model(model.inputs[0], softmax(model.outputs[0]), name=model.name)
