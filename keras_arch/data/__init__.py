"""A name in, a Dataset out: images and labels in three splits that are kept apart."""

import contextlib
import logging
import re
import sys
from dataclasses import dataclass

import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from ..errors import InputError, choose, first_line
from .digits import Digits
from .pipeline import resize

VALIDATION_SHARE = 0.1  # of the training split, where the data set has none of its own
VALIDATION_MOST = 10_000  # images; more would only cost time
MEMORY_BUDGET = 2**30  # bytes of decoded images that are kept in memory; a larger split is read again each epoch


@dataclass(frozen=True)
class Dataset:
    """Three splits of single examples, always in the same order.

    `train`, `validation` and `test` are `tf.data.Dataset`s of (image, label): uint8 (height, width, channels) of
    0-255 and int64. `validation` chooses among checkpoints; `test` is for the last evaluation alone.
    """

    name: str
    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]

    @property
    def sizes(self):
        """The number of images in each split."""
        return {split: int(getattr(self, split).cardinality()) for split in ("train", "validation", "test")}


def load_dataset(name, data_dir=None, image_size=None):
    """Load an image classification set by name.

    Args:
        name: "digits" (scikit-learn's, needs no network) or a TFDS name, with ":version" or "/config" as TFDS has it.
        data_dir: folder that holds, or receives, prepared TFDS data; None for TFDS's own.
        image_size: height and width in pixels to resize to; None keeps the size of the data set.

    Returns:
        A `Dataset`. Test is the data set's own (or its labelled validation split where it has no test split), and
        validation its own where test is another, else the last tenth of train, at most 10,000 images; a data set
        with nothing but train gives its last tenth to test and the tenth before to validation.

    Raises:
        InputError (a ValueError): unknown, not an image classification set, or neither there nor to be downloaded.
    """
    builder = find(name, data_dir)
    image, label = classification_features(name, builder.info)
    image_shape = fixed_shape(name, image.shape, image_size)
    prepare(name, builder)

    def read(instruction):
        examples = builder.as_dataset(split=instruction, as_supervised=True, shuffle_files=False).map(
            lambda image, label: (resize(image, image_shape), label), num_parallel_calls=tf.data.AUTOTUNE
        )
        height, width, channels = image_shape
        fits = int(examples.cardinality()) * height * width * channels <= MEMORY_BUDGET
        return examples.cache() if fits else examples

    train, validation, test = (read(instruction) for instruction in split_instructions(name, builder.info.splits))
    return Dataset(name, train, validation, test, tuple(label.names), image_shape)


def find(name, data_dir):
    """The TFDS builder of `name`; nothing is downloaded yet."""
    if name == "digits":
        return Digits(data_dir=data_dir)
    base = re.split("[:/]", name)[0]
    choose(
        "'digits' or the name of a TFDS data set", base, [*tfds.list_builders(with_community_datasets=False), "digits"]
    )
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, AssertionError, ValueError) as error:
        raise InputError(
            f"expected a version and config of {base!r} that TFDS has, got {name!r}: {first_line(error)}"
        ) from error


def prepare(name, builder):
    """Have the data of `builder` on disk, downloaded if need be."""
    if name == "digits":
        with contextlib.redirect_stdout(None):  # it is done within a second, and nothing is downloaded
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
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except PermissionError:
        raise
    except Exception as error:  # each data set has its own ways to fail: network, checksum, manual download, package
        raise InputError(
            f"expected data set {name!r} in {builder.data_dir} or a network to download it from, got "
            f"{type(error).__name__}; --data-dir FOLDER names a prepared copy, 'digits' needs no network; {first_line(error)}"
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


def fixed_shape(name, shape, image_size):
    """The one shape that all images of the set are brought to."""
    height, width, channels = shape
    if image_size is not None:
        height = width = image_size
    if height is None or width is None:
        raise InputError(
            f"expected a size for the images of {name!r}, which differ in size; --image-size 224 would work"
        )
    return height, width, channels or 3


def split_instructions(name, splits):
    """TFDS instructions for train, validation and test; see `load_dataset` for the rule."""
    if "train" not in splits:
        raise InputError(f"expected a split called 'train' in data set {name!r}, got {', '.join(splits) or 'none'}")
    held_out = max(1, min(VALIDATION_MOST, round(splits["train"].num_examples * VALIDATION_SHARE)))
    if "test" in splits and "validation" in splits:
        return "train", "validation", "test"
    for test in ("test", "validation"):
        if test in splits:
            return f"train[:-{held_out}]", f"train[-{held_out}:]", test
    return f"train[:-{2 * held_out}]", f"train[-{2 * held_out}:-{held_out}]", f"train[-{held_out}:]"
