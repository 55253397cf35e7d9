"""Classify pictures."""

import warnings

import numpy as np

from ..errors import DataWarning, InputError
from ..files import atomic_write
from ..images.read import read_image

STEM = (
    60  # characters of a picture's name that an explained picture keeps: a file name has 255 bytes
)
SHOWN = 256  # pixels that the longer side of an explained picture has, about


def classify(artifact, paths, labels, top):
    """Give {"image": path, "classes": [{"label", "probability"}, ...]} for each picture, the most probable class first.

    Raises:
        InputError (a ValueError): when all others are done, if there was a picture that cannot be read; at once, if
            pictures have other channels than the artifact takes.
    """
    channels = artifact.image_shape[2]
    if channels not in (1, 3):
        raise InputError(
            f"Pictures are read with 1 or 3 channels. Received: {artifact.path} with {channels} channels. Use "
            "keras_arch.open_artifact and arrays."
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
        ]  # of equal ones the first, as argmax takes it
        classes = [
            {"label": labels[index], "probability": float(probabilities[index])} for index in best
        ]
        yield {"image": str(path), "classes": classes}
    if unread:
        raise InputError(f"expected {len(paths)} pictures, got {unread} that cannot be read")


def explain(artifact, paths, folder):
    """Write a picture of where the .keras file `artifact` looked for each of `paths` into `folder`, under its name."""
    from ..models import load_keras, strip_auxiliary_heads
    from .grad_cam import grad_cam, overlay, with_last_maps

    model = strip_auxiliary_heads(load_keras(artifact))
    with_last_maps(model)  # a model that cannot be explained is refused before there is a folder
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        try:
            image = read_image(path, model.input_shape[1:])
        except InputError:  # `classify` says so
            continue
        heat = grad_cam(model, image[None])[0]
        scale = max(1, SHOWN // max(heat.shape))
        picture = folder / f"{number:04}_{path.stem[:STEM]}.png"  # two folders may hold one name
        atomic_write(picture, overlay(image, heat, scale).save)
