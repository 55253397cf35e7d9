"""Folders of pictures: FOLDER/CLASS/picture, or FOLDER/train|validation|test/CLASS/picture."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..images import SUFFIXES, hidden, pictures_in
from .check import check_files, report

SPLITS = ("train", "validation", "test")
SHARE = 0.1  # of each class, to validation and to test, where the folder does not say


class Files(NamedTuple):
    """Pictures of one split, the number of the class of each, and which TensorFlow may decode."""

    paths: list[str]
    labels: list[int]
    plain_jpegs: list[bool]


def find_files(folder, skip_unreadable=False):
    """Find, check and split the pictures of `folder`.

    Class names are the names of the folders, sorted; names that begin with a dot are skipped; links are followed.
    Where there is no folder for validation or test, each class gives a tenth of its training pictures, drawn by a hash
    of their names: nothing changes for a class when pictures are added to another.

    Args:
        folder: FOLDER/CLASS/picture, or FOLDER/train|validation|test/CLASS/picture.
        skip_unreadable: leave out pictures that cannot be decoded instead of refusing the folder.

    Returns:
        class_names, {"train": Files, "validation": Files, "test": Files}, and a `Checked` for each of their pictures.

    Raises:
        InputError (a ValueError): no pictures, an empty class, a class that is not in every split, pictures that cannot
            be decoded, the same picture under two classes; `details` name the files.
    """
    folder = Path(folder)
    given = [split for split in SPLITS if (folder / split).is_dir()] if (folder / "train").is_dir() else []
    found = {split: classes_of(folder / split) for split in given} or {"train": classes_of(folder)}
    class_names = sorted({name for classes in found.values() for name in classes})
    if len(class_names) < 2 or not any(files for classes in found.values() for files in classes.values()):
        raise InputError(
            f"expected {folder}/CLASS/picture, or {folder}/train/CLASS/picture, for two classes or more, got "
            f"{len(class_names)} folders with pictures ({', '.join(sorted(SUFFIXES))})"
        )
    places = {split: folder / split if given else folder for split in found}
    problems = {
        "an empty class": [
            str(places[split] / name) for split, classes in found.items() for name in classes if not classes[name]
        ],
        "a class that is not in every split": [
            f"{name} (not in {split})"
            for split, classes in found.items()
            for name in class_names
            if name not in classes
        ],
    }
    checked = check_files(folder, [path for classes in found.values() for files in classes.values() for path in files])
    unreadable = {path for path, result in checked.items() if result.error}
    if not skip_unreadable:
        problems["a picture that cannot be decoded"] = [
            f"{path} ({checked[path].error})" for path in sorted(unreadable)
        ]
    problems["one picture under two classes"] = twice(found, checked)
    report(folder, problems)
    found = {
        split: {name: [path for path in files if path not in unreadable] for name, files in classes.items()}
        for split, classes in found.items()
    }
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


def classes_of(folder):
    """{class: sorted paths of its pictures}."""
    return {
        entry.name: sorted(map(str, pictures_in(entry)))
        for entry in folder.iterdir()
        if entry.is_dir() and not hidden(Path(entry.name))
    }


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
