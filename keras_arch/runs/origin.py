"""Find the run of a model file and its training data."""

import warnings

from ..errors import DataWarning, InputError
from ..files import find_in_run, resolve_existing
from .record import data_changes, read_run


def warn_of_changes(artifacts, name, dataset, split="test"):
    """Issue a `DataWarning` for each run whose training images may be among the images to evaluate.

    This is the case if the run was trained on data of the same name with other contents, or if
    `split` is "all" and the contents are the same.

    Args:
        artifacts: opened models. Models outside a run directory are not checked.
        name: name or path that `dataset` was loaded from, as in `Recipe.dataset`.
        dataset: a `keras_arch.Dataset`.
        split: the split that is evaluated.
    """
    for folder, run in runs_of(artifacts):
        if run["recipe"].dataset == name and (changed := data_changes(folder, run, dataset)):
            warnings.warn(
                f"{folder} was trained on other data. Received: {', '.join(changed)}. "
                "The evaluated images may include its training images.",
                DataWarning,
                stacklevel=2,
            )
        elif (
            split == "all"
            and dataset.fingerprint
            and dataset.fingerprint == run.get("data_fingerprint")
        ):
            warnings.warn(
                f"{folder} was trained on the same data. Pass --split test to evaluate held-out "
                "images.",
                DataWarning,
                stacklevel=2,
            )


def runs_of(artifacts):
    """Return (run directory, `read_run` of it) for each run that holds one of the opened models."""
    found = {find_in_run(artifact.path, "run.json") for artifact in artifacts}
    return [(path.parent, read_run(path.parent)) for path in sorted(filter(None, found))]


def is_training_data(artifacts, name):
    """Return whether a run of the opened models was trained on the data set `name`."""
    return any(run["recipe"].dataset == name for _, run in runs_of(artifacts))


def dataset_of(artifact, name=None, data_dir=None):
    """Return the data set to evaluate a model on.

    Args:
        artifact: path of the model.
        name: data set, as in `Recipe.dataset`. Default: the training data of the model's run.
        data_dir: directory of prepared TFDS data sets. Default: that of the model's run.

    Returns:
        Name or path of the data set, `data_dir`, and other keyword arguments for `load_dataset`.

    Raises:
        InputError (a ValueError): `name` is None and the model is outside a run directory.
    """
    path = find_in_run(artifact, "run.json")
    if path is None and name is None:
        raise InputError(
            f"{artifact} is not in a run directory, so its data set is unknown. Pass --dataset."
        )
    if path is None:
        return resolve_existing(name), data_dir, {}
    run = read_run(path.parent)
    return (
        resolve_existing(name) or run["recipe"].dataset,
        data_dir or run["data_dir"],
        run["recipe"].data_options,
    )
