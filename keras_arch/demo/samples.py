"""Test images for a page, from the data of a run or of another export."""

from pathlib import Path
from typing import Any

import numpy as np

from ..data.dataset import SPLITS, Dataset
from ..data.folders import is_unsplit
from ..data.load import load_dataset
from ..datasets import is_folder
from ..errors import InputError
from ..export.run import load_run_data
from ..runs.record import read_run
from .contents import Samples, find_run

LARGE_SIDE = 64  # pixels. The page has fewer test images that are larger
IMAGES, LARGE_IMAGES = 12, 6  # test images
BORDER_IMAGES = 100  # images whose border is the ground of drawings


def load_samples(
    folder: Path, report: dict[str, Any], test: str | None, data_dir: str | Path | None
) -> Samples:
    """Return test images for the page of an export.

    Args:
        folder: export directory, of a run or of a .keras file.
        report: content of export.json.
        test: name of the test images. None: those that verified the export.
        data_dir: directory of TFDS datasets. None: the directory that the run used.

    Raises:
        InputError (a ValueError): the data do not exist, have changed or are unknown.
    """
    size = tuple(report["image_size"])
    run_folder = find_run(folder)
    if test is None and run_folder is not None:
        run = read_run(run_folder)
        return select_samples(load_run_data(run_folder, run, size, data_dir), "test")
    verified = report["verification"]
    name, split = verified["data"], verified["split"]
    if test is not None:
        name, split = test, "all" if is_unsplit(test) else "test"
    if name is None or split == "calibration":
        raise InputError(
            f"--test is required for {folder}. Received: an export that arrays of images verified. "
            "Pass test images, such as an image folder."
        )
    data = load_dataset(
        name,
        data_dir,
        size,
        keep=() if is_folder(name) else SPLITS,
        allow_duplicates=True,
        allow_absent_classes=True,
    )
    return select_samples(data, split)


def select_samples(data: Dataset, split: str) -> Samples:
    """Return some images of a split."""
    images = getattr(data, split)
    if not images.count:
        raise InputError(
            f"Data set {data.name!r} has no images in its split. Received: {split}. Add images."
        )
    chosen = choose_images(np.asarray(images.labels), max(data.image_shape[:2]))
    pixels, labels = images.at(chosen)
    ground = None
    if data.image_shape[2] == 1:
        ground = median_of_border(images.sample(BORDER_IMAGES, seed=0)[0])
    return Samples(pixels, [data.class_names[label] for label in labels], ground)


def choose_images(labels: np.ndarray, side: int) -> np.ndarray:
    """Return indices of test images: one of each class first, then others.

    Args:
        labels: labels of all test images.
        side: longer side of an image in pixels.
    """
    count = LARGE_IMAGES if side > LARGE_SIDE else IMAGES
    order = np.random.default_rng(0).permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    rest = np.setdiff1d(np.arange(len(order)), first)
    return order[[*first, *rest][:count]]


def median_of_border(images: np.ndarray) -> int:
    """Return the median of the outermost pixels of images (count, height, width, 1)."""
    border = np.ones(images.shape[1:3], bool)
    border[1:-1, 1:-1] = False
    return int(np.median(images[:, border]))
