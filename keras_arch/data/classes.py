"""The classes of data and those of a model, matched by name."""

from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..text import shorten
from .dataset import SPLITS
from .folders import first_few


def with_classes(dataset, class_names):
    """Return the same images with labels that are numbers of other class names.

    Args:
        dataset: a `keras_arch.data.dataset.Dataset`.
        class_names: those of a model, in the order of its outputs. The data may lack some of them.

    Raises:
        InputError (a ValueError): the data have a class that is not among `class_names`, or is there twice.
    """
    if dataset.class_names == tuple(class_names):
        return dataset
    places = {name: number for number, name in enumerate(class_names)}
    unknown = [name for name in dataset.class_names if name not in places]
    if unknown:
        raise InputError(
            f"Data set {dataset.name!r} has classes that the model does not have. "
            f"Received: {first_few([*map(shorten, unknown)])}. "
            f"Rename them to classes of the model: {first_few([*map(shorten, class_names)])}"
        )
    repeated = [name for name in dataset.class_names if class_names.count(name) > 1]
    if repeated:
        raise InputError(
            f"The classes of the model must have different names. Received: {shorten(repeated[0])}, which is the name of "
            f"{class_names.count(repeated[0])} classes. Edit its labels.txt."
        )
    numbers = np.array([places[name] for name in dataset.class_names], "int64")
    splits = {split: getattr(dataset, split).relabel(numbers) for split in SPLITS}
    return replace(dataset, class_names=tuple(class_names), **splits)
