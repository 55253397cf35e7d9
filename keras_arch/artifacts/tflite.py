"""Open a .tflite file. Nothing here imports TensorFlow."""

import functools
import math
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..errors import InputError, first_line
from ..machine import available_cores, available_memory
from ..text import brief
from .artifact import Artifact, check_signature, predict_in_batches
from .tflite_graph import check_graph
from .tflite_metadata import read_metadata

IMAGES_EACH = (
    16  # fewer are not worth the start of another interpreter, which takes as long as a few images
)
MEMORY_SHARE = 0.25  # of the memory that is free, for all interpreters of a .tflite file together


NARROW = (
    0.1  # share of the pixels' values; an integer input that holds fewer was made for other numbers
)


def open_tflite(path):
    from ai_edge_litert.interpreter import Interpreter

    def started(threads):
        return allocate(
            Interpreter(os.fsencode(path), num_threads=threads)
        )  # text would have to be UTF-8

    content = path.read_bytes()
    try:
        first = Interpreter(
            os.fsencode(path), num_threads=available_cores()
        )  # it refuses what is no valid flatbuffer
        check_graph(content)
        allocate(first)
    except Exception as error:  # whatever its bytes happen to mean
        raise InputError(
            f"expected a whole .tflite file, got {path}: {first_line(error)}"
        ) from error
    metadata = metadata_of(path, content)
    if metadata.has_files and not zipfile.is_zipfile(path):  # its labels lie behind the model
        raise InputError(f"expected a whole .tflite file, got {path}, whose labels are cut off")
    inputs, outputs = first.get_input_details(), first.get_output_details()
    check_signature(
        path, [signature_of(tensor) for tensor in inputs], [tensor["shape"] for tensor in outputs]
    )
    (image,), (probabilities,) = inputs, outputs
    batch, *image_shape = signature_of(image)
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

    memory = path.stat().st_size + sum(
        tensor_bytes(tensor) for tensor in first.get_tensor_details()
    )  # of one, at most
    lock = threading.Lock()  # an interpreter works for one caller at a time

    def predict(images):
        with lock:
            count = count_workers(len(images), memory)
            if count < 2:
                return classify(first, images)
            # Images, and not the rows of one, are shared out among the cores.
            with ThreadPoolExecutor(count) as pool:
                return np.concatenate(
                    list(
                        pool.map(
                            lambda part: classify(started(1), part), np.array_split(images, count)
                        )
                    )
                )

    classes = probabilities["shape"].tolist()[-1]
    return Artifact(path, "tflite", tuple(image_shape), classes, path.stat().st_size, predict)


def allocate(interpreter):
    """Return a LiteRT interpreter that can run, unless the size of its input is open."""
    if not any(is_open(tensor) for tensor in interpreter.get_input_details()):
        interpreter.allocate_tensors()
    return interpreter


def count_workers(images, memory):
    """How many interpreters share the work on some images, each of which needs `memory` bytes."""
    return min(
        available_cores(), images // IMAGES_EACH, int(MEMORY_SHARE * available_memory() // memory)
    )


def tensor_bytes(tensor):
    """The size of a LiteRT tensor."""
    return math.prod(tensor["shape"].tolist()) * np.dtype(tensor["dtype"]).itemsize


def signature_of(tensor):
    """The shape of a LiteRT tensor with None for what the file leaves open, which `shape` gives as 1."""
    return [None if side == -1 else side for side in tensor["shape_signature"].tolist()]


def is_open(tensor):
    """Whether height, width or channels of a LiteRT input are left open."""
    return None in signature_of(tensor)[1:]


def metadata_of(path, content):
    """The `Metadata` in the content of a .tflite file, or InputError if they are damaged."""
    try:
        return read_metadata(content)
    except Exception as error:  # whatever their bytes happen to mean
        raise InputError(
            f"The metadata of {path} are damaged. Received: {first_line(error)}. Write them again."
        ) from error


def check_normalization(path, tensor, metadata):
    """Raise InputError unless (pixels - mean) / std makes sense for a LiteRT input."""
    mean, std, channels = metadata.mean, metadata.std, tensor["shape"][-1]
    if (
        not {len(mean), len(std)} <= {1, channels}
        or not np.isfinite([*mean, *std]).all()
        or not (std > 0).all()
    ):
        raise InputError(
            f"The normalization of {path} must be finite numbers, 1 or {channels} of each, and std greater than 0. "
            f"Received: mean={brief(mean.tolist())}, std={brief(std.tolist())}. Write its metadata again."
        )
    if tensor["dtype"] in (np.float32, np.uint8) or tensor["quantization"][0] == 0:
        return
    limits = np.iinfo(tensor["dtype"])
    low, high = dequantize(np.array([limits.min, limits.max]), tensor)
    if high - low < NARROW * (255 / std).max():
        raise InputError(
            f"{path} does not say how pixels of 0-255 become values of its {np.dtype(tensor['dtype'])} input. "
            f"Received: an input of {low:.3g} to {high:.3g}. Add NormalizationOptions to its metadata."
        )


def to_input(images, tensor, metadata):
    """Raw pixels of 0-255 as a LiteRT input takes them.

    A uint8 input takes the pixels as they are, as in MediaPipe: its scale and zero point undo the normalization.
    """
    if tensor["dtype"] == np.uint8:
        return quantize(images, {**tensor, "quantization": (1.0, 0)})
    return quantize((images - metadata.mean) / metadata.std, tensor)


def quantize(values, tensor):
    """Real numbers in the integers of a LiteRT tensor, or as they are where the tensor is not quantized."""
    scale, zero_point = tensor["quantization"]
    if scale == 0:
        return values.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale + zero_point), limits.min, limits.max).astype(
        tensor["dtype"]
    )


def dequantize(values, tensor):
    """The real numbers that the integers of a LiteRT tensor stand for."""
    scale, zero_point = tensor["quantization"]
    values = values.astype("float32")
    return values if scale == 0 else (values - zero_point) * np.float32(scale)
