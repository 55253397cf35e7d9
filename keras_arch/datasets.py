"""The data sets of this package. This table imports neither TensorFlow nor NumPy."""

from pathlib import Path

DATASETS = {"digits": "Digits"}
"""{name: TFDS builder class in keras_arch/data/NAME.py}.

These names have precedence over directories and over TFDS data sets of the same name.
"""


def is_folder(name: str | Path) -> bool:
    """Return whether the name of a data set is a directory."""
    return name not in DATASETS and Path(name).is_dir()


def is_manifest(name: str | Path) -> bool:
    """Return whether the name of a data set is a CSV manifest. The file need not exist."""
    return Path(name).suffix.lower() == ".csv" and not is_folder(name)
