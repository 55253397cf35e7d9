"""A data set: training, validation and test splits of labeled images."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .splits import InFiles, InMemory, InStream

SPLIT_NAMES = {  # {split: names of directories in any case, and of TFDS splits}
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
SPLITS = tuple(SPLIT_NAMES)
Split = InMemory | InFiles | InStream


@dataclass(frozen=True)
class Dataset:
    """Training, validation and test splits of labeled images.

    Validation selects the best checkpoint. Test is for the final evaluation. A split has the fields
    of its class and these members:

    - `count`: number of images.
    - `examples`: `tf.data.Dataset` of (image, label) in a fixed order. An image is uint8
      (height, width, channels) of 0-255, a label is int64.

    Args:
        name: name of the data set.
        train: training split.
        validation: validation split.
        test: test split.
        class_names: class names, in the order of the labels.
        image_shape: (height, width, channels). 1 channel is grayscale, 3 channels are RGB.
        fingerprint: SHA-256 of the images and labels of each split, independent of the image size.
            For TFDS data, SHA-256 of name, version and number of examples per file. Default: "",
            unknown.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str = ""

    @property
    def sizes(self) -> dict[str, int]:
        """The number of images in each split."""
        return {split: getattr(self, split).count for split in SPLITS}

    @cached_property
    def all(self) -> Split:
        """The images of all three splits as one split. All three must have the same type."""
        splits: list[Any] = [self.train, self.validation, self.test]
        return type(self.train).join(splits)


def count_images(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Return {class name: {split: number of images}}."""
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
