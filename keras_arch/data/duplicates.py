"""Find images that are in two splits of a data set."""

import hashlib
import warnings

from ..errors import DataWarning
from .dataset import Dataset
from .splits import InMemory

PAIRS = (("test", "train"), ("validation", "train"), ("test", "validation"))


def warn_of_duplicates(dataset: Dataset) -> None:
    """Issue one `DataWarning` that counts images of equal pixels in two splits.

    Splits that are not all in memory are not compared.
    """
    splits = {name: getattr(dataset, name) for name in dataset.sizes}
    if not all(isinstance(split, InMemory) for split in splits.values()):
        return
    digests = {
        name: [hashlib.sha256(image.tobytes()).digest() for image in split.images]
        for name, split in splits.items()
    }
    unique = {name: set(values) for name, values in digests.items()}
    counts = {
        (split, other): sum(digest in unique[other] for digest in digests[split])
        for split, other in PAIRS
    }
    duplicates = [
        f"{count:,} of {splits[split].count:,} {split} images are also in the {other} split"
        for (split, other), count in counts.items()
        if count
    ]
    if duplicates:
        warnings.warn(
            f"{dataset.name}: {', '.join(duplicates)}. Accuracy on them does not show the accuracy "
            "on new images.",
            DataWarning,
            stacklevel=2,
        )
