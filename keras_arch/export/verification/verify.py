"""The proof: each exported file is run on held-out images by a process without keras_arch, and judged by its answers."""

import io
import json
import subprocess
import sys
import tempfile
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
from ..checks import check_raw_images
from .checks import check_answers, check_server, check_tensors, compare_answers, compare_labels
from .graph import read_tflite

PROBE = Path(__file__).with_name("probe.py")


LATENCY_RUNS = 50  # images one at a time
SECONDS = 60  # that a slow file answers for, about
THREADS = (1, 2)
PICTURES = 8  # held-out images that a server gets as larger PNGs, too


@dataclass(frozen=True)
class Reference:
    """What every file is held against."""

    images: np.ndarray  # held-out, (count, height, width, channels) of 0-255, uint8
    labels: np.ndarray  # (count,)
    probabilities: np.ndarray  # (count, classes), the model's own, from Keras
    class_names: tuple[str, ...]
    max_drop: float = 1.0  # points of accuracy that a file may lose, 0-100

    def first(self, count):
        """The same of the first images alone, which are all that a slow file answered."""
        return replace(
            self,
            images=self.images[:count],
            labels=self.labels[:count],
            probabilities=self.probabilities[:count],
        )


def verify(folder, promises, truth, progress=lambda items, total: items):
    """Run every file of an export where keras_arch is not, and say what is wrong with it.

    Args:
        folder: path of an export.
        promises: {format name: `FileSpec`}, what `export_model` returned.
        truth: a `Reference`.
        progress: a function of the files and their number that gives the files on, and may count them.

    Returns:
        {format name: row}; a row is a dict of "file", "bytes", "problems" (sentences; none where the file keeps its
        promise) and, where it ran, "images", "top1", "top5" with more than five classes, "drop" of top-1 in points and its
        95% "drop_interval", "agreement" of the top class with the model's, "max_difference" and "mean_difference" of
        probabilities, "confidence_difference", the mean one of the model's top class, "latency_ms" {threads: [median, 95th
        percentile]} at batch 1, "peak_memory" in bytes beyond the empty process, and "operators" of a .tflite file.
    """
    folder = check_folder(folder)
    truth = replace(truth, class_names=check_class_names(truth.class_names))
    check_raw_images(truth.images, "images")
    if not are_probabilities(truth.probabilities):
        raise InputError(
            "expected a model that gives probabilities, got one whose answers do not add up to 1"
        )
    with tempfile.TemporaryDirectory() as scratch:
        return {
            name: verify_file(folder / promise.file, promise, truth, Path(scratch))
            for name, promise in progress(promises.items(), len(promises))
        }


def verify_file(path, promise, truth, scratch):
    row: dict[str, Any] = {"file": promise.file, "bytes": size_of(path), "problems": []}
    beside = path.with_name(LABELS)  # which an app may read instead of those in the file
    row["problems"] += compare_labels(
        read_labels(beside) if beside.exists() else (), truth.class_names
    )
    if promise.kind == "tflite":
        try:
            row["operators"], problems = read_tflite(path, promise, truth.class_names)
            row["problems"] += problems
        except Exception as error:  # a damaged file raises whatever its bytes happen to mean
            row["problems"].append(f"file: cannot be read ({first_line(error)})")
    *_, channels = promise.inputs[0]["shape"]
    answers = {
        threads: run_probe(path, promise.kind, threads, truth.images, channels, scratch)
        for threads in THREADS
    }
    answer = answers[THREADS[-1]]
    if "outputs" in answer:
        row["problems"] += check_tensors(answer, promise)
    if errors := [one["error"] for one in answers.values() if "error" in one]:
        if is_disk_full(errors[-1]):
            raise InputError(f"{path} cannot be run: {first_line(errors[-1])}")
        row["problems"].append(f"file: cannot be run ({first_line(errors[-1])})")
        return row
    if promise.kind == "saved_model":
        row["problems"] += check_server(answer, truth)
    probabilities = np.load(scratch / "probabilities.npy")
    if (
        probabilities.shape[1:] != truth.probabilities.shape[1:]
        or not np.isfinite(probabilities).all()
    ):
        row["problems"].append(
            f"output: expected {truth.probabilities.shape[1]} finite numbers for each image"
        )
        return row
    row |= compare_answers(probabilities, truth.first(len(probabilities)))
    row["problems"] += check_answers(row, promise, truth)
    row["latency_ms"] = {str(threads): answers[threads]["latency_ms"] for threads in THREADS}
    row["peak_memory"] = answer["peak_memory"]
    return row


def run_probe(path, kind, threads, images, channels, scratch):
    """What the file answers to a stranger: what probe.py prints, and probabilities.npy where all images were asked for."""
    file = scratch / f"{channels}.npy"
    if not file.exists():
        np.save(
            file, np.broadcast_to(images, (*images.shape[:3], channels))
        )  # a grey image for a colour input
    job = {
        "kind": kind,
        "threads": threads,
        "images": str(file),
        "latency_runs": LATENCY_RUNS,
        "seconds": SECONDS,
        "predict": str(scratch / "probabilities.npy") if threads == THREADS[-1] else None,
    }
    if kind == "saved_model" and job["predict"]:
        larger = [enlarge(image) for image in images[:PICTURES]]
        job["pictures"] = [encode_png(image).hex() for image in larger]
        job["resized"] = np.stack(
            [resize(tf.constant(image), images.shape[1:]) for image in larger]
        ).tolist()
    command = [sys.executable, "-P", str(PROBE)]
    with plain_path(path) as plain:
        job["path"] = str(plain)
        done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:  # it crashed
        return {"error": f"its process ended with status {done.returncode}: {done.stderr[-500:]}"}


def enlarge(image):
    """A picture (height, width, channels) three times as large and wider than it was, as those that a server gets."""
    width = image.shape[1]
    return np.pad(
        image.repeat(3, axis=0).repeat(3, axis=1), ((0, 0), (width, 2 * width), (0, 0)), "edge"
    )


def encode_png(image):
    """The bytes of an image (height, width, channels) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()
