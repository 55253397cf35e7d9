"""Load image folders and CSV manifests.

An image folder is FOLDER/CLASS/image or FOLDER/train|validation|test/CLASS/image.
"""

import os
import warnings
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..class_names import check_class_names
from ..datasets import is_folder, is_manifest
from ..errors import DataWarning, InputError
from ..files import hash_of_json
from ..images.read import read_image
from ..text import join_first
from .check import CheckedImage, Problem, check_files, raise_problems
from .dataset import SPLITS, Dataset
from .folder_splits import (
    find_cross_class_copies,
    find_cross_split_copies,
    hold_out,
    remove_copies,
    remove_paths,
)
from .image_folder import ClassPaths, ImageFolder, find_classes, split_directories
from .manifest import has_splits, read_manifest
from .memory import empty_array
from .splits import InFiles, InMemory, fits_in_memory, height_and_width


class Files(NamedTuple):
    """The image files of one split, sorted by class and SHA-256."""

    paths: list[str]
    labels: list[int]
    plain_jpegs: list[bool]  # as in `CheckedImage`
    digests: list[str]  # SHA-256 of the files


class FolderFiles(NamedTuple):
    """The image files of an image folder or a manifest."""

    class_names: list[str]
    splits: dict[str, Files]  # of train, validation and test
    images: list[CheckedImage]  # of all splits


def find_files(
    folder: str | Path,
    skip_unreadable: bool = False,
    allow_duplicates: bool = False,
    allow_absent_classes: bool = False,
) -> FolderFiles:
    """Find and check the images of an image folder or a manifest, and divide them into splits.

    - Class names are the sorted names of the class directories, or the sorted labels.
    - Hidden files in directories are skipped. Links are followed.
    - Splits can have all names in `SPLIT_NAMES`, in any case.
    - `hold_out` fills a missing validation or test split with about a tenth of the training images.
    - Images are ordered by SHA-256, so file names have no effect.

    Args:
        folder: FOLDER/CLASS/image, FOLDER/train|validation|test/CLASS/image or a CSV manifest.
        skip_unreadable: skip images that cannot be decoded instead of raising InputError.
        allow_duplicates: remove copies of an image in another split instead of raising InputError.
            A copy in test is kept, then a copy in validation.
        allow_absent_classes: accept a single class, classes without images in a split, and empty
            splits.

    Raises:
        InputError (a ValueError): the directories or class names are not valid, a class or a split
            is empty, an image cannot be decoded, or an image is in two classes or splits. The
            details list the files.

    Warns:
        DataWarning: files or directories are not used, or copies were removed.
    """
    folder = Path(folder)
    found = read_manifest(folder) if is_manifest(folder) else find_classes(folder)
    splits = found.images
    class_names = sorted({name for classes in splits.values() for name in classes})
    with_images = {name for classes in splits.values() for name, files in classes.items() if files}
    if not with_images or (len(class_names) < 2 and not allow_absent_classes):
        layout, kind = (
            ("rows", "classes in its rows")
            if is_manifest(folder)
            else ("CLASS/image or train/CLASS/image", "class directories with images")
        )
        raise InputError(
            f"{folder} must have {layout} for two classes or more. "
            f"Received: {len(with_images)} {kind}, such as .jpg or .png."
        )
    check_class_names(class_names)
    checked = check_files(
        folder,
        [path for classes in splits.values() for paths in classes.values() for path in paths],
    )
    unreadable = [path for path in sorted(checked) if checked[path].error]
    if skip_unreadable:
        splits = remove_paths(splits, set(unreadable))
    copies = find_cross_split_copies(splits, checked)
    problems = [] if allow_absent_classes else find_class_problems(found, splits)
    if not skip_unreadable:
        files = [f"{path} ({checked[path].error})" for path in unreadable]
        option = "--skip-unreadable to skip such files"
        problems.append(Problem("an image that cannot be decoded", files, option))
    problems.append(Problem("an image in two classes", find_cross_class_copies(splits, checked)))
    if not allow_duplicates:
        files = [f"{path} and {other}" for path, other in sorted(copies.items())]
        option = "--allow-duplicates to keep one copy (in test if test has one)"
        problems.append(Problem("an image in two splits", files, option))
    raise_problems(folder, problems)
    if unreadable:
        start = folder.parent.resolve() if is_manifest(folder) else folder
        names = join_first([os.path.relpath(path, start) for path in unreadable])
        warnings.warn(
            f"Unreadable images that are not used: {len(unreadable)} ({names}).",
            DataWarning,
            stacklevel=2,
        )
    splits = remove_copies(folder, splits, copies)
    missing = [split for split in ("test", "validation") if split not in splits]
    splits = splits | hold_out(splits["train"], checked, missing)
    empty = [split for split, classes in splits.items() if not any(classes.values())]
    if len(empty) > (2 if allow_absent_classes else 0):
        raise InputError(
            f"{folder} needs a class with three images or more, one of them for validation and one "
            f"for test. Received: no images for {empty[0]}. Add images."
        )
    images = [
        checked[path] for classes in splits.values() for paths in classes.values() for path in paths
    ]
    files_of = {split: sort_files(splits[split], class_names, checked) for split in SPLITS}
    return FolderFiles(class_names, files_of, images)


def is_unsplit(name: str | Path) -> bool:
    """Return whether a data set is an image folder or a manifest without splits."""
    if is_manifest(name):
        return not has_splits(Path(name))
    return is_folder(name) and not split_directories(Path(name))


def find_class_problems(found: ImageFolder, readable: Mapping[str, ClassPaths]) -> list[Problem]:
    """Return the classes that have no images in a split.

    Args:
        found: all images.
        readable: {split: {class name: paths}} of the images to use.
    """
    class_names = sorted({name for classes in found.images.values() for name in classes})
    empty = [
        f"{found.directories[split] / name}"
        + (f" (none of its {len(paths)} images can be decoded)" if paths else "")
        for split, classes in found.images.items()
        for name, paths in classes.items()
        if not readable[split][name]
    ]
    absent = [
        f"{name} (not in {split})"
        for split, classes in found.images.items()
        for name in class_names
        if name not in classes
    ]
    return [Problem("an empty class", empty), Problem("a class that is not in all splits", absent)]


def sort_files(
    classes: ClassPaths, class_names: list[str], checked: Mapping[str, CheckedImage]
) -> Files:
    """Return the files of a split, sorted by class and SHA-256."""
    paths_and_labels = [
        (path, class_names.index(name))
        for name in sorted(classes)
        for path in sorted(classes[name], key=lambda path: (checked[path].digest, path))
    ]
    paths = [path for path, _ in paths_and_labels]
    return Files(
        paths,
        [label for _, label in paths_and_labels],
        [checked[path].plain_jpeg for path in paths],
        [checked[path].digest for path in paths],
    )


def fingerprint_of(class_names: list[str], splits: Mapping[str, Files]) -> str:
    """Return the SHA-256 of split, class and content of each image. File names have no effect."""
    return hash_of_json(
        [
            [split, class_names[label], digest]
            for split, files in splits.items()
            for label, digest in zip(files.labels, files.digests, strict=True)
        ]
    )


def load_folder(
    folder: str | Path,
    image_size: int | tuple[int, int] | None,
    skip_unreadable: bool,
    keep: Collection[str],
    allow_duplicates: bool,
    allow_absent_classes: bool,
) -> Dataset:
    """Load an image folder or a manifest. The arguments are those of `load_dataset`."""
    class_names, splits, images = find_files(
        folder, skip_unreadable, allow_duplicates, allow_absent_classes
    )
    sizes = {image.size for image in images}
    height, width = height_and_width(image_size) if image_size else next(iter(sizes))[::-1]
    if not image_size and len(sizes) > 1:
        raise InputError(
            f"`image_size` must be given if images differ in size. Received: {len(sizes)} sizes in "
            f"{folder}. Pass --image-size, such as 224."
        )
    image_shape = (height, width, 1 if all(image.gray for image in images) else 3)

    def read(split):
        files = splits[split]
        labels = np.array(files.labels, "int64")
        if split not in keep or not fits_in_memory(len(images), image_shape):
            return InFiles(files.paths, labels, image_shape, np.array(files.plain_jpegs))
        pixels = empty_array((len(labels), *image_shape))

        def load(number):
            pixels[number] = read_image(files.paths[number], image_shape)

        with ThreadPoolExecutor() as pool:
            list(pool.map(load, range(len(pixels))))
        return InMemory(pixels, labels, files.paths)

    train, validation, test = map(read, SPLITS)
    source = Path(folder).resolve()
    return Dataset(
        source.stem if is_manifest(source) else source.name,
        train,
        validation,
        test,
        tuple(class_names),
        image_shape,
        fingerprint_of(class_names, splits),
    )
