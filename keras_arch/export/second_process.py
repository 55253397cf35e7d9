"""Convert a large model in a second process, while the first one writes the other files.

Most of the time of an export is calibration: once for int8, once for int16x8, each on one core. The
converter does not release Python's lock, so that a thread would not help.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import numpy as np

from ..evaluation.cost import cost
from ..formats import FORMATS, Format
from ..machine import available_cores, available_memory

# The second process converts to these formats. That takes about as long as all the others.
NAMES = ("dynamic", "int16x8")
PACKAGE = Path(__file__).parents[1]
# Multiply-adds of a calibration in about ten seconds. To start a process takes six.
LONG = 1e11
MEMORY = 2**30  # bytes of a process that converts a small model
COPIES = 10  # of the weights in its memory
IMAGES = "images.npy"
COMMAND = f"import {__name__} as second; second.main()"


@contextmanager
def second_process(
    traced: str, model: keras.Model, formats: Collection[str], calibration: np.ndarray
) -> Iterator[Callable[[Format], bytes | None]]:
    """Start a second process if it saves time.

    Args:
        traced: SavedModel that `trace` wrote.
        model: the model in it.
        formats: names of the formats to write.
        calibration: images of the shape that the files take.

    Yields:
        Function that waits for the process and returns the content of the file of a format. It
        returns None if this process has to convert the model: the other one was not started, or it
        failed.
    """
    if not saves_time(model, formats, len(calibration)):
        yield lambda form: None
        return
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / IMAGES, calibration)
        names = [name for name in NAMES if name in formats]
        path = os.pathsep.join(filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, traced, folder, *names],
            env={**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "tensorflow"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def content_of(form: Format) -> bytes | None:
            if form not in [FORMATS[name] for name in names] or process.wait() != 0:
                return None
            return (Path(folder) / form.file).read_bytes()

        try:
            yield content_of
        finally:
            process.kill()
            process.wait()


def saves_time(model: keras.Model, formats: Collection[str], images: int) -> bool:
    """Return whether a second process saves time, and fits into memory."""
    if "int16x8" not in formats or set(formats) <= set(NAMES) or available_cores() == 1:
        return False
    if cost(model).multiply_adds * images < LONG:
        return False
    return available_memory() > MEMORY + COPIES * 4 * model.count_params()


def main() -> None:
    """Convert a model. The command line has `traced`, the directory and names of formats."""
    from .tflite import convert, open_converter

    traced, folder, *names = sys.argv[1:]
    converter, images = open_converter(traced), np.load(Path(folder) / IMAGES)
    for form in (FORMATS[name] for name in names):
        (Path(folder) / form.file).write_bytes(convert(converter, form, images))
