"""Classify image files."""

import warnings

import numpy as np

from ..errors import DataWarning, InputError
from ..files import atomic_write
from ..images.read import read_image

NAME_LENGTH = (
    60  # characters of the image's name in the heat map's name, which is at most 255 bytes
)
HEAT_MAP_SIDE = 256  # approximate length of the longer side of a heat map, in pixels


def classify(artifact, paths, labels, top):
    """Yield the most probable classes of each image.

    An image that cannot be read is a `DataWarning`, and an error after the last image.

    Args:
        artifact: model from `keras_arch.open_artifact`.
        paths: list of `Path`.
        labels: one class name per class.
        top: number of classes to yield.

    Yields:
        {"image": path, "classes": [{"label": ..., "probability": ...}, ...]}, highest probability
        first.

    Raises:
        InputError (a ValueError): an image cannot be read, or the model takes neither grayscale nor
            RGB images.
    """
    channels = artifact.image_shape[2]
    if channels not in (1, 3):
        raise InputError(
            f"{artifact.path} must take images of 1 or 3 channels. Received: {channels} channels. "
            "Pass arrays to keras_arch.open_artifact(path).predict."
        )
    unread = 0
    for path in paths:
        try:
            image = read_image(path, artifact.image_shape)
        except InputError as error:
            if len(paths) == 1:
                raise
            unread += 1
            warnings.warn(str(error), DataWarning, stacklevel=2)
            continue
        probabilities = artifact.predict(image[None])[0]
        best = np.argsort(-probabilities, kind="stable")[
            :top
        ]  # stable: of equal probabilities the first, as in argmax
        classes = [
            {"label": labels[index], "probability": float(probabilities[index])} for index in best
        ]
        yield {"image": str(path), "classes": classes}
    if unread:
        raise InputError(f"{unread} of {len(paths)} images cannot be read.")


def explain(artifact, paths, folder):
    """Write a Grad-CAM heat map of each image.

    Args:
        artifact: path of a .keras file.
        paths: list of `Path` of images. Unreadable images are skipped.
        folder: `Path` of the output directory.
    """
    from ..models import load_keras, strip_auxiliary_heads
    from .grad_cam import grad_cam, overlay, with_last_maps

    model = strip_auxiliary_heads(load_keras(artifact))
    with_last_maps(model)  # raises before the directory is made
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        try:
            image = read_image(path, model.input_shape[1:])
        except InputError:  # `classify` reports it
            continue
        heat = grad_cam(model, image[None])[0]
        scale = max(1, HEAT_MAP_SIDE // max(heat.shape))
        file = folder / f"{number:04}_{path.stem[:NAME_LENGTH]}.png"  # names may repeat
        atomic_write(file, overlay(image, heat, scale).save)
