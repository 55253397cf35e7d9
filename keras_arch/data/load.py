"""Load a data set by its name or path."""

import re
import reprlib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from ..datasets import is_folder, is_manifest
from ..errors import InputError, choose, explain_surroundings
from ..files import is_path
from ..machine import check_address_space
from ..options import PIXELS, check_value
from .dataset import SPLITS, Dataset
from .folders import load_folder
from .npz import load_npz
from .tfds import load_tfds


@explain_surroundings()
def load_dataset(
    name: str | Path,
    data_dir: str | Path | None = None,
    image_size: int | tuple[int, int] | None = None,
    skip_unreadable: bool = False,
    keep: Collection[str] = SPLITS,
    allow_duplicates: bool = False,
    allow_absent_classes: bool = False,
) -> Dataset:
    """Load labeled images as training, validation and test splits.

    Missing splits are made from the training images:

    - TFDS without a validation split: the last tenth of train, at most 10,000 images.
    - TFDS without a test split that has labels: the validation split is used as test split, and
      validation is the last tenth of train.
    - TFDS with only train: validation and test are the last two tenths of train.
    - Image folders and manifests: about a tenth of each class for each missing split, by a hash of
      the content.
    - .npz: a stratified tenth of train for validation.

    Images are decoded once and stay in memory if all images take at most a quarter of it. Otherwise
    they are read again each epoch.

    Args:
        name: one of
            - "digits": handwritten digits of scikit-learn, no download;
            - a TFDS name, optionally with ":version" or "/config";
            - an image folder: FOLDER/CLASS/image or FOLDER/train|validation|test/CLASS/image;
            - a manifest: a .csv file with the columns path, label and, optionally, split;
            - an .npz file with x_train, y_train, x_test and y_test, as in keras.datasets.
        data_dir: directory of prepared TFDS data, or a URL that TFDS reads, such as
            "gs://bucket/data". Default: the directory of TFDS.
        image_size: size of all images after resizing in pixels, one number or (height, width).
            Default: the original size.
        skip_unreadable: skip images of an image folder or manifest that cannot be decoded instead
            of raising InputError.
        keep: splits to decode into memory, if all would fit. Other splits are read when needed.
        allow_duplicates: remove images of an image folder or manifest that are also in another
            split instead of raising InputError. A copy in test is kept. No effect for TFDS and
            .npz.
        allow_absent_classes: accept an image folder or manifest with a single class, classes
            without images and empty splits, for evaluation.

    Returns:
        The data set.

    Raises:
        InputError (a ValueError): the name is unknown; the data are not an image classification
            set, cannot be downloaded or are damaged; a directory cannot be written; or there is not
            enough memory.

    Warns:
        DataWarning: files, directories, columns, images or TFDS splits are not used; or images of a TFDS
            set or .npz file in memory are in two splits.

    Example:
        >>> data = load_dataset("digits")
        >>> data.sizes
        {'train': 1293, 'validation': 144, 'test': 360}
    """
    if not is_path(name):
        raise InputError(
            f"`name` must be the name of a data set or a path. Received: {reprlib.repr(name)}. "
            "Pass 'digits', for example."
        )
    if data_dir is not None and not is_path(data_dir):
        raise InputError(
            f"`data_dir` must be None or the path of a directory. "
            f"Received: {reprlib.repr(data_dir)}."
        )
    if isinstance(data_dir, Path) and re.match("[a-z][a-z0-9]*:/[^/]", str(data_dir)):
        raise InputError(
            f"A URL as `data_dir` must be text, because `Path` removes a slash. "
            f"Received: {data_dir}. Pass a string."
        )
    image_size = check_image_size(image_size)
    if not isinstance(keep, (tuple, list)):
        raise InputError(f"`keep` must be a tuple of splits. Received: {reprlib.repr(keep)}.")
    for split in keep:
        choose("a split in `keep`", split, SPLITS)
    check_address_space()
    if str(name).endswith(".npz"):
        return load_npz(name, image_size)
    if is_folder(name) or is_manifest(name):
        return load_folder(
            name, image_size, skip_unreadable, keep, allow_duplicates, allow_absent_classes
        )
    if "/" in str(name) and Path(name).parts[0] in ("/", ".", "..", "~"):
        raise InputError(f"{name} does not exist. Pass the path of an image folder.")
    return load_tfds(str(name), data_dir, image_size, keep)


def check_image_size(image_size) -> int | tuple[int, int] | None:
    """Return `image_size` as Python integers. Raise InputError if it is not valid."""
    if image_size is None:
        return None
    if not isinstance(image_size, (tuple, list)):
        return check_value("image_size", image_size, Annotated[int, PIXELS])
    if len(image_size) != 2:
        raise InputError(
            f"`image_size` must be (height, width). Received: {reprlib.repr(image_size)}."
        )
    height, width = (check_value("image_size", side, Annotated[int, PIXELS]) for side in image_size)
    return height, width
