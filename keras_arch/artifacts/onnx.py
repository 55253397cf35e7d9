"""Open an .onnx file."""

import numpy as np

from ..errors import InputError, first_line
from ..files import plain_path
from .artifact import (
    Artifact,
    cast_images,
    check_number_type,
    check_signature,
    known,
    predict_in_batches,
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


def open_onnx(path):
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            f"expected onnxruntime to run {path}, got none; pip install -e '.[onnx]' would work"
        ) from None
    try:
        with plain_path(path) as plain:
            session = onnxruntime.InferenceSession(
                plain, providers=["CPUExecutionProvider"], enable_fallback=False
            )
        inputs, outputs = session.get_inputs(), session.get_outputs()
        shapes = [
            [tensor.shape for tensor in tensors] for tensors in (inputs, outputs)
        ]  # names may be no UTF-8
    except Exception as error:  # of onnxruntime's own kinds, which have no public base
        raise InputError(f"expected a whole .onnx file, got {path}: {first_line(error)}") from error
    check_signature(path, *shapes)
    (image,), (probabilities,) = inputs, outputs
    dtype = ONNX_TYPES.get(image.type, object)
    check_number_type(path, dtype, image.type)

    def predict(images):
        return session.run([probabilities.name], {image.name: cast_images(images, dtype)})[0]

    batch, *image_shape = known(image.shape)
    image_shape = tuple(image_shape)
    predict = predict_in_batches(predict, batch)
    return Artifact(
        path, "onnx", image_shape, probabilities.shape[-1], path.stat().st_size, predict
    )
