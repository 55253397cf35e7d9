"""export.json: what an export says about itself."""

from importlib.metadata import version

from ..formats import FORMATS
from ..machine import available_cores, cpu_name, git_commit


def describe_export(model_name, weights_version, run, settings, images, promises, refused, rows):
    """The content of export.json.

    Args:
        model_name: what the model is called.
        weights_version: of `version_of`.
        run: what `read_run` gave.
        settings: the `ExportSettings` of the export.
        images: {"calibration": number of images, "proof": number of images, "top1": of the Keras model on them, "size":
            (height, width)}.
        promises, refused: what `export_model` returned.
        rows: what `prove` returned.
    """
    artifacts = {
        name: {
            **rows[name],
            "purpose": FORMATS[name].purpose,
            "inputs": promises[name].inputs,
            "outputs": promises[name].outputs,
        }
        for name in promises
    }
    for name, reason in refused.items():
        problems = (
            [] if FORMATS[name].optional else [f"file: the converter cannot write it ({reason})"]
        )
        artifacts[name] = {"file": FORMATS[name].file, "problems": problems, "refused": reason}
    return {
        "model": model_name,
        "version": weights_version,
        "license": settings.license,
        "image_size": images["size"],
        "dataset": run["recipe"].dataset,
        "calibration": {
            "split": "train",
            "images": images["calibration"],
            "seed": settings.seed,
            "augmented": False,
        },
        "proof": {
            "split": "test",
            "images": images["proof"],
            "seed": settings.seed,
            "max_drop": settings.max_drop,
            "top1": images["top1"],
        },
        "keep_float": list(settings.keep_float),
        "artifacts": artifacts,
        "versions": {
            name: version(name) for name in ("keras", "tensorflow", "ai-edge-litert", "numpy")
        },
        "hardware": {"processor": cpu_name(), "cores": available_cores()},
        "git_commit": git_commit(),
    }


def list_problems(report):
    """All that is wrong, a line each, the file first."""
    return [
        f"{row['file']}: {problem}"
        for row in report["artifacts"].values()
        for problem in row["problems"]
    ]


def smallest_file(report):
    """The name of the smallest file that was written."""
    return min(
        (row for row in report["artifacts"].values() if "bytes" in row),
        key=lambda row: row["bytes"],
    )["file"]
