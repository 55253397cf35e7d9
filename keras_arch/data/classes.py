"""Match the classes of a data set to the classes of a model by name."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import InputError
from ..text import join_first, shorten
from .dataset import SPLITS, Dataset


def with_classes(dataset: Dataset, class_names: Sequence[str]) -> Dataset:
    """Return a data set with labels that are indices of `class_names`.

    Args:
        dataset: data set to convert. It may lack some of the classes.
        class_names: class names of a model, in the order of its outputs.

    Raises:
        InputError (a ValueError): a class of the data is not in `class_names`, or is in it twice.
    """
    if dataset.class_names == tuple(class_names):
        return dataset
    index = {name: number for number, name in enumerate(class_names)}
    unknown = [name for name in dataset.class_names if name not in index]
    if unknown:
        raise InputError(
            f"Data set {dataset.name!r} has classes that the model does not have. "
            f"Received: {join_first([*map(shorten, unknown)])}. "
            f"Rename them to classes of the model: {join_first([*map(shorten, class_names)])}."
        )
    repeated = [name for name in dataset.class_names if class_names.count(name) > 1]
    if repeated:
        raise InputError(
            f"Class names of the model must be unique. Received: {shorten(repeated[0])}, the name "
            f"of {class_names.count(repeated[0])} classes. Rename one of them."
        )
    new_labels = np.array([index[name] for name in dataset.class_names], "int64")
    splits = {split: getattr(dataset, split).relabel(new_labels) for split in SPLITS}
    return replace(dataset, class_names=tuple(class_names), **splits)
