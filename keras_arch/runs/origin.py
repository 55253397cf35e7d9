"""The run that an artifact comes from, and the data that it was trained on."""

import warnings

from ..errors import DataWarning, InputError
from ..files import find_in_run, resolve_existing
from .record import data_changes, read_run


def warn_of_changes(artifacts, name, dataset, split="test"):
    """Issue a `DataWarning` for each run of `artifacts` whose training images may be among those to evaluate.

    The run was trained on data of this name with other contents, or `split` is "all" and the contents are the same.

    Args:
        artifacts: opened artifacts; one outside a run folder is not compared.
        name: what `dataset` was loaded from, as a recipe names it.
        dataset: a `keras_arch.data.dataset.Dataset`.
        split: which split of it is evaluated.
    """
    for folder, run in runs_of(artifacts):
        if run["recipe"].dataset == name and (changed := data_changes(folder, run, dataset)):
            warnings.warn(
                f"{folder} was trained on other data: here {', '.join(changed)}. The images to evaluate may be among those "
                "it was trained on",
                DataWarning,
                stacklevel=2,
            )
        elif (
            split == "all"
            and dataset.fingerprint
            and dataset.fingerprint == run.get("data_fingerprint")
        ):
            warnings.warn(
                f"{folder} was trained on the same data. Evaluate --split test for images that it was not trained on",
                DataWarning,
                stacklevel=2,
            )


def runs_of(artifacts):
    """(folder, what `read_run` gives) of each run that opened artifacts lie in."""
    found = {find_in_run(artifact.path, "run.json") for artifact in artifacts}
    return [(path.parent, read_run(path.parent)) for path in sorted(filter(None, found))]


def is_training_data(artifacts, name):
    """Whether a run of opened artifacts was trained on data of this name, as a recipe names it."""
    return any(run["recipe"].dataset == name for _, run in runs_of(artifacts))


def dataset_of(artifact, name=None, data_dir=None):
    """What an artifact's run was trained on, or `name` instead: its name, its data folder, and options of
    `load_dataset`.

    Raises:
        InputError (a ValueError): no name is given and the artifact lies in no run folder.
    """
    path = find_in_run(artifact, "run.json")
    if path is None and name is None:
        raise InputError(
            f"expected {artifact} in a run folder, whose run.json names its data; --dataset NAME would work"
        )
    if path is None:
        return resolve_existing(name), data_dir, {}
    run = read_run(path.parent)
    return (
        resolve_existing(name) or run["recipe"].dataset,
        data_dir or run["data_dir"],
        run["recipe"].data_options,
    )
