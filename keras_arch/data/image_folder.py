"""Find the splits, classes and images in an image folder."""

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from ..errors import DataWarning, InputError
from ..images.find import children, images_in, is_image, warn_of_unused
from ..text import file_name_text, join_first
from .dataset import SPLIT_NAMES

ClassPaths = dict[str, list[str]]  # {class name: paths of its images}


class ImageFolder(NamedTuple):
    """The directories and images of each split. Without splits, all is training."""

    directories: dict[str, Path]  # {split: directory}; only the name of the split in a manifest
    images: dict[str, ClassPaths]  # {split: {class name: paths}}


class Contents(NamedTuple):
    """The contents of a directory."""

    images: ClassPaths  # {subdirectory: sorted paths of its images}
    others: list[Path]  # files in subdirectories that are not images
    loose: list[Path]  # images and broken or circular links outside subdirectories


def find_classes(folder: Path) -> ImageFolder:
    """Find the images of each split and class, and issue a `DataWarning` for unused files."""
    splits, real = split_directories(folder), folder.resolve()
    directories = splits or {"train": folder}
    contents = {
        split: read_contents(directory, (real, directory.resolve()))
        for split, directory in directories.items()
    }
    unused = [file for content in contents.values() for file in content.others + content.loose]
    if splits:
        outside = read_contents(folder, (real,), ignore=splits.values())
        unused = outside.loose + unused
        ignored = sorted(name for name, files in outside.images.items() if files)
        if ignored:
            warnings.warn(
                f"Unused directories in {folder}: {join_first(ignored)}. A split directory is "
                "named train, validation or test and has one directory per class.",
                DataWarning,
                stacklevel=2,
            )
    warn_of_unused(unused)
    return ImageFolder(directories, {split: content.images for split, content in contents.items()})


def split_directories(folder: Path) -> dict[str, Path]:
    """Return {split: directory}, or {} if the directories in `folder` are classes.

    A split directory has class directories. A class directory has images, so a class can have the
    name "train".

    Raises:
        InputError (a ValueError): a split has two directories, or training has none.
    """
    named = {
        split: [path for path in children(folder) if path.name.lower() in names and path.is_dir()]
        for split, names in SPLIT_NAMES.items()
    }
    for split, paths in named.items():
        if len(paths) > 1:
            raise InputError(
                f"{folder} has more than one directory for the {split} split. "
                f"Received: {', '.join(path.name for path in paths)}. Keep one or merge them."
            )
    single = {split: paths[0] for split, paths in named.items() if paths}
    splits = {split: path for split, path in single.items() if not is_class_directory(path)}
    if "train" in splits:
        return splits
    if splits or len(single) > 1:
        raise InputError(
            f"{folder} has split directories, but no directory train with one directory per class. "
            f"Received: {', '.join(sorted(path.name for path in single.values()))}. Move the "
            "training images to train/CLASS, or rename these directories if they are classes."
        )
    return {}


def is_class_directory(directory: Path) -> bool:
    """Return whether a directory has images and no directories."""
    entries = children(directory)
    return any(map(is_image, entries)) and not any(path.is_dir() for path in entries)


def read_contents(
    directory: Path, parents: Collection[Path], ignore: Collection[Path] = ()
) -> Contents:
    """Return the contents of a directory.

    Args:
        directory: the directory.
        parents: as in `keras_arch.images.find.walk`.
        ignore: entries of the directory to skip.
    """
    contents = Contents({}, [], [])
    for entry in children(directory):
        if entry in ignore:
            continue
        images, others = images_in(entry, parents)
        if entry.is_dir() and others != [entry]:
            contents.images[file_name_text(entry.name)] = sorted(map(str, images))
            contents.others.extend(others)
        else:
            contents.loose.extend(images + [path for path in others if not path.is_file()])
    return contents
