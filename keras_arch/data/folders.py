"""Folders of pictures: FOLDER/CLASS/picture, or FOLDER/train|validation|test/CLASS/picture."""

import hashlib
import warnings
from bisect import bisect_left, bisect_right
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..class_names import check_class_names
from ..errors import DataWarning, InputError
from ..files import hash_of_json
from ..images.find import children, images_in, is_image, warn_of_unused
from ..images.read import read_image
from ..text import file_name_text
from .check import check_files, report_problems
from .dataset import SPLIT_NAMES, SPLITS, Dataset
from .memory import empty_array
from .splits import InFiles, InMemory, fits_in_memory, height_and_width

SHARE = 0.1  # of the pictures of a class, on average, for each split that the folder does not have
SMALLEST_CLASS = 3  # different pictures; a smaller class stays in training
NAMED = 3  # files or folders that a warning names


class Files(NamedTuple):
    """Pictures of one split, the number of the class of each, which TensorFlow may decode, and their SHA-256."""

    paths: list[str]
    labels: list[int]
    plain_jpegs: list[bool]
    digests: list[str]


def find_files(folder, skip_unreadable=False, allow_duplicates=False, allow_absent_classes=False):
    """Find, check and split the pictures of `folder`.

    Class names are the names of the folders, sorted; names that begin with a dot are skipped; links are followed.
    Split folders may also have the other names in `SPLIT_NAMES`, in any case. Files and folders that are
    not used, and pictures that `skip_unreadable` leaves out, are counted in a `DataWarning`.
    Where there is no folder for validation or test, each class gives about a tenth of its training pictures, chosen by
    `hold_out`. The order of the pictures is that of their SHA-256, so file names change nothing.

    Args:
        folder: FOLDER/CLASS/picture, or FOLDER/train|validation|test/CLASS/picture.
        skip_unreadable: leave out pictures that cannot be decoded instead of refusing the folder.
        allow_duplicates: leave out copies of a picture in another split, with a `DataWarning`, instead of refusing the
            folder. A copy in test is left out of validation and training, a copy in validation out of training.
        allow_absent_classes: take a single class, classes without pictures in some split, and empty splits.

    Returns:
        class_names, {"train": Files, "validation": Files, "test": Files}, and a `Checked` for each of their pictures.

    Raises:
        InputError (a ValueError): two folders for one split, split folders without one for training, no
            pictures, a class name that is not UTF-8 or has a line break, an empty class, a class that is not in every split, pictures that cannot be decoded,
            the same picture under two classes or in two splits; `details` name the files.
    """
    folder = Path(folder)
    places, found = find_classes(folder)
    class_names = sorted({name for classes in found.values() for name in classes})
    few = len(class_names) < 2 and not allow_absent_classes
    filled = {name for classes in found.values() for name, files in classes.items() if files}
    if few or not filled:
        raise InputError(
            f"expected CLASS/picture or train/CLASS/picture in {folder}, for two classes or more, got {len(filled)} "
            "folders with pictures, such as .jpg or .png"
        )
    check_class_names(class_names)
    checked = check_files(
        folder, [path for classes in found.values() for files in classes.values() for path in files]
    )
    unreadable = [path for path in sorted(checked) if checked[path].error]
    counts = {
        (split, name): len(files)
        for split, classes in found.items()
        for name, files in classes.items()
    }
    if skip_unreadable:
        found = {
            split: {
                name: [path for path in files if not checked[path].error]
                for name, files in classes.items()
            }
            for split, classes in found.items()
        }
    problems = {} if allow_absent_classes else absent_classes(places, found, counts)
    if not skip_unreadable:
        problems["a picture that cannot be decoded"] = [
            f"{path} ({checked[path].error})" for path in unreadable
        ]
    problems["one picture under two classes"] = twice(found, checked)
    copies = copies_across_splits(found, checked)
    if not allow_duplicates:
        problems["one picture in two splits"] = [
            f"{path} and {other}" for path, other in sorted(copies.items())
        ]
    report_problems(folder, problems)
    if unreadable:
        names = first_few([str(Path(path).relative_to(folder)) for path in unreadable])
        warnings.warn(
            f"Unreadable pictures that are not used: {len(unreadable)} ({names}).",
            DataWarning,
            stacklevel=2,
        )
    found = drop_copies(folder, found, copies)
    found |= hold_out(
        found["train"], checked, [split for split in ("test", "validation") if split not in found]
    )
    empty = [split for split, classes in found.items() if not any(classes.values())]
    if len(empty) > (2 if allow_absent_classes else 0):
        raise InputError(
            f"expected three pictures or more in some class of {folder}, of which one is held out for validation and one "
            f"for test, got none for {empty[0]}"
        )
    kept = [
        checked[path] for classes in found.values() for paths in classes.values() for path in paths
    ]
    return (
        class_names,
        {split: listed(found[split], class_names, checked) for split in SPLITS},
        kept,
    )


def absent_classes(places, found, counts):
    """{kind of problem: classes} of the classes that have no pictures in some split.

    Args:
        places: {split: its folder}.
        found: {split: {class: paths}}.
        counts: {(split, class): number of pictures}, with those that cannot be decoded.
    """
    class_names = sorted({name for _, name in counts})
    return {
        "an empty class": [
            f"{places[split] / name}"
            + (f" (none of its {count} pictures can be decoded)" if count else "")
            for (split, name), count in counts.items()
            if not found[split][name]
        ],
        "a class that is not in every split": [
            f"{name} (not in {split})"
            for split, classes in found.items()
            for name in class_names
            if name not in classes
        ],
    }


def find_classes(folder):
    """Find the pictures of each class and split, and issue a `DataWarning` for what is not used.

    Returns:
        {split: its folder}, and {split: {class: sorted paths of its pictures}}. Without split folders, all is "train".
    """
    splits, real = split_folders(folder), folder.resolve()
    places = splits or {"train": folder}
    contents = {
        split: contents_of(place, (real, place.resolve())) for split, place in places.items()
    }
    unused = [file for content in contents.values() for file in content.others + content.loose]
    if splits:
        outside = contents_of(folder, (real,), besides=splits.values())
        unused = outside.loose + unused
        ignored = sorted(name for name, files in outside.pictures.items() if files)
        if ignored:
            warnings.warn(
                f"Unused folders in {folder}: {first_few(ignored)}. "
                "A split folder is called train, validation or test and holds one folder per class.",
                DataWarning,
                stacklevel=2,
            )
    warn_of_unused(unused)
    return places, {split: content.pictures for split, content in contents.items()}


def split_folders(folder):
    """Return {split: its folder}, or {} where the folders are classes.

    A split folder holds class folders. A class folder holds pictures, so that a class may be called "train".

    Raises:
        InputError (a ValueError): two folders for one split, or split folders without one for training.
    """
    named = {
        split: [path for path in children(folder) if path.name.lower() in names and path.is_dir()]
        for split, names in SPLIT_NAMES.items()
    }
    for split, paths in named.items():
        if len(paths) > 1:
            raise InputError(
                f"{folder} has more than one folder for the {split} split. "
                f"Received: {', '.join(path.name for path in paths)}. Keep one of them, or merge them."
            )
    single = {split: paths[0] for split, paths in named.items() if paths}
    splits = {split: path for split, path in single.items() if not holds_only_pictures(path)}
    if "train" in splits:
        return splits
    if splits or len(single) > 1:
        raise InputError(
            f"{folder} has split folders, but none called train that holds one folder per class. "
            f"Received: {', '.join(sorted(path.name for path in single.values()))}. "
            "Move the training pictures to train/CLASS, or rename these folders if they are classes."
        )
    return {}


def is_unsplit(name):
    """Whether the name of a data set is a folder without split folders."""
    return name != "digits" and Path(name).is_dir() and not split_folders(Path(name))


def holds_only_pictures(folder):
    """Whether a folder holds pictures and no folders, as a class does and a split does not."""
    inside = children(folder)
    return any(map(is_image, inside)) and not any(path.is_dir() for path in inside)


class Contents(NamedTuple):
    """What lies in a folder."""

    pictures: dict[str, list[str]]  # of each folder in it, sorted
    others: list[Path]  # files of these folders that are not pictures
    loose: list[Path]  # pictures and broken or circular links that lie in none of these folders


def contents_of(folder, above, besides=()):
    """The `Contents` of a folder without the entries `besides`. `above` is as for `images.walk`."""
    contents = Contents({}, [], [])
    for entry in children(folder):
        if entry in besides:
            continue
        pictures, others = images_in(entry, above)
        if entry.is_dir() and others != [entry]:
            contents.pictures[file_name_text(entry.name)] = sorted(map(str, pictures))
            contents.others.extend(others)
        else:
            contents.loose.extend(pictures + [path for path in others if not path.is_file()])
    return contents


def first_few(names):
    """The first of `names`, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def hold_out(classes, checked, splits):
    """Divide the pictures of each class among `splits` and training by a number from 0 to 1, a hash of their content.

    The first of `splits` takes the numbers below `SHARE`, the next those below twice `SHARE`; training keeps the others.
    If that leaves a split without pictures of a class, its neighbor in the order of the numbers gives one.

    - Copies of a picture go to the same split, and file names do not matter.
    - Pictures that are added never move another picture out of training, unless their class had fewer than
      `SMALLEST_CLASS` different pictures or a single one in training.

    Args:
        classes: {class: paths}.
        checked: {path: Checked}.
        splits: names of the splits to fill; they may be none.

    Returns:
        {split: {class: paths}} of all `splits` and of "train".
    """
    divided: dict[str, dict[str, list[str]]] = {
        split: {name: [] for name in classes} for split in (*splits, "train")
    }
    names = list(divided)
    for name, paths in classes.items():
        numbers = [number_from(checked[path].digest) for path in paths]
        ranked = sorted(set(numbers))
        ends = [0] * len(splits) + [len(ranked)]  # of each split in `ranked`
        if len(ranked) >= SMALLEST_CLASS:
            for place in reversed(range(len(splits))):
                below = bisect_left(ranked, (place + 1) * SHARE)
                ends[place] = min(max(below, place + 1), ends[place + 1] - 1)
        for path, number in zip(paths, numbers, strict=True):
            divided[names[bisect_right(ends, bisect_left(ranked, number))]][name].append(path)
    return divided


def number_from(digest):
    """A number from 0 to 1, spread evenly, that depends on `digest` alone."""
    return int.from_bytes(hashlib.sha256(f"split {digest}".encode()).digest()[:8]) / 2**64


def listed(classes, class_names, checked):
    pairs = [
        (path, class_names.index(name))
        for name in sorted(classes)
        for path in sorted(classes[name], key=lambda path: (checked[path].digest, path))
    ]
    paths = [path for path, _ in pairs]
    return Files(
        paths,
        [label for _, label in pairs],
        [checked[path].plain_jpeg for path in paths],
        [checked[path].digest for path in paths],
    )


def fingerprint_of(class_names, found):
    """SHA-256 over split, class and content of each picture of `found`, {split: Files}; file names do not count."""
    return hash_of_json(
        [
            [split, class_names[label], digest]
            for split, files in found.items()
            for label, digest in zip(files.labels, files.digests, strict=True)
        ]
    )


def copies_across_splits(found, checked):
    """{path: path of the same content in another split}: what to leave out so that each content is in one split only."""
    first: dict[str, tuple[str, str]] = {}  # digest: split and path
    copies = {}
    for split in ("test", "validation", "train"):
        for paths in found.get(split, {}).values():
            for path in paths:
                other_split, other = first.setdefault(checked[path].digest, (split, path))
                if other_split != split:
                    copies[path] = other
    return copies


def drop_copies(folder, found, copies):
    """`found` without the paths in `copies`, and one `DataWarning` that counts them."""
    if not copies:
        return found
    kept = {
        split: {
            name: [path for path in paths if path not in copies] for name, paths in classes.items()
        }
        for split, classes in found.items()
    }
    emptied = [
        f"{name} in {split}"
        for split, classes in found.items()
        for name, paths in classes.items()
        if paths and not kept[split][name]
    ]
    if emptied:
        raise InputError(
            f"--allow-duplicates would leave classes of {folder} without pictures. Received: {len(emptied)} classes with no "
            "picture that is not also in another split. Add other pictures to them",
            details=emptied,
        )
    before, after = (
        {split: sum(map(len, of[split].values())) for split in of} for of in (found, kept)
    )
    counts = [
        f"{before[split] - after[split]:,} of {before[split]:,} from {split}"
        for split in found
        if split != "test"
    ]
    warnings.warn(
        f"{folder}: left out pictures that are also in another split: {', '.join(counts)}",
        DataWarning,
        stacklevel=2,
    )
    return kept


def twice(found, checked):
    """Pictures whose bytes stand under two classes."""
    places: dict[str, dict[str, str]] = {}
    for classes in found.values():
        for name, paths in classes.items():
            for path in paths:
                places.setdefault(checked[path].digest, {}).setdefault(name, path)
    return [" and ".join(sorted(paths.values())) for paths in places.values() if len(paths) > 1]


def load_folder(folder, image_size, skip_unreadable, keep, allow_duplicates, allow_absent_classes):
    class_names, found, pictures = find_files(
        folder, skip_unreadable, allow_duplicates, allow_absent_classes
    )
    sizes = {picture.size for picture in pictures}
    height, width = height_and_width(image_size) if image_size else next(iter(sizes))[::-1]
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
    return Dataset(
        Path(folder).resolve().name,
        train,
        validation,
        test,
        tuple(class_names),
        image_shape,
        fingerprint,
    )
