"""Classify image files."""

import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..artifacts.artifact import Artifact
from ..errors import DataWarning, InputError
from ..files import atomic_write
from ..images.read import read_image
from ..machine import available_cores
from .ranking import top_classes

BATCH = 64  # images that the model classifies together
NAME_LENGTH = (
    60  # characters of the image's name in the heat map's name, which is at most 255 bytes
)
HEAT_MAP_SIDE = 256  # approximate length of the longer side of a heat map, in pixels


class ClassProbability(NamedTuple):
    """A class and its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, or the reason why it cannot be read."""

    image: str
    """Path of the image."""
    classes: tuple[ClassProbability, ...] = ()
    """Most probable classes, highest probability first."""
    error: str = ""
    """Empty if the image was classified."""


def classify(
    artifact: Artifact, paths: Sequence[Path], labels: Sequence[str], top: int
) -> Iterator[Prediction]:
    """Yield the most probable classes of each image.

    An image that cannot be read is a `DataWarning`, and an error after the last image.

    Args:
        artifact: model from `keras_arch.open_artifact`.
        paths: image files.
        labels: one class name per class.
        top: number of classes to yield.

    Raises:
        InputError (a ValueError): an image cannot be read, or the model takes neither grayscale nor
            RGB images.
    """
    predictions = predict_files(artifact, paths, labels, top)
    if len(paths) == 1:
        (prediction,) = predictions
        if prediction.error:
            raise InputError(prediction.error)
        yield prediction
        return
    unread = 0
    for prediction in warn_of_unreadable(predictions):
        if prediction.error:
            unread += 1
        else:
            yield prediction
    if unread:
        raise InputError(f"{unread} of {len(paths)} images cannot be read.")


def warn_of_unreadable(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
    """Yield all predictions. Issue a `DataWarning` for each image that cannot be read."""
    for prediction in predictions:
        if prediction.error:
            warnings.warn(prediction.error, DataWarning, stacklevel=2)
        yield prediction


def predict_files(
    artifact: Artifact, paths: Iterable[Path], labels: Sequence[str], top: int
) -> Iterator[Prediction]:
    """Yield the `Prediction` of each image, in order. The arguments are those of `classify`.

    The model classifies a batch while threads decode the next one.

    Raises:
        InputError (a ValueError): the model takes neither grayscale nor RGB images.
    """
    channels = artifact.image_shape[2]
    if channels not in (1, 3):
        raise InputError(
            f"{artifact.path} must take images of 1 or 3 channels. Received: {channels} channels. "
            "Pass arrays to keras_arch.open_artifact(path).predict."
        )
    # Images of any size do not fit into one array.
    size = 1 if None in artifact.image_shape else BATCH
    decoded = read_ahead(paths, artifact.image_shape, size)
    while batch := list(islice(decoded, size)):
        images = [image for _, image in batch if not isinstance(image, InputError)]
        probabilities = artifact.predict(np.stack(images)) if images else np.empty((0, 0))
        rows = zip(probabilities, top_classes(probabilities, top), strict=True)
        for path, image in batch:
            if isinstance(image, InputError):
                yield Prediction(str(path), error=str(image))
                continue
            shares, best = next(rows)
            classes = (ClassProbability(labels[index], float(shares[index])) for index in best)
            yield Prediction(str(path), tuple(classes))


def read_ahead(
    paths: Iterable[Path], shape: Any, ahead: int
) -> Iterator[tuple[Path, np.ndarray | InputError]]:
    """Yield each path with its image, or with the error if it cannot be read.

    Args:
        paths: image files.
        shape: (height, width, channels) of the images, as in `read_image`.
        ahead: number of images that threads decode before they are needed.
    """
    waiting: deque[tuple[Path, Future]] = deque()
    with ThreadPoolExecutor(available_cores()) as pool:
        try:
            for path in paths:
                waiting.append((path, pool.submit(try_to_read, path, shape)))
                if len(waiting) > ahead:
                    first, image = waiting.popleft()
                    yield first, image.result()
            for path, image in waiting:
                yield path, image.result()
        finally:
            pool.shutdown(cancel_futures=True)


def try_to_read(path: Path, shape: Any) -> np.ndarray | InputError:
    """Return the image, or the error if it cannot be read."""
    try:
        return read_image(path, shape)
    except InputError as error:
        return error


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
