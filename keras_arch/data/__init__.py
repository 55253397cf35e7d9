"""A name, a folder or a file in, a Dataset out: images and labels in three splits that are kept apart."""

import contextlib
import logging
import re
import reprlib
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from ..errors import DataWarning, InputError, choose, explain_surroundings, first_line, is_disk_full
from ..files import hash_of, hash_of_json, is_path, is_writable, nearest_folder
from ..images.decode import decode
from ..images.read import read_image
from ..machine import check_address_space, total_memory
from ..options import PIXELS, checked
from .digits import Digits
from .duplicates import warn_of_duplicates
from .folders import SPLIT_NAMES, SPLITS, find_files, fingerprint_of
from .memory import empty_array, shareable
from .npz import hold_out, read_npz
from .splits import READ_AT_ONCE, InFiles, InMemory, InStream

VALIDATION_SHARE = 0.1  # of the training split, where the data set has none of its own
VALIDATION_MOST = 10_000  # images; more would only cost time
MEMORY_SHARE = 0.25  # of the machine's memory that the decoded images of one data set may take; a larger one streams
ERROR_SHOWN = 50  # characters of another library's message
LABELS_READ = 512  # of each TFDS split, to see whether it has labels

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
        raise InputError(f"`name` must be the name of a data set or a path. Received: {received}. 'digits' would work.")
    if data_dir is not None and not is_path(data_dir):
        raise InputError(f"`data_dir` must be None or the path of a folder. Received: {reprlib.repr(data_dir)}.")
    image_size = check_size(image_size)
    if not isinstance(keep, (tuple, list)):
        raise InputError(f"`keep` must be a tuple of splits. Received: {reprlib.repr(keep)}.")
    for split in keep:
        choose("a split to keep", split, SPLITS)
    check_address_space()
    if str(name).endswith(".npz"):
        return load_npz(name, image_size)
    if name != "digits" and Path(name).is_dir():
        return load_folder(name, image_size, skip_unreadable, keep, allow_duplicates, allow_absent_classes)
    if "/" in str(name) and Path(name).parts[0] in ("/", ".", "..", "~"):
        raise InputError(f"expected a folder of pictures, got {name}, which does not exist")
    return load_tfds(name, data_dir, image_size, keep)


def check_size(image_size):
    """Return an `image_size` as plain integers, or raise InputError."""
    if isinstance(image_size, (tuple, list)):
        if len(image_size) != 2:
            raise InputError(f"`image_size` must be (height, width). Received: {reprlib.repr(image_size)}.")
        return tuple(checked("image_size", side, Annotated[int, PIXELS]) for side in image_size)
    return None if image_size is None else checked("image_size", image_size, Annotated[int, PIXELS])


def sides(image_size):
    """(height, width) of a size that is both, or one number for either."""
    return image_size if isinstance(image_size, tuple) else (image_size, image_size)


def fits_in_memory(count, shape):
    return count * int(np.prod(shape)) <= MEMORY_SHARE * total_memory()


def load_tfds(name, data_dir, image_size, keep):
    builder = find(name, data_dir)
    image, label = classification_features(name, builder.info)
    image_shape = fixed_shape(name, image.shape, image_size)
    check_data_dir(name, builder)
    try:
        prepare(name, builder)
    except Exception:
        if not builder.data_path.exists():  # another process may have prepared the same data in the meantime
            raise
    builder = find(name, data_dir)  # reads what is on disk, whichever process prepared it
    image, label = classification_features(name, builder.info)
    splits = builder.info.splits
    total = sum(split.num_examples for split in splits.values())

    def records_of(instruction, cached=True):
        encoded = {builder.info.supervised_keys[0]: tfds.decode.SkipDecoding()}
        how = tfds.ReadConfig(try_autocache=cached)
        return builder.as_dataset(instruction, as_supervised=True, decoders=encoded, read_config=how)

    def read(split, instruction):
        records = records_of(instruction)
        count, size = int(records.cardinality()), sum(split.num_bytes for split in splits.values()) // total
        stream = InStream(records, count, image_shape, decoder_of(image), size)
        if split not in keep or not fits_in_memory(total, image_shape):
            return stream
        decoded = in_memory(stream)
        if (decoded.labels < 0).any():
            raise without_labels(name, split)
        return decoded

    unlabeled = unlabeled_splits(name, splits, records_of)
    instructions = split_instructions(name, {split: splits[split] for split in splits if split not in unlabeled})
    if unlabeled:
        used = ", ".join(f"{split} is {instruction!r}" for split, instruction in zip(SPLITS, instructions, strict=True))
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
    found = [split for split in (train, *others) if split and not has_labels(records_of(split, cached=False))]
    if train in found:
        raise without_labels(name, train)
    return found


def has_labels(records):
    """Whether the first records of a TFDS split have labels. TFDS marks images without one by -1."""
    labels = records.map(lambda _, label: label).take(LABELS_READ).batch(LABELS_READ)
    return all((some >= 0).all() for some in labels.as_numpy_iterator())


def without_labels(name, split):
    """The InputError for a split of which only a part has labels, or for training images without any."""
    return InputError(
        f"The {split} split of {name!r} has images without a label. Received: labels below 0. "
        "Choose a data set whose images all have one."
    )


def in_memory(split):
    """The same examples, decoded once."""
    images = empty_array((split.count, *split.shape))
    labels = np.empty(split.count, "int64")
    done = 0
    for some_images, some_labels in split.examples.batch(READ_AT_ONCE).as_numpy_iterator():
        images[done : done + len(some_labels)], labels[done : done + len(some_labels)] = some_images, some_labels
        done += len(some_labels)
    return InMemory(images, labels)


def load_folder(folder, image_size, skip_unreadable, keep, allow_duplicates, allow_absent_classes):
    class_names, found, pictures = find_files(folder, skip_unreadable, allow_duplicates, allow_absent_classes)
    sizes = {picture.size for picture in pictures}
    height, width = sides(image_size) if image_size else next(iter(sizes))[::-1]
    if not image_size and len(sizes) > 1:
        raise InputError(
            f"expected one size for all pictures, got {folder}, where they differ; --image-size 224 would work"
        )
    image_shape = (height, width, 1 if all(picture.grey for picture in pictures) else 3)

    def read(split):
        files = found[split]
        labels = np.array(files.labels, "int64")
        if split not in keep or not fits_in_memory(len(pictures), image_shape):
            return InFiles(files.paths, labels, image_shape, np.array(files.plain_jpegs))
        images = empty_array((len(labels), *image_shape))

        def load(number):
            images[number] = read_image(files.paths[number], image_shape)

        with ThreadPoolExecutor() as pool:
            list(pool.map(load, range(len(images))))
        return InMemory(images, labels)

    train, validation, test = map(read, SPLITS)
    fingerprint = fingerprint_of(class_names, found)
    return Dataset(Path(folder).resolve().name, train, validation, test, tuple(class_names), image_shape, fingerprint)


def load_npz(path, image_size):
    images, labels, class_names = read_npz(path)
    train, validation = hold_out(path, labels["train"])
    shape = images["train"].shape[1:]
    image_shape = shape if image_size is None else (*sides(image_size), shape[-1])

    def split(x, y):
        if x.shape[1:] == image_shape:
            return InMemory(shareable(x), y)
        return in_memory(InStream(tf.data.Dataset.from_tensor_slices((x, y)), len(y), image_shape))

    x, y = images["train"], labels["train"]
    dataset = Dataset(
        Path(path).stem,
        split(x[train], y[train]),
        split(x[validation], y[validation]),
        split(images["test"], labels["test"]),
        class_names,
        image_shape,
        hash_of([*images.values(), *labels.values()]),
    )
    warn_of_duplicates(dataset)
    return dataset


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
        if is_disk_full(error):
            raise InputError(f"{builder.data_dir} has no room for {name!r}: {first_line(error)}") from error
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
    fixed = (height, width) if height == width else (None, None)  # the sides of a picture that is turned change places
    return lambda record: tf.ensure_shape(decode(record), (*fixed, 3))


def fixed_shape(name, shape, image_size):
    """The one shape that all images of the set are brought to."""
    height, width, channels = shape
    if image_size is not None:
        height, width = sides(image_size)
    if height is None or width is None:
        raise InputError(
            f"expected a size for the images of {name!r}, which differ in size; --image-size 224 would work"
        )
    return height, width, 1 if channels == 1 else 3


def split_instructions(name, splits):
    """TFDS instructions for train, validation and test; see `load_dataset` for the rule."""
    train, validation, test = usual_splits(splits)
    if train is None:
        raise InputError(f"expected a split called 'train' in data set {name!r}, got {', '.join(splits) or 'none'}")
    held_out = max(1, min(VALIDATION_MOST, round(splits[train].num_examples * VALIDATION_SHARE)))
    if test and validation:
        return train, validation, test
    if test or validation:
        return f"{train}[:-{held_out}]", f"{train}[-{held_out}:]", test or validation
    return f"{train}[:-{2 * held_out}]", f"{train}[-{2 * held_out}:-{held_out}]", f"{train}[-{held_out}:]"


def usual_splits(splits):
    """Return which of `splits` are train, validation and test by their names, each a name or None."""
    return [next((name for name in names if name in splits), None) for names in SPLIT_NAMES.values()]
