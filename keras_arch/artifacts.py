"""A .keras file, a SavedModel folder, a .tflite or an .onnx file, opened as one thing: images in, probabilities out."""

import functools
import math
import os
import reprlib
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import InputError, first_line
from .files import is_path, plain_path, size_of
from .machine import available_cores, available_memory
from .models import load_keras, plain_model, strip_auxiliary_heads
from .text import brief, shorten
from .tflite_graph import check_graph
from .tflite_metadata import read_metadata

KINDS = "a .keras file, a SavedModel folder, a .tflite or an .onnx file"


ROUNDING = 1e-3  # by which a probability may leave 0 to 1


SIGNATURE = "serving_default"  # of a SavedModel, which serves images
ONNX_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


COLUMNS_SHOWN = 60  # of the names or shapes that an error lists
NAMES_SHOWN = 5  # of the outputs that an error lists
IMAGES_EACH = 16  # fewer are not worth the start of another interpreter, which takes as long as a few images
MEMORY_SHARE = 0.25  # of the memory that is free, for all interpreters of a .tflite file together
STEP = 1 / 256  # between the probabilities of an 8-bit file; each may be off by one in the sum
NARROW = 0.1  # share of the pixels' values; an integer input that holds fewer was made for other numbers


@dataclass(frozen=True)
class Artifact:
    """A trained model in one of its forms.

    `predict` takes images (batch, height, width, channels) of 0-255, any number type, and gives probabilities
    (batch, classes) as float32, whatever the file's own types are.
    """

    path: Path
    kind: str
    image_shape: tuple[int | None, int | None, int]
    classes: int
    size: int  # bytes on disk
    predict: Callable[[np.ndarray], np.ndarray]

    @property
    def image_size(self):
        """(height, width) in pixels where they are fixed, else None."""
        return None if None in self.image_shape[:2] else self.image_shape[:2]


def open_artifact(path):
    """Open a trained model.

    Args:
        path: a .keras file, a SavedModel folder, a .tflite or an .onnx file, or a run folder for its model.keras. Only what
            the kind needs is imported: a .tflite file runs without TensorFlow.

    A SavedModel is a program: its graph can read and write files as soon as it is opened or run, as TensorFlow documents
    (https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md). Open only SavedModels of people whom you trust. .keras
    and .tflite files of others are safe to open: they hold layers and operators only, and a .keras file with code of its own,
    such as a Lambda layer, is refused.

    Raises:
        InputError (a ValueError): not there, not one of the kinds, damaged, not an image classifier, or a .keras file with
            code of its own; on `predict`, answers that are no probabilities.
    """
    if not is_path(path):
        raise InputError(f"`path` must be the path of {KINDS}. Received: {reprlib.repr(path)}.")
    path = Path(path)
    if (path / "model.keras").is_file():
        path = path / "model.keras"
    artifact = open_kind(path)

    def predict(images):
        images = np.asarray(images)
        check_images(images, artifact)
        if not len(images):
            return np.zeros((0, artifact.classes), "float32")
        try:
            answers = artifact.predict(images)
        except Exception as error:  # each runtime has its own kinds
            raise wrong_shape(path, images.shape, artifact.image_shape, error) from error
        return probabilities(answers, path)

    return replace(artifact, predict=predict)


def check_images(images, artifact):
    """Raise InputError unless the artifact takes images of this shape."""
    expected = (None, *artifact.image_shape)
    if images.ndim != 4 or any(side not in (None, size) for side, size in zip(expected, images.shape, strict=True)):
        raise wrong_shape(artifact.path, images.shape, artifact.image_shape)


def wrong_shape(path, shape, image_shape, error=None):
    """An InputError about images of a shape that a file does not take, or on which it fails with `error`."""
    cause = f" ({first_line(error)})" if error else ""
    return InputError(
        f"{path} cannot classify images of this shape. Received: {shape}. Use (batch, height, width, channels) with "
        f"images of {image_shape}, where None is any size that is large enough{cause}."
    )


def probabilities(answers, path):
    """Return the answers (images, classes) of a file as float32, or raise InputError unless they can be probabilities."""
    answers = np.asarray(answers, "float32")
    low, high = np.min(answers), np.max(answers)
    sums = np.sum(answers, axis=-1, dtype="float64")
    off = ROUNDING + STEP * np.shape(answers)[-1]
    if not (low >= -ROUNDING and high <= 1 + ROUNDING and np.abs(sums - 1).max() <= off):  # NaN is refused, too
        raise InputError(
            f"{path} must give class probabilities. Received: values from {low:.3g} to {high:.3g}, whose sums for each image "
            f"are {sums.min():.3g} to {sums.max():.3g}. End the model in a softmax"
        )
    return answers


def open_kind(path):
    if not path.exists():
        raise InputError(f"expected {KINDS}, got {path}, which does not exist")
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return open_saved_model(path)
    if path.suffix == ".keras" and path.is_file():
        return open_keras(path)
    if path.suffix == ".tflite" and path.is_file():
        return open_tflite(path)
    if path.suffix == ".onnx" and path.is_file():
        return open_onnx(path)
    raise InputError(f"expected {KINDS}, got {path}")


def open_keras(path):
    import keras

    model = plain_model(strip_auxiliary_heads(load_keras(path)))
    check_signature(path, [image.shape for image in model.inputs], [output.shape for output in model.outputs])
    (image,), (probabilities,) = model.inputs, model.outputs
    check_number_type(path, image.dtype, image.dtype)

    structure = getattr(model, "input", image)  # such as a dict; a Sequential may have no `input`

    def predict(images):
        return model.predict_on_batch(keras.tree.pack_sequence_as(structure, [as_type(images, image.dtype)]))

    return Artifact(path, "keras", tuple(image.shape[1:]), probabilities.shape[-1], path.stat().st_size, predict)


def open_saved_model(path):
    import tensorflow as tf

    try:
        with plain_path(path) as plain:
            module = tf.saved_model.load(plain)  # it must outlive its signature, whose variables it owns
        signatures = dict(module.signatures)
    except Exception as error:  # as above
        raise InputError(f"expected a whole SavedModel folder, got {path}: {first_line(error)}") from error
    if SIGNATURE not in signatures:
        there = shorten(", ".join(sorted(signatures)[:NAMES_SHOWN]), COLUMNS_SHOWN) or "none"
        raise InputError(
            f"{path} has no signature {SIGNATURE!r}. Received: {there}. Save it with `model.export(FOLDER)`."
        )
    signature = signatures[SIGNATURE]
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if "probabilities" in outputs:  # as scripts/export.py writes it, with the names of the classes beside them
        outputs = {"probabilities": outputs["probabilities"]}
    check_signature(path, [spec.shape for spec in inputs.values()], [spec.shape for spec in outputs.values()])
    ((input_name, image),), ((output_name, probabilities),) = inputs.items(), outputs.items()
    check_number_type(path, image.dtype.as_numpy_dtype, image.dtype.name)

    def predict(images, module=module):
        pixels = tf.constant(as_type(images, image.dtype.as_numpy_dtype))
        return signature(**{input_name: pixels})[output_name].numpy()

    predict = in_batches(predict, image.shape[0])
    return Artifact(path, "saved_model", tuple(image.shape[1:]), probabilities.shape[-1], size_of(path), predict)


def open_tflite(path):
    from ai_edge_litert.interpreter import Interpreter

    def started(threads):
        return allocated(Interpreter(os.fsencode(path), num_threads=threads))  # text would have to be UTF-8

    content = path.read_bytes()
    try:
        first = Interpreter(os.fsencode(path), num_threads=available_cores())  # it refuses what is no valid flatbuffer
        check_graph(content)
        allocated(first)
    except Exception as error:  # whatever its bytes happen to mean
        raise InputError(f"expected a whole .tflite file, got {path}: {first_line(error)}") from error
    metadata = metadata_of(path, content)
    if metadata.has_files and not zipfile.is_zipfile(path):  # its labels lie behind the model
        raise InputError(f"expected a whole .tflite file, got {path}, whose labels are cut off")
    inputs, outputs = first.get_input_details(), first.get_output_details()
    check_signature(path, [signature_of(tensor) for tensor in inputs], [tensor["shape"] for tensor in outputs])
    (image,), (probabilities,) = inputs, outputs
    batch, *image_shape = signature_of(image)
    check_normalization(path, image, metadata)

    def run(interpreter, images):
        interpreter.set_tensor(image["index"], as_input(images, image, metadata))
        interpreter.invoke()
        return dequantize(interpreter.get_tensor(probabilities["index"]), probabilities)

    def classify(interpreter, images):
        if is_open(image):
            interpreter.resize_tensor_input(image["index"], (batch or 1, *images.shape[1:]), strict=True)
            interpreter.allocate_tensors()
        return in_batches(functools.partial(run, interpreter), batch or 1)(images)

    memory = path.stat().st_size + sum(bytes_of(tensor) for tensor in first.get_tensor_details())  # of one, at most
    lock = threading.Lock()  # an interpreter works for one caller at a time

    def predict(images):
        with lock:
            count = workers(len(images), memory)
            if count < 2:
                return classify(first, images)
            # Images, and not the rows of one, are shared out among the cores.
            with ThreadPoolExecutor(count) as pool:
                return np.concatenate(
                    list(pool.map(lambda part: classify(started(1), part), np.array_split(images, count)))
                )

    classes = probabilities["shape"].tolist()[-1]
    return Artifact(path, "tflite", tuple(image_shape), classes, path.stat().st_size, predict)


def allocated(interpreter):
    """Return a LiteRT interpreter that can run, unless the size of its input is open."""
    if not any(is_open(tensor) for tensor in interpreter.get_input_details()):
        interpreter.allocate_tensors()
    return interpreter


def workers(images, memory):
    """How many interpreters share the work on some images, each of which needs `memory` bytes."""
    return min(available_cores(), images // IMAGES_EACH, int(MEMORY_SHARE * available_memory() // memory))


def bytes_of(tensor):
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
    if not {len(mean), len(std)} <= {1, channels} or not np.isfinite([*mean, *std]).all() or not (std > 0).all():
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


def as_input(images, tensor, metadata):
    """Raw pixels of 0-255 as a LiteRT input takes them.

    A uint8 input takes the pixels as they are, as in MediaPipe: its scale and zero point undo the normalization.
    """
    if tensor["dtype"] == np.uint8:
        return quantize(images, {**tensor, "quantization": (1.0, 0)})
    return quantize((images - metadata.mean) / metadata.std, tensor)


def open_onnx(path):
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"expected onnxruntime to run {path}, got none; pip install -e '.[onnx]' would work") from None
    try:
        with plain_path(path) as plain:
            session = onnxruntime.InferenceSession(plain, providers=["CPUExecutionProvider"], enable_fallback=False)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        shapes = [[tensor.shape for tensor in tensors] for tensors in (inputs, outputs)]  # names may be no UTF-8
    except Exception as error:  # of onnxruntime's own kinds, which have no public base
        raise InputError(f"expected a whole .onnx file, got {path}: {first_line(error)}") from error
    check_signature(path, *shapes)
    (image,), (probabilities,) = inputs, outputs
    dtype = ONNX_TYPES.get(image.type, object)
    check_number_type(path, dtype, image.type)

    def predict(images):
        return session.run([probabilities.name], {image.name: as_type(images, dtype)})[0]

    batch, *image_shape = known(image.shape)
    image_shape = tuple(image_shape)
    predict = in_batches(predict, batch)
    return Artifact(path, "onnx", image_shape, probabilities.shape[-1], path.stat().st_size, predict)


def in_batches(predict, batch):
    """Make a function of `batch` images take any number of them.

    Args:
        predict: a function from images (batch, height, width, channels) to probabilities (batch, classes).
        batch: how many images it takes at once. None if it takes any number already.

    Returns:
        A function from images (any number of them, height, width, channels) to probabilities. The last batch is
        filled up with black images.
    """
    if batch is None:
        return predict

    def predict_all(images):
        answers = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            missing = batch - len(part)
            full = np.pad(part, [(0, missing), (0, 0), (0, 0), (0, 0)]) if missing else part
            answers.append(predict(full)[: len(part)])
        return np.concatenate(answers)

    return predict_all


def quantize(values, tensor):
    """Real numbers in the integers of a LiteRT tensor, or as they are where the tensor is not quantized."""
    scale, zero_point = tensor["quantization"]
    if scale == 0:
        return values.astype(tensor["dtype"])
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.round(values / scale + zero_point), limits.min, limits.max).astype(tensor["dtype"])


def dequantize(values, tensor):
    """The real numbers that the integers of a LiteRT tensor stand for."""
    scale, zero_point = tensor["quantization"]
    values = values.astype("float32")
    return values if scale == 0 else (values - zero_point) * np.float32(scale)


def as_type(images, dtype):
    """Raw pixels of 0-255 in the number type of an input. Integers are rounded, and clipped to what the type holds."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        images = np.clip(np.round(images), limits.min, limits.max)
    return np.asarray(images).astype(dtype)


def check_number_type(path, dtype, name):
    """Raise InputError unless pixels of 0-255 fit a number type of NumPy; `name` is what the file calls it."""
    if np.dtype(dtype).kind in "OSUb" or np.array(255).astype(dtype) != 255:
        raise InputError(f"{path} must take pixels of 0-255. Received: an input of {name}. Use float32 or uint8.")


def known(shape):
    """A shape as a tuple, None for each side that is open. None for a shape of unknown rank."""
    if getattr(shape, "rank", 0) is None:
        return None
    return tuple(int(side) if isinstance(side, (int, np.integer)) else None for side in shape)


def check_signature(path, inputs, outputs):
    """Raise InputError unless the shapes are those of one image in and one vector of classes out."""
    inputs, outputs = [known(shape) for shape in inputs], [known(shape) for shape in outputs]
    match inputs, outputs:
        case [[(_, channels, _, side)], _] if channels in (1, 3) and side not in (1, 2, 3, 4):
            problem = ", with channels first"
        case [[(_, _, _, int())], [(_, int())]]:
            return
        case _:
            problem = ""
    takes, gives = (
        shorten(", ".join("unknown rank" if shape is None else str(shape) for shape in shapes), COLUMNS_SHOWN)
        for shapes in (inputs, outputs)
    )
    raise InputError(
        f"{path} must be an image classifier, (batch, height, width, channels) to (batch, classes). Received: {takes} to "
        f"{gives}{problem}. Convert it again with such an input and output."
    )
