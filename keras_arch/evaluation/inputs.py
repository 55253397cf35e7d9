"""List the images to classify: files, directories and manifests, or a slice of them."""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ..data.table import read_paths
from ..datasets import is_manifest
from ..errors import InputError
from ..images import find
from ..text import brief

MAX_SLICES = 1_000_000


class Slice(NamedTuple):
    """Every `total`-th image, from image `number` on. The slices 1 to `total` are all images.

    Images of a directory often have about the same size. Each slice has images of all directories,
    so all slices take about the same time.
    """

    number: int
    total: int

    def of(self, paths: Sequence[Path]) -> Sequence[Path]:
        """Return the images of this slice. It has none if there are fewer images than slices."""
        return paths[self.number - 1 :: self.total]

    def __str__(self):
        return f"{self.number}/{self.total}"


ALL = Slice(1, 1)


def parse_slice(text: str) -> Slice:
    """Return the slice of a text such as "3/8".

    Raises:
        InputError (a ValueError): the text is not K/N with 1 <= K <= N.
    """
    match = re.fullmatch(r"([0-9]{1,7})/([0-9]{1,7})", text)
    found = Slice(*map(int, match.groups())) if match else None
    if found is None or not 1 <= found.number <= found.total <= MAX_SLICES:
        raise InputError(
            f"--shard must be K/N with K from 1 to N, and N up to {MAX_SLICES:,}. "
            f"Received: {brief(text)}. Pass 1/8 for the first of 8 slices, for example."
        )
    return found


def list_images(paths: Iterable[Path]) -> list[Path]:
    """Return the paths of the images in files, directories and manifests.

    Args:
        paths: image files, directories or CSV files with a column "path".

    Returns:
        Paths in the order of `paths`. Images of a directory are sorted, those of a manifest are in
        its order. Images of a manifest may not exist.

    Raises:
        InputError (a ValueError): a directory or a manifest has no images or cannot be read.
    """
    found: list[Path] = []
    for are_manifests, group in groupby(paths, is_manifest):
        some = list(group)
        found += read_manifests(some) if are_manifests else find.find_images(some)
    return found


def read_manifests(paths: Iterable[Path]) -> list[Path]:
    """Return the paths of the images in manifests, at least one of each."""
    found: list[Path] = []
    for path in paths:
        images = read_paths(path)
        if not images:
            raise InputError(f"{path} has no images. Received: only a header. Add a row for each.")
        found += images
    return found
