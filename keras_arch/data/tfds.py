"""Data sets of TensorFlow Datasets (TFDS)."""

import contextlib
import logging
import re
import reprlib
import sys
import warnings
from pathlib import Path
from typing import Annotated

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from ..errors import DataWarning, InputError, choose, first_line, is_disk_full
from ..files import hash_of_json, is_writable, nearest_folder
from ..images.decode import decode_image
from ..options import PIXELS, check_value
from .dataset import SPLIT_NAMES, SPLITS, Dataset
from .digits import Digits
from .duplicates import warn_of_duplicates
from .splits import InStream, fits_in_memory, height_and_width, load_into_memory

VALIDATION_SHARE = 0.1  # of the training split, where the data set has none of its own
VALIDATION_MOST = 10_000  # images; more would only cost time


ERROR_SHOWN = 50  # characters of another library's message
LABELS_READ = 512  # of each TFDS split, to see whether it has labels


def check_size(image_size):
    """Return an `image_size` as plain integers, or raise InputError."""
    if isinstance(image_size, (tuple, list)):
        if len(image_size) != 2:
            raise InputError(
                f"`image_size` must be (height, width). Received: {reprlib.repr(image_size)}."
            )
        return tuple(check_value("image_size", side, Annotated[int, PIXELS]) for side in image_size)
    return (
        None
        if image_size is None
        else check_value("image_size", image_size, Annotated[int, PIXELS])
    )


def load_tfds(name, data_dir, image_size, keep):
    builder = find_builder(name, data_dir)
    image, label = classification_features(name, builder.info)
    image_shape = fixed_shape(name, image.shape, image_size)
    check_data_dir(name, builder)
    try:
        prepare_data(name, builder)
    except Exception:
        if (
            not builder.data_path.exists()
        ):  # another process may have prepared the same data in the meantime
            raise
    builder = find_builder(name, data_dir)  # reads what is on disk, whichever process prepared it
    image, label = classification_features(name, builder.info)
    splits = builder.info.splits
    total = sum(split.num_examples for split in splits.values())

    def records_of(instruction, cached=True):
        encoded = {builder.info.supervised_keys[0]: tfds.decode.SkipDecoding()}
        how = tfds.ReadConfig(try_autocache=cached)
        return builder.as_dataset(
            instruction, as_supervised=True, decoders=encoded, read_config=how
        )

    def read(split, instruction):
        records = records_of(instruction)
        count, size = (
            int(records.cardinality()),
            sum(split.num_bytes for split in splits.values()) // total,
        )
        stream = InStream(records, count, image_shape, decoder_of(image), size)
        if split not in keep or not fits_in_memory(total, image_shape):
            return stream
        decoded = load_into_memory(stream)
        if (decoded.labels < 0).any():
            raise unlabeled_error(name, split)
        return decoded

    unlabeled = unlabeled_splits(name, splits, records_of)
    instructions = split_instructions(
        name, {split: splits[split] for split in splits if split not in unlabeled}
    )
    if unlabeled:
        used = ", ".join(
            f"{split} is {instruction!r}"
            for split, instruction in zip(SPLITS, instructions, strict=True)
        )
        warnings.warn(
            f"Splits of {name!r} without labels are not used: {', '.join(unlabeled)}. Instead, {used}.",
            DataWarning,
            stacklevel=2,
        )
    train, validation, test = map(read, SPLITS, instructions)
    fingerprint = hash_of_json(
        [builder.info.full_name, {split: splits[split].shard_lengths for split in sorted(splits)}]
    )
    dataset = Dataset(name, train, validation, test, tuple(label.names), image_shape, fingerprint)
    warn_of_duplicates(dataset)
    return dataset


def unlabeled_splits(name, splits, records_of):
    """Return which of the validation and test splits have images without labels.

    Raises:
        InputError (a ValueError): the training split has some.
    """
    train, *others = usual_splits(splits)
    # TensorFlow warns if a split is cached and not read to its end.
    found = [
        split
        for split in (train, *others)
        if split and not has_labels(records_of(split, cached=False))
    ]
    if train in found:
        raise unlabeled_error(name, train)
    return found


def has_labels(records):
    """Whether the first records of a TFDS split have labels. TFDS marks images without one by -1."""
    labels = records.map(lambda _, label: label).take(LABELS_READ).batch(LABELS_READ)
    return all((some >= 0).all() for some in labels.as_numpy_iterator())


def unlabeled_error(name, split):
    """The InputError for a split of which only a part has labels, or for training images without any."""
    return InputError(
        f"The {split} split of {name!r} has images without a label. Received: labels below 0. "
        "Choose a data set whose images all have one."
    )


def find_builder(name, data_dir):
    """The TFDS builder of `name`; nothing is downloaded yet."""
    if name == "digits":
        return Digits(data_dir=data_dir)
    base = re.split("[:/]", name)[0]
    choose(
        "'digits' or the name of a TFDS data set",
        base,
        [*tfds.list_builders(with_community_datasets=False), "digits"],
    )
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, AssertionError, ValueError) as error:
        raise InputError(
            f"expected a version and config of {base!r} that TFDS has, got {name!r}: {first_line(error)}"
        ) from error


def check_data_dir(name, builder):
    """Raise InputError if the data must be prepared in a folder that cannot be written."""
    problem = None
    try:
        path = Path(builder.data_path).expanduser().absolute()
        above = nearest_folder(path)
        if above != path and not is_writable(above):
            problem = f"{above}, which cannot be written"
    except RuntimeError:
        problem = "no home directory"
    if problem:
        raise InputError(
            f"{name!r} cannot be prepared in {builder.data_dir}. Received: {problem}. Pass --data-dir FOLDER."
        )


def prepare_data(name, builder):
    """Have the data of `builder` on disk, downloaded if need be."""
    if name == "digits":
        with contextlib.redirect_stdout(
            None
        ):  # it is done within a second, and nothing is downloaded
            tfds.disable_progress_bar()
            builder.download_and_prepare()
            tfds.enable_progress_bar()
        return
    # TFDS tries ten times with growing pauses, minutes without a word to somebody who has no network.
    downloader.MAX_RETRIES = 3
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except PermissionError:
        raise
    except Exception as error:  # each data set has its own ways to fail: network, checksum, manual download, package
        if is_disk_full(error):
            raise InputError(
                f"{builder.data_dir} has no room for {name!r}: {first_line(error)}"
            ) from error
        raise InputError(
            f"expected data set {name!r} in {builder.data_dir} or a network to download it from, got "
            f"{type(error).__name__}; --data-dir FOLDER names a prepared copy, 'digits' needs no network; {first_line(error)[:ERROR_SHOWN]}"
        ) from error


def classification_features(name, info):
    """The TFDS features of the image and of its class."""
    keys = info.supervised_keys
    if keys is not None and len(keys) == 2:
        image, label = (info.features[key] for key in keys)
        if isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel):
            return image, label
    raise InputError(
        f"expected an image classification set (as_supervised gives an image and a class), got {name!r}; "
        "'digits', 'fashion_mnist' and 'cifar10' would work"
    )


def decoder_of(image):
    """The function that decodes a record of a TFDS image feature; TFDS's own would drop the transparency of a PNG."""
    if image.np_dtype != np.uint8:
        return image.decode_example
    height, width = image.shape[:2]
    fixed = (
        (height, width) if height == width else (None, None)
    )  # the sides of a picture that is turned change places
    return lambda record: tf.ensure_shape(decode_image(record), (*fixed, 3))


def fixed_shape(name, shape, image_size):
    """The one shape that all images of the set are brought to."""
    height, width, channels = shape
    if image_size is not None:
        height, width = height_and_width(image_size)
    if height is None or width is None:
        raise InputError(
            f"expected a size for the images of {name!r}, which differ in size; --image-size 224 would work"
        )
    return height, width, 1 if channels == 1 else 3


def split_instructions(name, splits):
    """TFDS instructions for train, validation and test; see `load_dataset` for the rule."""
    train, validation, test = usual_splits(splits)
    if train is None:
        raise InputError(
            f"expected a split called 'train' in data set {name!r}, got {', '.join(splits) or 'none'}"
        )
    held_out = max(1, min(VALIDATION_MOST, round(splits[train].num_examples * VALIDATION_SHARE)))
    if test and validation:
        return train, validation, test
    if test or validation:
        return f"{train}[:-{held_out}]", f"{train}[-{held_out}:]", test or validation
    return (
        f"{train}[:-{2 * held_out}]",
        f"{train}[-{2 * held_out}:-{held_out}]",
        f"{train}[-{held_out}:]",
    )


def usual_splits(splits):
    """Return which of `splits` are train, validation and test by their names, each a name or None."""
    return [
        next((name for name in names if name in splits), None) for names in SPLIT_NAMES.values()
    ]
