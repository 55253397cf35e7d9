"""Verify exported files: run each on held-out images in a process without keras_arch."""

import io
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from ...class_names import LABELS, check_class_names, read_labels
from ...errors import InputError, first_line, is_disk_full
from ...files import check_folder, plain_path, size_of
from ...images.resize import resize
from ...models import are_probabilities
from ..checks import check_labels, check_raw_images
from .checks import (
    check_predictions,
    check_server,
    compare_names,
    compare_tensors,
    measure_predictions,
    measure_simulation,
)
from .graph import read_tflite
from .process import THREADS, Process, run_job, start_early, start_process, wait_for_import
from .result import FileVerification, Latency
from .spec import FileSpec, TensorSpec

LATENCY_RUNS = 50  # images at batch size 1
SECONDS = 60  # approximate time limit for the predictions of one file
ENCODED_IMAGES = 8  # held-out images that `serve_bytes` receives as larger PNG files


@dataclass(frozen=True)
class Reference:
    """Images and the Keras model's probabilities for them."""

    images: np.ndarray
    """uint8 (count, height, width, channels), 0-255."""
    labels: np.ndarray | None
    """(count,) integer classes. None: unknown, so the accuracy is not measured."""
    probabilities: np.ndarray
    """(count, classes)."""
    class_names: Sequence[str]
    max_drop: float = 1.0
    """Maximum drop in top-1 accuracy, in percentage points, 0-100. Requires labels."""
    simulated: np.ndarray | None = None
    """(count, classes), of the copy that simulates the int8 file. None: ranges are not learned."""


def verify(
    folder: str | Path,
    specs: dict[str, FileSpec],
    reference: Reference,
    progress: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> dict[str, FileVerification]:
    """Verify every file of an export.

    Args:
        folder: export directory.
        specs: {format name: `FileSpec`}, as returned by `export_model`.
        reference: images and probabilities to compare with.
        progress: function of the items of `specs` and their number that returns the items.

    Returns:
        {format name: `FileVerification`}.

    Raises:
        InputError (a ValueError): the directory does not exist, `specs` or `reference` is of
            another type, the images are not integers of 0-255, the reference does not hold
            probabilities, its labels are not integers from 0 to classes - 1, or the number of its
            images, labels and probabilities differs.

    Example:
        specs, refused = keras_arch.export_model(model, "export", names, train_images)
        probabilities = model.predict(test_images)
        reference = keras_arch.Reference(test_images, test_labels, probabilities, names)
        results = keras_arch.verify("export", specs, reference)
        assert not results["float32"].problems
    """
    folder, reference = check_folder(folder), check_reference(reference)
    if not isinstance(specs, dict) or not all(isinstance(one, FileSpec) for one in specs.values()):
        raise InputError(
            "`specs` must be a dict of `keras_arch.FileSpec`, as `export_model` returns. "
            f"Received: {type(specs).__name__}."
        )
    with start_early({spec.kind for spec in specs.values()}) as started:
        return verify_files(folder, specs, reference, started, progress)


def verify_files(
    folder: Path,
    specs: dict[str, FileSpec],
    reference: Reference,
    started: list[Process],
    progress: Callable[[Iterable, int], Iterable],
) -> dict[str, FileVerification]:
    """Verify every file of an export.

    Args:
        folder, specs, reference, progress: see `verify`.
        started: what `start_early` returned. The processes are taken out of the list.
    """
    for process in started:
        wait_for_import(process)
    with tempfile.TemporaryDirectory() as scratch:
        return {
            name: verify_file(folder / spec.file, spec, reference, Path(scratch), started)
            for name, spec in progress(specs.items(), len(specs))
        }


def check_reference(reference: Reference) -> Reference:
    """Return the reference as arrays and texts, or raise InputError if it is not valid."""
    if not isinstance(reference, Reference):
        raise InputError(
            f"`reference` must be `keras_arch.Reference`. Received: {type(reference).__name__}."
        )
    names = check_class_names(reference.class_names)
    images = check_raw_images(reference.images, "images")
    probabilities = np.asarray(reference.probabilities)
    if probabilities.shape != (len(images), len(names)):
        raise InputError(
            f"`reference` must have probabilities of shape {(len(images), len(names))}, for each "
            f"image and class name. Received: shape {probabilities.shape}."
        )
    if not are_probabilities(probabilities):
        raise InputError(
            "`reference` must hold probabilities. Received: rows that do not sum to 1. "
            "End the model with a softmax."
        )
    labels = reference.labels
    if labels is not None:
        labels = check_labels(labels, len(images), len(names), "reference")
    return replace(
        reference,
        images=check_integers(images),
        labels=labels,
        probabilities=probabilities,
        class_names=names,
    )


def check_integers(images: np.ndarray) -> np.ndarray:
    """Return images of 0-255 as uint8, or raise InputError if a pixel is not an integer."""
    pixels = images.astype("uint8")
    if not np.array_equal(pixels, images):
        raise InputError(
            "The images of `reference` must be integers of 0-255, as files with integer "
            f"input take. Received: {images.dtype} with fractions. Round the images, then compute "
            "the probabilities."
        )
    return pixels


def verify_file(
    path: Path, spec: FileSpec, reference: Reference, scratch: Path, started: list[Process]
) -> FileVerification:
    """Verify one file. `scratch` is a temporary directory, `started` as in `verify_files`."""
    problems, operators = check_contents(path, spec, reference.class_names)
    result = FileVerification(spec.file, size_of(path), operators=operators)
    file = save_images(reference.images, spec.inputs[0].shape[-1], scratch)
    output = scratch / "probabilities.npy"
    runs = {
        threads: run_probe(
            path,
            spec.kind,
            threads,
            file,
            reference.images,
            output if threads == THREADS[-1] else None,
            started,
        )
        for threads in THREADS
    }
    last = runs[THREADS[-1]]
    if "outputs" in last:
        names = last.get("signature", {})
        for what, expected in (("input", spec.inputs), ("output", spec.outputs)):
            found = [read_tensor(tensor) for tensor in last[f"{what}s"]]
            problems += compare_tensors(what, found, expected, names.get(f"{what}s"))
    if errors := [run["error"] for run in runs.values() if "error" in run]:
        if is_disk_full(errors[-1]):
            raise InputError(
                f"{path} cannot run. Received: {first_line(errors[-1])}. Free disk space."
            )
        problems.append(f"file: cannot run. Received: {first_line(errors[-1])}.")
        return replace(result, problems=tuple(problems))
    if spec.kind == "onnx":
        problems += compare_names(last["labels"], reference.class_names)
    probabilities, expected_shape = np.load(output), reference.probabilities.shape[1:]
    if probabilities.shape[1:] != expected_shape or not np.isfinite(probabilities).all():
        problems.append(
            f"output: must be {expected_shape[0]} finite numbers for each image. "
            f"Received: shape={probabilities.shape}."
        )
        return replace(result, problems=tuple(problems))
    if spec.kind == "saved_model":
        problems += check_server(
            last["differences"],
            last["classes"],
            last["labels"],
            probabilities,
            reference.class_names,
        )
    count = len(probabilities)  # a slow file reaches the time limit before the last image
    labels = None if reference.labels is None else reference.labels[:count]
    metrics = measure_predictions(probabilities, reference.probabilities[:count], labels)
    if spec.integers and reference.simulated is not None:
        share = measure_simulation(probabilities, reference.simulated[:count])
        metrics = replace(metrics, simulated=share)
    problems += check_predictions(metrics, spec, reference.max_drop)
    return replace(
        result,
        problems=tuple(problems),
        metrics=metrics,
        latency_ms={str(threads): Latency(*run["latency_ms"]) for threads, run in runs.items()},
        peak_memory=last["peak_memory"],
    )


def check_contents(
    path: Path, spec: FileSpec, class_names: Sequence[str]
) -> tuple[list[str], dict[str, int] | None]:
    """Return the problems of a file before it runs, and the operators of a .tflite file."""
    labels = path.with_name(LABELS)  # an app may read it instead of the labels in the file
    problems = compare_names(read_labels(labels) if labels.exists() else (), class_names)
    if spec.kind != "tflite":
        return problems, None
    try:
        operators, more = read_tflite(path, spec, class_names)
    except Exception as error:  # a damaged file can raise any exception
        return [*problems, f"file: cannot be read. Received: {first_line(error)}."], None
    return problems + more, operators


def read_tensor(tensor: dict[str, Any]) -> TensorSpec:
    """Return an input or output that probe.py printed as a `TensorSpec`."""
    return TensorSpec(**{**tensor, "shape": tuple(tensor["shape"])})


def save_images(images: np.ndarray, channels: int | None, scratch: Path) -> Path:
    """Save images for probe.py, grayscale ones repeated in the channels of an RGB input."""
    file = scratch / f"{channels}.npy"
    if not file.exists():
        np.save(file, np.broadcast_to(images, (*images.shape[:3], channels or images.shape[3])))
    return file


def run_probe(
    path: Path,
    kind: str,
    threads: int,
    file: Path,
    images: np.ndarray,
    output: Path | None,
    started: list[Process],
) -> dict[str, Any]:
    """Run probe.py on an exported file and return what it prints.

    Args:
        path: exported file.
        kind: "saved_model", "tflite" or "onnx".
        threads: number of threads.
        file: images that `save_images` has saved.
        images: the same images.
        output: .npy file for the probabilities of all images. None: only the latency is measured.
        started: as in `verify_files`.
    """
    process = started.pop() if started and kind == "saved_model" else start_process(kind)
    job = {
        "threads": threads,
        "images": str(file),
        "latency_runs": LATENCY_RUNS,
        "seconds": SECONDS,
        "predict": str(output) if output else None,
    }
    if kind == "saved_model" and output:
        larger = [enlarge(image) for image in images[:ENCODED_IMAGES]]
        job["encoded"] = [encode_png(image).hex() for image in larger]
        job["resized"] = np.stack(
            [resize(tf.constant(image), images.shape[1:]) for image in larger]
        ).tolist()
    with plain_path(path) as plain:
        return run_job(process, job | {"path": str(plain)})


def enlarge(image: np.ndarray) -> np.ndarray:
    """Return an image (height, width, channels) three times as large, with wider borders."""
    width = image.shape[1]
    return np.pad(
        image.repeat(3, axis=0).repeat(3, axis=1), ((0, 0), (width, 2 * width), (0, 0)), "edge"
    )


def encode_png(image: np.ndarray) -> bytes:
    """Encode an image (height, width, channels) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()
