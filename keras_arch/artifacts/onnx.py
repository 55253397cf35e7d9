"""Open an .onnx file."""

from pathlib import Path

import numpy as np

from ..class_names import parse_onnx_metadata
from ..errors import InputError, first_line, require
from ..files import plain_path
from .artifact import (
    Artifact,
    cast_images,
    check_number_type,
    check_signature,
    predict_in_batches,
    to_tuple,
)

ONNX_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def open_onnx(path: Path) -> Artifact:
    """Open an .onnx file. See `open_artifact`."""
    require("onnx", ["onnxruntime"])
    import onnxruntime

    try:
        with plain_path(path) as plain:
            session = onnxruntime.InferenceSession(
                plain, providers=["CPUExecutionProvider"], enable_fallback=False
            )
        inputs, outputs = session.get_inputs(), session.get_outputs()
        shapes = [
            [tensor.shape for tensor in tensors] for tensors in (inputs, outputs)
        ]  # raises if names of sides are not UTF-8
        metadata = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # exceptions of onnxruntime have no public base class
        raise InputError(
            f"{path} is not a valid .onnx file. Received: {first_line(error)}. Export it again."
        ) from error
    check_signature(path, *shapes)
    (image,), (probabilities,) = inputs, outputs
    dtype = ONNX_TYPES.get(image.type, object)
    check_number_type(path, dtype, image.type)

    def predict(images):
        return session.run([probabilities.name], {image.name: cast_images(images, dtype)})[0]

    batch, *image_shape = to_tuple(image.shape) or ()
    return Artifact(
        path,
        "onnx",
        tuple(image_shape),
        probabilities.shape[-1],
        path.stat().st_size,
        predict_in_batches(predict, batch),
        parse_onnx_metadata(metadata),
    )
