"""Content of export.json, the record of an export."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import VerificationError
from ..formats import FORMATS, ExportSettings
from ..machine import available_cores, cpu_name, git_commit, version_of
from .source import ImageSet
from .verification.result import FileVerification
from .verification.spec import FileSpec


@dataclass(frozen=True)
class ExportInputs:
    """Model and images that an export used."""

    model: str
    """Name of the model."""
    version: str
    """Version of the weights."""
    dataset: str | None
    """Dataset that the model was trained on. None: unknown."""
    image_size: tuple[int, int]
    """Height and width in pixels."""
    calibration: ImageSet
    verification: ImageSet
    top1: float | None
    """Top-1 accuracy of the Keras model on the verification images, 0-1. None: no labels."""
    learned: bool = False
    """Whether the ranges of the int8 file are those of the training."""


def describe_export(
    inputs: ExportInputs,
    settings: ExportSettings,
    specs: dict[str, FileSpec],
    results: dict[str, FileVerification],
) -> dict[str, Any]:
    """Return the content of export.json.

    Args:
        inputs: model and images that the export used.
        settings: settings of the export.
        specs: {format name: `FileSpec`} of the files that were written.
        results: {format name: `FileVerification`}, also of refused formats.
    """
    return {
        "model": inputs.model,
        "version": inputs.version,
        "license": settings.license,
        "image_size": list(inputs.image_size),
        "dataset": inputs.dataset,
        "pixels": [0, 255],
        "calibration": {
            **record_images(inputs.calibration),
            "seed": settings.seed,
            "augmented": False,
        },
        "verification": {
            **record_images(inputs.verification),
            "seed": settings.seed,
            "max_drop": settings.max_drop,
            "top1": inputs.top1,
        },
        "keep_float": list(settings.keep_float),
        "int8_ranges": "learned" if inputs.learned else "calibrated",
        "artifacts": {
            name: describe_file(name, result, specs.get(name)) for name, result in results.items()
        },
        "versions": {
            name: version_of(name) for name in ("keras", "tensorflow", "ai-edge-litert", "numpy")
        },
        "hardware": {"processor": cpu_name(), "cores": available_cores()},
        "git_commit": git_commit(),
    }


def record_images(images: ImageSet) -> dict[str, Any]:
    """Return where images come from, and their number. None: arrays."""
    return {"data": images.data, "split": images.split, "images": len(images.pixels)}


def describe_file(name: str, result: FileVerification, spec: FileSpec | None) -> dict[str, Any]:
    """Return the row of a file in export.json. A refused format has no `spec`."""
    return {
        **asdict(result),
        "purpose": FORMATS[name].purpose,
        "inputs": [asdict(tensor) for tensor in spec.inputs] if spec else [],
        "outputs": [asdict(tensor) for tensor in spec.outputs] if spec else [],
    }


def describe_refusal(name: str, reason: str) -> FileVerification:
    """Return the result for a format that the converter could not write."""
    form = FORMATS[name]
    problem = f"file: the converter cannot write it. Received: {reason}."
    return FileVerification(form.file, problems=() if form.optional else (problem,), refused=reason)


def list_problems(report: dict[str, Any]) -> list[str]:
    """Return all problems in the content of export.json, each after the name of its file."""
    return [
        f"{row['file']}: {problem}"
        for row in report["artifacts"].values()
        for problem in row["problems"]
    ]


def raise_problems(folder: Path, report: dict[str, Any]) -> None:
    """Raise VerificationError if a file has problems. It names the quantized formats that failed.

    Args:
        folder: export directory.
        report: content of export.json.
    """
    failed = [name for name, row in report["artifacts"].items() if row["problems"]]
    quantized = [name for name in failed if not FORMATS[name].exact]
    passed = len(failed) < len(report["artifacts"])
    fix = f"Leave {' and '.join(quantized)} out of `formats` (--formats)."
    if failed:
        raise VerificationError(
            folder, list_problems(report), fix if quantized == failed and passed else ""
        )


def smallest_file(report: dict[str, Any]) -> str:
    """Return the name of the smallest file in the content of export.json."""
    written = [row for row in report["artifacts"].values() if row["bytes"] is not None]
    return min(written, key=lambda row: row["bytes"])["file"]
