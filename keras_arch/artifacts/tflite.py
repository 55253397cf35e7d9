"""Open a .tflite file without TensorFlow."""

import functools
import math
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..class_names import read_packed_labels
from ..errors import InputError, first_line
from ..machine import available_cores, available_memory
from ..text import brief
from .artifact import Artifact, check_signature, predict_in_batches
from .tflite_graph import check_graph
from .tflite_metadata import Metadata, read_metadata

IMAGES_EACH = 16  # minimum images for another interpreter, whose start takes as long as a few
MEMORY_SHARE = 0.25  # fraction of the free memory for all interpreters of a file together
MIN_RANGE = 0.1  # fraction of the normalized pixels' range that an integer input must cover


def open_tflite(path: Path) -> Artifact:
    """Open a .tflite file. See `open_artifact`."""
    from ai_edge_litert.interpreter import Interpreter

    def start(threads):
        return Interpreter(os.fsencode(path), num_threads=threads)  # a str would have to be UTF-8

    content = path.read_bytes()
    try:
        first = start(available_cores())  # raises if the file is not a valid flatbuffer
        check_graph(content)
        allocate(first)
    except Exception as error:  # a damaged file can raise any exception
        raise InputError(
            f"{path} is not a valid .tflite file. Received: {first_line(error)}. Export it again."
        ) from error
    metadata = parse_metadata(path, content)
    if metadata.has_files and not zipfile.is_zipfile(path):  # the labels are after the model
        raise InputError(
            f"{path} is not a complete .tflite file. Received: a file without the labels that its "
            "metadata name. Export or copy it again."
        )
    inputs, outputs = first.get_input_details(), first.get_output_details()
    check_signature(
        path, [shape_of(tensor) for tensor in inputs], [tensor["shape"] for tensor in outputs]
    )
    (image,), (probabilities,) = inputs, outputs
    batch, *image_shape = shape_of(image)
    check_normalization(path, image, metadata)

    def run(interpreter, images):
        interpreter.set_tensor(image["index"], to_input(images, image, metadata))
        interpreter.invoke()
        return dequantize(interpreter.get_tensor(probabilities["index"]), probabilities)

    def classify(interpreter, images):
        if is_open(image):
            interpreter.resize_tensor_input(
                image["index"], (batch or 1, *images.shape[1:]), strict=True
            )
            interpreter.allocate_tensors()
        return predict_in_batches(functools.partial(run, interpreter), batch or 1)(images)

    tensors = first.get_tensor_details()
    memory = path.stat().st_size + sum(map(tensor_bytes, tensors))  # maximum of one interpreter
    lock = threading.Lock()  # an interpreter is not thread-safe

    def predict(images):
        with lock:
            count = count_workers(len(images), memory)
            if count < 2:
                return classify(first, images)
            # Each thread runs on a part of the images, not on a part of each image.
            with ThreadPoolExecutor(count) as pool:
                parts = np.array_split(images, count)
                results = pool.map(lambda part: classify(allocate(start(1)), part), parts)
                return np.concatenate(list(results))

    classes = probabilities["shape"].tolist()[-1]
    return Artifact(
        path,
        "tflite",
        tuple(image_shape),
        classes,
        path.stat().st_size,
        predict,
        read_packed_labels(path),
    )


def allocate(interpreter: Any) -> Any:
    """Return a LiteRT interpreter with its tensors allocated, unless its input takes any size."""
    if not any(is_open(tensor) for tensor in interpreter.get_input_details()):
        interpreter.allocate_tensors()
    return interpreter


def count_workers(images: int, memory: int) -> int:
    """Return the number of interpreters for some images.

    Args:
        images: number of images.
        memory: bytes for one interpreter.
    """
    return min(
        available_cores(), images // IMAGES_EACH, int(MEMORY_SHARE * available_memory() // memory)
    )


def tensor_bytes(tensor: dict[str, Any]) -> int:
    """Return the size of a LiteRT tensor in bytes."""
    return math.prod(tensor["shape"].tolist()) * np.dtype(tensor["dtype"]).itemsize


def shape_of(tensor: dict[str, Any]) -> list[int | None]:
    """Return the shape of a LiteRT tensor, with None for any size. LiteRT's `shape` has 1 there."""
    return [None if side == -1 else side for side in tensor["shape_signature"].tolist()]


def is_open(tensor: dict[str, Any]) -> bool:
    """Return whether the height, width or channels of a LiteRT input can have any size."""
    return None in shape_of(tensor)[1:]


def parse_metadata(path: Path, content: bytes) -> Metadata:
    """Return the `Metadata` in a .tflite file, or raise InputError if they are damaged."""
    try:
        return read_metadata(content)
    except Exception as error:  # damaged metadata can raise any exception
        raise InputError(
            f"The metadata of {path} are damaged. Received: {first_line(error)}. Write them again."
        ) from error


def check_normalization(path: Path, tensor: dict[str, Any], metadata: Metadata) -> None:
    """Raise InputError unless a LiteRT input can take (pixels - mean) / std."""
    mean, std, channels = metadata.mean, metadata.std, tensor["shape"][-1]
    if (
        not {len(mean), len(std)} <= {1, channels}
        or not np.isfinite([*mean, *std]).all()
        or not (std > 0).all()
    ):
        raise InputError(
            f"The normalization of {path} must be 1 or {channels} finite numbers, with std > 0. "
            f"Received: mean={brief(mean.tolist())}, std={brief(std.tolist())}. "
            "Write its metadata again."
        )
    if tensor["dtype"] in (np.float32, np.uint8) or tensor["quantization"][0] == 0:
        return
    limits = np.iinfo(tensor["dtype"])
    low, high = dequantize(np.array([limits.min, limits.max]), tensor)
    if high - low < MIN_RANGE * (255 / std).max():
        raise InputError(
            f"{path} does not specify the normalization for its {np.dtype(tensor['dtype'])} input. "
            f"Received: an input of {low:.3g} to {high:.3g}. "
            "Add NormalizationOptions to its metadata."
        )


def to_input(images: np.ndarray, tensor: dict[str, Any], metadata: Metadata) -> np.ndarray:
    """Convert raw pixels of 0-255 to the values of a LiteRT input.

    A uint8 input takes raw pixels, as in MediaPipe. Its scale and zero point are the normalization.
    """
    if tensor["dtype"] == np.uint8:
        return quantize(images, {**tensor, "quantization": (1.0, 0)})
    return quantize((images - metadata.mean) / metadata.std, tensor)


def quantize(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Quantize values for a LiteRT tensor. If it is not quantized, only the type changes."""
    scale, zero_point = tensor["quantization"]
    if scale == 0:
        return values.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale + zero_point), limits.min, limits.max).astype(
        tensor["dtype"]
    )


def dequantize(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Return the values of a LiteRT tensor as float32."""
    scale, zero_point = tensor["quantization"]
    values = values.astype("float32")
    return values if scale == 0 else (values - zero_point) * np.float32(scale)
