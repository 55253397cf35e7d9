"""Images that are in two splits of a data set."""

import hashlib
import warnings

from ..errors import DataWarning
from .splits import InMemory

PAIRS = (("test", "train"), ("validation", "train"), ("test", "validation"))


def warn_of_duplicates(dataset):
    """Issue one `DataWarning` that counts the images of validation and test whose pixels are also in another split.

    Nothing is read for this: if a split is not in memory, nothing is compared.

    Args:
        dataset: a `keras_arch.data.dataset.Dataset`.
    """
    splits = {name: getattr(dataset, name) for name in dataset.sizes}
    if not all(isinstance(split, InMemory) for split in splits.values()):
        return
    digests = {
        name: [hashlib.sha256(image.tobytes()).digest() for image in split.images]
        for name, split in splits.items()
    }
    known = {name: set(found) for name, found in digests.items()}
    counts = {
        (split, other): sum(digest in known[other] for digest in digests[split])
        for split, other in PAIRS
    }
    found = [
        f"{count:,} of {splits[split].count:,} {split} images are also in the {other} split"
        for (split, other), count in counts.items()
        if count
    ]
    if found:
        warnings.warn(
            f"{dataset.name}: {', '.join(found)}. Accuracy on them is not that on new images",
            DataWarning,
            stacklevel=2,
        )
