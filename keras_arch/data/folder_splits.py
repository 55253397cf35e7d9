"""Divide the images of an image folder into splits, and keep copies of an image in one split."""

import hashlib
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from ..errors import DataWarning, InputError
from .check import CheckedImage
from .image_folder import ClassPaths

HELD_OUT_SHARE = 0.1  # of the images of a class, on average, for each missing split
MIN_CLASS_SIZE = 3  # different images; a smaller class stays in training


def hold_out(
    classes: ClassPaths, checked: Mapping[str, CheckedImage], splits: Sequence[str]
) -> dict[str, ClassPaths]:
    """Divide the images of each class into held-out splits and training.

    A hash of the content places each image between 0 and 1. The first split gets the images below
    0.1, the second those from 0.1 to 0.2, and training the others. If a split gets no image of a
    class, it takes the next image in the order of the hashes.

    - Copies of an image are in the same split. File names have no effect.
    - New images do not move another image out of training. Exceptions are classes that had fewer
      than `MIN_CLASS_SIZE` different images, or only one in training.

    Args:
        classes: {class name: paths}.
        checked: {path: `CheckedImage`}.
        splits: names of the held-out splits. May be empty.

    Returns:
        {split: {class name: paths}} for `splits` and "train".
    """
    divided: dict[str, ClassPaths] = {
        split: {name: [] for name in classes} for split in (*splits, "train")
    }
    split_names = list(divided)
    for name, paths in classes.items():
        positions = [split_position(checked[path].digest) for path in paths]
        ranked = sorted(set(positions))
        ends = [0] * len(splits) + [len(ranked)]  # end of each split in `ranked`
        if len(ranked) >= MIN_CLASS_SIZE:
            for place in reversed(range(len(splits))):
                below = bisect_left(ranked, (place + 1) * HELD_OUT_SHARE)
                ends[place] = min(max(below, place + 1), ends[place + 1] - 1)
        for path, position in zip(paths, positions, strict=True):
            split = split_names[bisect_right(ends, bisect_left(ranked, position))]
            divided[split][name].append(path)
    return divided


def split_position(digest: str) -> float:
    """Map a digest to a uniform number from 0 to 1."""
    return int.from_bytes(hashlib.sha256(f"split {digest}".encode()).digest()[:8]) / 2**64


def find_cross_class_copies(
    splits: Mapping[str, ClassPaths], checked: Mapping[str, CheckedImage]
) -> list[str]:
    """Return "PATH and PATH" for each content that is in two classes."""
    paths_of: dict[str, dict[str, str]] = {}  # {digest: {class name: path}}
    for classes in splits.values():
        for name, paths in classes.items():
            for path in paths:
                paths_of.setdefault(checked[path].digest, {}).setdefault(name, path)
    return [" and ".join(sorted(paths.values())) for paths in paths_of.values() if len(paths) > 1]


def find_cross_split_copies(
    splits: Mapping[str, ClassPaths], checked: Mapping[str, CheckedImage]
) -> dict[str, str]:
    """Return {path to remove: path of the same content in another split}.

    Copies in test are kept, then copies in validation.
    """
    first: dict[str, tuple[str, str]] = {}  # {digest: (split, path)}
    copies = {}
    for split in ("test", "validation", "train"):
        for paths in splits.get(split, {}).values():
            for path in paths:
                other_split, other = first.setdefault(checked[path].digest, (split, path))
                if other_split != split:
                    copies[path] = other
    return copies


def remove_paths(
    splits: Mapping[str, ClassPaths], removed: Collection[str]
) -> dict[str, ClassPaths]:
    """Return `splits` without the paths in `removed`."""
    return {
        split: {
            name: [path for path in paths if path not in removed] for name, paths in classes.items()
        }
        for split, classes in splits.items()
    }


def remove_copies(
    folder: Path, splits: dict[str, ClassPaths], copies: Mapping[str, str]
) -> dict[str, ClassPaths]:
    """Return `splits` without the paths in `copies`, and issue a `DataWarning` that counts them."""
    if not copies:
        return splits
    kept = remove_paths(splits, copies)
    emptied = [
        f"{name} in {split}"
        for split, classes in splits.items()
        for name, paths in classes.items()
        if paths and not kept[split][name]
    ]
    if emptied:
        raise InputError(
            f"--allow-duplicates would leave classes of {folder} without images. "
            f"Received: {len(emptied)} classes whose images are all also in another split. "
            "Add other images to them.",
            details=emptied,
        )
    before, after = count_paths(splits), count_paths(kept)
    counts = [
        f"{before[split] - after[split]:,} of {before[split]:,} from {split}"
        for split in splits
        if split != "test"
    ]
    warnings.warn(
        f"{folder}: removed images that are also in another split: {', '.join(counts)}.",
        DataWarning,
        stacklevel=2,
    )
    return kept


def count_paths(splits: Mapping[str, ClassPaths]) -> dict[str, int]:
    """Return {split: number of images}."""
    return {split: sum(map(len, classes.values())) for split, classes in splits.items()}
