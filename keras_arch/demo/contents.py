"""What a page contains: exported files, test images and Python's predictions of them."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from ..artifacts.open import open_artifact
from ..errors import DataWarning, InputError, first_line
from ..evaluation.ranking import top_classes
from ..images.find import find_images
from ..images.read import read_image
from ..published import DEMO
from ..runs.fields import check_fields
from ..runs.folder import data_name
from ..runs.record import read_run

BUDGET = 8_000_000  # bytes of all files. Above it, the page has one file
TOP = 5  # classes of Python's predictions
# Maximum difference from Python. With dynamic quantization, each processor rounds the ranges of the
# activations in its own way.
LIMIT, DYNAMIC_LIMIT = 1e-4, 0.05


class ImagesRecord(TypedDict):
    """Where images come from. None: arrays."""

    data: str | None
    split: Literal["train", "validation", "test", "all", "calibration"] | None


class FileRecord(TypedDict):
    """A file in export.json."""

    file: str
    bytes: int | None
    problems: tuple[str, ...]
    refused: str | None


class ExportRecord(TypedDict):
    """Fields of export.json that a page needs. The file has more fields."""

    model: str
    dataset: str | None
    image_size: tuple[int, ...]
    verification: ImagesRecord
    artifacts: dict  # {format: FileRecord}


@dataclass(frozen=True)
class ExportedFile:
    """A .tflite file, and what Python predicts with it."""

    name: str
    content: bytes
    answers: list[list[tuple[int, float]]]
    """(class, probability) of the most probable classes of each test image."""
    limit: float
    """Maximum difference from Python's probabilities."""


@dataclass(frozen=True)
class Samples:
    """Test images that the page classifies, and compares with Python."""

    pixels: np.ndarray
    """uint8 (count, height, width, channels)."""
    class_names: Sequence[str]
    """Name of the true class of each image."""
    ground: int | None = None
    """Background of grayscale images, 0-255. None: images are in color."""


@dataclass(frozen=True)
class Contents:
    """What a page contains."""

    title: str
    files: list[ExportedFile]
    samples: Samples
    classes: int
    calibration: dict[str, Any] | None = None
    """The "calibration" of run.json. None: the run is not calibrated."""


def open_demo() -> Contents:
    """Return the contents of the model in this package: its int8 file and test images."""
    artifact = open_artifact(DEMO)
    paths = find_images([DEMO.parent / "test_images"])  # NUMBER_CLASS.jpg
    height, width, _ = artifact.image_shape
    pixels = np.array([read_image(path, (height, width, 3)) for path in paths])
    samples = Samples(pixels, [path.stem.partition("_")[2] for path in paths])
    files = [read_file(DEMO, samples, LIMIT)]
    return Contents("ResNet-20 on CIFAR-10", files, samples, artifact.classes)


def open_files(folder: Path, report: dict[str, Any], samples: Samples) -> Contents:
    """Return the contents of an export directory.

    Args:
        folder: export directory.
        report: content of its export.json, from `read_export`.
        samples: test images.
    """
    data = report["dataset"]
    title = report["model"] if data is None else f"{report['model']} on {data_name(data)}"
    rows = tflite_files(report)
    files = [
        read_file(
            folder / rows[name]["file"], samples, DYNAMIC_LIMIT if name == "dynamic" else LIMIT
        )
        for name in choose_formats(report)
    ]
    run = find_run(folder)
    calibration = None if run is None else read_run(run).get("calibration")
    classes = open_artifact(folder / files[0].name).classes
    return Contents(title, files, samples, classes, calibration)


def find_export(path: Path) -> Path:
    """Return the export directory of a run, or `path` if it is an export directory.

    Raises:
        InputError (a ValueError): there is no export.json.
    """
    for folder in (path / "export", path):
        if (folder / "export.json").is_file():
            return folder
    if path.is_dir():
        received = "no export.json in it"
    else:
        received = "a file" if path.exists() else "no such directory"
    raise InputError(
        f"{path} must be a run directory with an export, or an export directory. "
        f"Received: {received}. Run keras-arch export first."
    )


def find_run(folder: Path) -> Path | None:
    """Return the run directory of an export directory, or None if it is of a .keras file."""
    parent = folder.resolve().parent
    return parent if folder.resolve().name == "export" and (parent / "run.json").is_file() else None


def read_export(folder: Path) -> dict[str, Any]:
    """Return the content of export.json. Its .tflite files passed verification.

    Raises:
        InputError (a ValueError): export.json is damaged, a file failed or has changed, or no file
            is a .tflite file.
    """
    try:
        report = json.loads((folder / "export.json").read_text(encoding="utf-8"))
        check_fields("", report, ExportRecord)
        for name, row in report["artifacts"].items():
            check_fields(f"artifacts.{name}", row, FileRecord)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{folder / 'export.json'} is damaged or from another version. "
            f"Received: {first_line(error).rstrip('.')}. Export the model again."
        ) from error
    files = tflite_files(report)
    problems = [f"{row['file']} failed verification" for row in files.values() if row["problems"]]
    problems += [
        f"{row['file']} is missing or has another size than export.json states"
        for row in files.values()
        if is_changed(folder, row)
    ]
    if problems or not files:
        problem = problems[0] if problems else "none"
        raise InputError(
            f"{folder} must have .tflite files that passed verification. Received: {problem}. "
            "Export the model again."
        )
    return report


def tflite_files(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return {format: row} of the .tflite files in the content of export.json."""
    return {
        name: row
        for name, row in report["artifacts"].items()
        if row["file"].endswith(".tflite") and not row["refused"]
    }


def is_changed(folder: Path, row: dict[str, Any]) -> bool:
    """Return whether a file is missing or has another size than its row in export.json."""
    path = folder / row["file"]
    return not path.is_file() or path.stat().st_size != row["bytes"]


def choose_formats(report: dict[str, Any]) -> list[str]:
    """Return the formats that fit the page, the one that it opens with first.

    Warns:
        DataWarning: they are larger than `BUDGET`, so the page has one file.
    """
    sizes = {name: row["bytes"] for name, row in tflite_files(report).items()}
    total = sum(sizes.values())
    if total <= BUDGET:
        return sorted(sizes, key=lambda name: (name != "float32", [*sizes].index(name)))
    chosen = "int8" if "int8" in sizes else min(sizes, key=lambda name: sizes[name])
    if len(sizes) > 1:
        warnings.warn(
            f"The page contains {report['artifacts'][chosen]['file']} only. Received: "
            f"{total / 1e6:.1f} MB in {len(sizes)} files, more than {BUDGET / 1e6:.0f} MB. "
            "The page opens the others from disk.",
            DataWarning,
            stacklevel=2,
        )
    return [chosen]


def read_file(path: Path, samples: Samples, limit: float) -> ExportedFile:
    """Read a .tflite file, and classify the test images with it."""
    artifact = open_artifact(path)
    # A model of color images takes grayscale images. The reverse is an error of `predict`.
    channels = max(artifact.image_shape[2] or 0, samples.pixels.shape[3])
    images = np.broadcast_to(samples.pixels, (*samples.pixels.shape[:3], channels))
    probabilities = artifact.predict(images)
    order = top_classes(probabilities, TOP)
    answers = [
        [(int(label), float(row[label])) for label in labels]
        for row, labels in zip(probabilities, order, strict=True)
    ]
    return ExportedFile(path.name, path.read_bytes(), answers, limit)
