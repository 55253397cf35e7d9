"""Load a data set: a name, a folder or a file in, a `Dataset` out."""

import reprlib
from pathlib import Path

from ..errors import InputError, choose, explain_surroundings
from ..files import is_path
from ..machine import check_address_space
from .dataset import SPLITS
from .folders import load_folder
from .npz import load_npz
from .tfds import check_size, load_tfds


@explain_surroundings()
def load_dataset(
    name,
    data_dir=None,
    image_size=None,
    skip_unreadable=False,
    keep=SPLITS,
    allow_duplicates=False,
    allow_absent_classes=False,
):
    """Load images and their classes.

    Args:
        name: "digits" (scikit-learn's, needs no network); a TFDS name, with ":version" or "/config" as TFDS has it; a
            folder, FOLDER/CLASS/picture or FOLDER/train|validation|test/CLASS/picture; or an .npz file with x_train,
            y_train, x_test and y_test as keras.datasets has them.
        data_dir: folder that holds, or receives, prepared TFDS data; None for TFDS's own.
        image_size: pixels to bring all images to (see `keras_arch.images.read`), one number or (height, width); None keeps their
            own size.
        skip_unreadable: leave out pictures of a folder that cannot be decoded, instead of refusing it.
        keep: the splits whose images are decoded now and stay in memory, if all would fit; the others' are read when asked for.
        allow_duplicates: leave out pictures of a folder that are also in another split, instead of refusing it. A copy in
            test stays. It changes nothing for TFDS sets and .npz files.
        allow_absent_classes: for evaluation: a folder may have a single class, classes without pictures and empty splits.

    Issues a `DataWarning` for what is not used: files, folders, unreadable pictures, and TFDS splits without labels.

    Returns:
        A `Dataset`. Test is the data's own (or TFDS's labelled validation split where it has no test split), and
        validation its own where test is another, else a tenth of train, at most 10,000 images of a TFDS set; where there
        is nothing but train, a tenth goes to test and a tenth to validation. Images stay in memory, decoded once, where
        they take less than a quarter of it, and are read again each epoch where not.

    Warns:
        DataWarning: pictures of a folder were left out as copies; or images of a TFDS set or an .npz file are in two
            splits. Splits that are not in memory are not compared.

    Raises:
        InputError (a ValueError): unknown, not an image classification set, not to be downloaded, or damaged; the folder of
            TFDS data cannot be written; memory is not enough.
    """
    if not is_path(name):
        received = reprlib.repr(name)
        raise InputError(
            f"`name` must be the name of a data set or a path. Received: {received}. 'digits' would work."
        )
    if data_dir is not None and not is_path(data_dir):
        raise InputError(
            f"`data_dir` must be None or the path of a folder. Received: {reprlib.repr(data_dir)}."
        )
    image_size = check_size(image_size)
    if not isinstance(keep, (tuple, list)):
        raise InputError(f"`keep` must be a tuple of splits. Received: {reprlib.repr(keep)}.")
    for split in keep:
        choose("a split to keep", split, SPLITS)
    check_address_space()
    if str(name).endswith(".npz"):
        return load_npz(name, image_size)
    if name != "digits" and Path(name).is_dir():
        return load_folder(
            name, image_size, skip_unreadable, keep, allow_duplicates, allow_absent_classes
        )
    if "/" in str(name) and Path(name).parts[0] in ("/", ".", "..", "~"):
        raise InputError(f"expected a folder of pictures, got {name}, which does not exist")
    return load_tfds(name, data_dir, image_size, keep)
