"""A data set: three splits of images and labels that are kept apart."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .splits import InFiles, InMemory, InStream

SPLIT_NAMES = {  # of folders, in any case
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
SPLITS = tuple(SPLIT_NAMES)


def count_images(dataset):
    """{class: {split: number of images}}, in the order of the classes."""
    labels = {
        split: np.fromiter(
            (label for _, label in getattr(dataset, split).examples.as_numpy_iterator()), "int64"
        )
        for split in dataset.sizes
    }
    return {
        name: {split: int((numbers == label).sum()) for split, numbers in labels.items()}
        for label, name in enumerate(dataset.class_names)
    }


Split = InMemory | InFiles | InStream


@dataclass(frozen=True)
class Dataset:
    """Three splits. `validation` chooses among checkpoints; `test` is for the last evaluation alone.

    Every split has a `count` and `examples`, a `tf.data.Dataset` of (image, label) that always has the same order: uint8
    (height, width, channels) of 0-255 and int64.

    `fingerprint` identifies the contents, whatever the image size: it is the same as long as every split has the same
    images and labels. It is a SHA-256, or empty if unknown. That of a TFDS set is over its name, version and numbers of
    examples in each file, not over its images.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str = ""

    @property
    def sizes(self):
        """The number of images in each split."""
        return {split: getattr(self, split).count for split in SPLITS}

    @cached_property
    def all(self):
        """The images of all three splits as one split. The three must be of one kind."""
        return type(self.train).join([self.train, self.validation, self.test])
