"""Load data sets of TensorFlow Datasets (TFDS)."""

import contextlib
import importlib
import logging
import re
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from ..datasets import DATASETS
from ..errors import DataWarning, InputError, choose, first_line, is_disk_full
from ..files import hash_of_json, is_url, is_writable, nearest_folder
from ..images.decode import decode_image
from .dataset import SPLIT_NAMES, SPLITS, Dataset
from .duplicates import warn_of_duplicates
from .splits import InStream, fits_in_memory, height_and_width, load_into_memory

VALIDATION_SHARE = 0.1  # of the training split, if the data set has no validation split
MAX_VALIDATION = 10_000  # images
CAUSE_CHARACTERS = 50  # of another library's message
LABELS_READ = 512  # of each TFDS split, to find out whether it has labels


def load_tfds(
    name: str,
    data_dir: str | Path | None,
    image_size: int | tuple[int, int] | None,
    keep: Collection[str],
) -> Dataset:
    """Load a TFDS data set. The arguments are those of `load_dataset`."""
    builder = find_builder(name, data_dir)
    image, label = classification_features(name, builder.info)
    image_shape = fixed_shape(name, image.shape, image_size)
    check_data_dir(name, builder)
    try:
        prepare_data(name, builder)
    except Exception:
        # Another process may have prepared the same data in the meantime.
        if not builder.data_path.exists():
            raise
    builder = find_builder(name, data_dir)  # reads the data on disk, which any process prepared
    image, label = classification_features(name, builder.info)
    splits = builder.info.splits
    total = sum(split.num_examples for split in splits.values())

    def records_of(instruction, cached=True):
        decoders = {builder.info.supervised_keys[0]: tfds.decode.SkipDecoding()}
        config = tfds.ReadConfig(try_autocache=cached)
        return builder.as_dataset(
            instruction, as_supervised=True, decoders=decoders, read_config=config
        )

    def read(split, instruction):
        records = records_of(instruction)
        count = int(records.cardinality())
        record_bytes = sum(split.num_bytes for split in splits.values()) // total
        stream = InStream(records, count, image_shape, make_decoder(image), record_bytes)
        if split not in keep or not fits_in_memory(total, image_shape):
            return stream
        decoded = load_into_memory(stream)
        if (decoded.labels < 0).any():
            raise unlabeled_error(name, split)
        return decoded

    unlabeled = find_unlabeled(name, splits, records_of)
    instructions = split_instructions(
        name, {split: splits[split] for split in splits if split not in unlabeled}
    )
    if unlabeled:
        used = ", ".join(
            f"{split} is {instruction!r}"
            for split, instruction in zip(SPLITS, instructions, strict=True)
        )
        warnings.warn(
            f"Splits of {name!r} without labels are not used: {', '.join(unlabeled)}. "
            f"Instead, {used}.",
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


def find_unlabeled(name, splits, records_of):
    """Return the validation and test splits that have images without labels.

    Raises:
        InputError (a ValueError): the training split has images without labels.
    """
    train, *others = standard_splits(splits)
    # TensorFlow warns if a cached split is not read to its end.
    unlabeled = [
        split
        for split in (train, *others)
        if split and not are_labeled(records_of(split, cached=False))
    ]
    if train in unlabeled:
        raise unlabeled_error(name, train)
    return unlabeled


def are_labeled(records: tf.data.Dataset) -> bool:
    """Return whether the first records of a split have labels. In TFDS, -1 means no label."""
    labels = records.map(lambda _, label: label).take(LABELS_READ).batch(LABELS_READ)
    return all((batch >= 0).all() for batch in labels.as_numpy_iterator())


def unlabeled_error(name: str, split: str) -> InputError:
    """Return the InputError for a split with images without labels."""
    return InputError(
        f"The {split} split of {name!r} has images without a label. Received: labels below 0. "
        "Use a data set in which all images have labels."
    )


def find_builder(name: str, data_dir: str | Path | None) -> tfds.core.DatasetBuilder:
    """Return the TFDS builder of `name`, without a download."""
    if name in DATASETS:
        module = importlib.import_module(f".{name}", __package__)
        return getattr(module, DATASETS[name])(data_dir=data_dir)
    base = re.split("[:/]", name)[0]
    choose(
        f"{', '.join(map(repr, DATASETS))} or the name of a TFDS data set",
        base,
        [*tfds.list_builders(with_community_datasets=False), *DATASETS],
    )
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, AssertionError, ValueError) as error:
        raise InputError(
            f"TFDS does not have this version or config of {base!r}. Received: {name!r} "
            f"({first_line(error)}). Pass a version and config of {base!r}, or only {base!r}."
        ) from error
    except RuntimeError as error:  # of the file system of a URL
        if not is_url(data_dir):
            raise
        raise InputError(
            f"{name!r} cannot be read in {data_dir}. Received: "
            f"{first_line(error.__cause__ or error)}. "
            "Check the URL, the network and your credentials."
        ) from error


def check_data_dir(name: str, builder: tfds.core.DatasetBuilder) -> None:
    """Raise InputError if the data must be prepared in a directory that cannot be written."""
    if is_url(builder.data_dir):
        return
    problem = None
    try:
        path = Path(builder.data_path).expanduser().absolute()
        parent = nearest_folder(path)
        if parent != path and not is_writable(parent):
            problem = f"{parent}, which cannot be written"
    except RuntimeError:
        problem = "no home directory"
    if problem:
        raise InputError(
            f"{name!r} cannot be prepared in {builder.data_dir}. Received: {problem}. "
            "Pass another --data-dir."
        )


def prepare_data(name: str, builder: tfds.core.DatasetBuilder) -> None:
    """Download and prepare the data of `builder` if they are not on disk."""
    if not getattr(builder, "DOWNLOADS", True):
        with contextlib.redirect_stdout(None):
            tfds.disable_progress_bar()
            builder.download_and_prepare()
            tfds.enable_progress_bar()
        return
    # Without a network, the default of ten retries takes minutes and shows no message.
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
    except Exception as error:  # network, checksum, manual download, missing package, ...
        if is_disk_full(error):
            raise InputError(
                f"There is no space for {name!r} in {builder.data_dir}. "
                f"Received: {first_line(error)}. Pass another --data-dir."
            ) from error
        cause = f"{type(error).__name__}: {first_line(error)[:CAUSE_CHARACTERS]}"
        raise InputError(
            f"{name!r} is not in {builder.data_dir} and cannot be downloaded. Received: {cause}. "
            "Pass --data-dir of a prepared copy, or use 'digits', which needs no network."
        ) from error


def classification_features(name: str, info: tfds.core.DatasetInfo):
    """Return the TFDS features of the image and of its class."""
    keys = info.supervised_keys
    if keys is not None and len(keys) == 2:
        image, label = (info.features[key] for key in keys)
        if isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel):
            if image.np_dtype != np.uint8:
                raise InputError(
                    f"The images of {name!r} must have 8 bits, 0-255. Received: "
                    f"{np.dtype(image.np_dtype)}. Convert them to uint8."
                )
            return image, label
    raise InputError(
        "The data must be a TFDS image classification set: as_supervised must give an image and "
        f"a class. Received: {name!r}. Use 'fashion_mnist' or 'cifar10', for example."
    )


def make_decoder(image: tfds.features.Image) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function that decodes a record. TFDS's decoder drops the transparency of PNG."""
    height, width = image.shape[:2]
    # A rotation by EXIF orientation swaps height and width.
    size = (height, width) if height == width else (None, None)
    return lambda record: tf.ensure_shape(decode_image(record), (*size, 3))


def fixed_shape(
    name: str, shape: tuple[int | None, ...], image_size: int | tuple[int, int] | None
) -> tuple[int, int, int]:
    """Return the shape to which all images are resized."""
    height, width, channels = shape
    if image_size is not None:
        height, width = height_and_width(image_size)
    if height is None or width is None:
        raise InputError(
            f"`image_size` must be given if images differ in size. Received: None for {name!r}. "
            "Pass --image-size, such as 224."
        )
    return height, width, 1 if channels == 1 else 3


def split_instructions(name: str, splits: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the TFDS instructions for train, validation and test. `load_dataset` has the rule."""
    train, validation, test = standard_splits(splits)
    if train is None:
        raise InputError(
            f"{name!r} must have a split named train. Received: {', '.join(splits) or 'no splits'}. "
            "Use another data set."
        )
    held_out = max(1, min(MAX_VALIDATION, round(splits[train].num_examples * VALIDATION_SHARE)))
    if test and validation:
        return train, validation, test
    if single := test or validation:
        return f"{train}[:-{held_out}]", f"{train}[-{held_out}:]", single
    return (
        f"{train}[:-{2 * held_out}]",
        f"{train}[-{2 * held_out}:-{held_out}]",
        f"{train}[-{held_out}:]",
    )


def standard_splits(splits: Iterable[str]) -> list[str | None]:
    """Return the names in `splits` of train, validation and test. A missing split is None."""
    return [
        next((name for name in names if name in splits), None) for names in SPLIT_NAMES.values()
    ]
