"""Folders of pictures: FOLDER/CLASS/picture, or FOLDER/train|validation|test/CLASS/picture."""

import hashlib
import warnings
from pathlib import Path
from typing import NamedTuple

from ..errors import DataWarning, InputError
from ..images import SUFFIXES, children, is_picture, pictures_in, warn_of_unused
from .check import check_files, report

SPLIT_NAMES = {  # of folders, in any case
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
SPLITS = tuple(SPLIT_NAMES)
SHARE = 0.1  # of each class, to validation and to test, where the folder does not say
NAMED = 3  # files or folders that a warning names


class Files(NamedTuple):
    """Pictures of one split, the number of the class of each, and which TensorFlow may decode."""

    paths: list[str]
    labels: list[int]
    plain_jpegs: list[bool]


def find_files(folder, skip_unreadable=False):
    """Find, check and split the pictures of `folder`.

    Class names are the names of the folders, sorted; names that begin with a dot are skipped; links are followed.
    Split folders may also have the other names in `SPLIT_NAMES`, in any case. Files and folders that are
    not used, and pictures that `skip_unreadable` leaves out, are counted in a `DataWarning`.
    Where there is no folder for validation or test, each class gives a tenth of its training pictures, drawn by a hash
    of their names: nothing changes for a class when pictures are added to another.

    Args:
        folder: FOLDER/CLASS/picture, or FOLDER/train|validation|test/CLASS/picture.
        skip_unreadable: leave out pictures that cannot be decoded instead of refusing the folder.

    Returns:
        class_names, {"train": Files, "validation": Files, "test": Files}, and a `Checked` for each of their pictures.

    Raises:
        InputError (a ValueError): two folders for one split, split folders without one for training, no
            pictures, an empty class, a class that is not in every split, pictures that cannot be decoded,
            the same picture under two classes; `details` name the files.
    """
    folder = Path(folder)
    places, found = find_classes(folder)
    class_names = sorted({name for classes in found.values() for name in classes})
    if len(class_names) < 2 or not any(files for classes in found.values() for files in classes.values()):
        raise InputError(
            f"expected {folder}/CLASS/picture, or {folder}/train/CLASS/picture, for two classes or more, got "
            f"{len(class_names)} folders with pictures ({', '.join(sorted(SUFFIXES))})"
        )
    checked = check_files(folder, [path for classes in found.values() for files in classes.values() for path in files])
    unreadable = [path for path in sorted(checked) if checked[path].error]
    counts = {(split, name): len(files) for split, classes in found.items() for name, files in classes.items()}
    if skip_unreadable:
        found = {
            split: {name: [path for path in files if not checked[path].error] for name, files in classes.items()}
            for split, classes in found.items()
        }
    problems = {
        "an empty class": [
            f"{places[split] / name}" + (f" (none of its {count} pictures can be decoded)" if count else "")
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
    if not skip_unreadable:
        problems["a picture that cannot be decoded"] = [f"{path} ({checked[path].error})" for path in unreadable]
    problems["one picture under two classes"] = twice(found, checked)
    report(folder, problems)
    if unreadable:
        names = first_few([str(Path(path).relative_to(folder)) for path in unreadable])
        warnings.warn(f"Unreadable pictures that are not used: {len(unreadable)} ({names}).", DataWarning, stacklevel=2)
    held_out = {name: max(1, round(SHARE * len(paths))) for name, paths in found["train"].items() if len(paths) > 2}
    for split in ("test", "validation"):
        if split not in found:
            found["train"], found[split] = hold_out(found["train"], split, held_out)
    for split, classes in found.items():
        if not any(classes.values()):
            raise InputError(
                f"expected three pictures or more in some class of {folder}, of which one is held out for validation and one "
                f"for test, got none for {split}"
            )
    kept = [checked[path] for classes in found.values() for paths in classes.values() for path in paths]
    return class_names, {split: listed(found[split], class_names, checked) for split in SPLITS}, kept


def find_classes(folder):
    """Find the pictures of each class and split, and issue a `DataWarning` for what is not used.

    Returns:
        {split: its folder}, and {split: {class: sorted paths of its pictures}}. Without split folders, all is "train".
    """
    splits, real = split_folders(folder), folder.resolve()
    places = splits or {"train": folder}
    contents = {split: contents_of(place, (real, place.resolve())) for split, place in places.items()}
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


def holds_only_pictures(folder):
    """Whether a folder holds pictures and no folders, as a class does and a split does not."""
    inside = children(folder)
    return any(map(is_picture, inside)) and not any(path.is_dir() for path in inside)


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
        pictures, others = pictures_in(entry, above)
        if entry.is_dir() and others != [entry]:
            contents.pictures[entry.name] = sorted(map(str, pictures))
            contents.others.extend(others)
        else:
            contents.loose.extend(pictures + [path for path in others if not path.is_file()])
    return contents


def first_few(names):
    """The first of `names`, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def hold_out(classes, split, counts):
    """Move `counts` of each class out of `classes`, chosen by their names: what is left, and what is held out."""
    left, held = {}, {}
    for name, paths in classes.items():
        ranked = sorted(paths, key=lambda path: hashlib.sha256(f"{split}/{name}/{Path(path).name}".encode()).digest())
        held[name], left[name] = sorted(ranked[: counts.get(name, 0)]), sorted(ranked[counts.get(name, 0) :])
    return left, held


def listed(classes, class_names, checked):
    pairs = [(path, class_names.index(name)) for name in sorted(classes) for path in classes[name]]
    paths = [path for path, _ in pairs]
    return Files(paths, [label for _, label in pairs], [checked[path].plain_jpeg for path in paths])


def twice(found, checked):
    """Pictures whose bytes stand under two classes."""
    places: dict[str, dict[str, str]] = {}
    for classes in found.values():
        for name, paths in classes.items():
            for path in paths:
                places.setdefault(checked[path].digest, {}).setdefault(name, path)
    return [" and ".join(sorted(paths.values())) for paths in places.values() if len(paths) > 1]
