"""A .keras file, a SavedModel folder, a .tflite or an .onnx file, opened as one thing: images in, probabilities out."""

import functools
import os
import re
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .errors import InputError, first_line
from .files import size_of

KINDS = "a .keras file, a SavedModel folder, a .tflite or an .onnx file"


ROUNDING = 1e-3  # by which a probability may leave 0 to 1
TRAINING_HEAD = re.compile(r"auxiliary_\d[a-z]")  # how GoogLeNet names its training heads
NAMES_SHOWN = 5  # of the outputs that an error lists
STEP = 1 / 256  # between the probabilities of an 8-bit file; each may be off by one in the sum
METADATA = b"TFLITE_METADATA"  # how a .tflite file names what it says about itself


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

    Raises:
        InputError (a ValueError): not there, not one of the kinds, damaged, or not an image classifier; on `predict`, answers
            that are no probabilities.
    """
    path = Path(path)
    if (path / "model.keras").is_file():
        path = path / "model.keras"
    artifact = open_kind(path)
    return replace(artifact, predict=lambda images: probabilities(artifact.predict(images), path))


def probabilities(answers, path):
    """Return the answers (images, classes) of a file, or raise InputError unless they can be probabilities."""
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


def strip_auxiliary_heads(model):
    """The model without its training heads, sharing all weights with it; any other model as it is.

    Args:
        model: a `keras.Model`, such as `GoogLeNet(auxiliary_heads=True)`.

    Returns:
        A `keras.Model` with one output, the main head. An only output is unwrapped from its list or
        dict.

    Raises:
        InputError (a ValueError): the model has several outputs that are not the training heads of
            GoogLeNet.

    Example:
        model = keras_arch.GoogLeNet(auxiliary_heads=True)
        model.compile("sgd", ["sparse_categorical_crossentropy"] * 3, loss_weights=[1, 0.3, 0.3])
        model.fit(images, [labels] * 3)
        classifier = keras_arch.strip_auxiliary_heads(model)
    """
    import keras

    names = [output._keras_history.operation.name for output in model.outputs]
    main = [output for output, name in zip(model.outputs, names, strict=True) if not TRAINING_HEAD.fullmatch(name)]
    main = main or model.outputs
    if len(main) != 1:
        names = sorted(model.output) if isinstance(model.output, dict) else names
        more = ", ..." if len(names) > NAMES_SHOWN else ""
        raise InputError(
            f"{model.name} must have one output, the class probabilities. Received: {len(names)} outputs: "
            f"{', '.join(names[:NAMES_SHOWN])}{more}. Keep one of them: keras.Model(model.input, model.outputs[0])"
        )
    if getattr(model, "output", main[0]) is main[0]:  # a Sequential may have no `output`
        return model
    return keras.Model(model.input, main[0], name=model.name)


def load_keras(path):
    """The `keras.Model` in a .keras file, or InputError where the file is damaged."""
    if not Path(path).is_file():
        raise InputError(f"expected a .keras file, got {path}, which does not exist")
    import keras

    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} in it is damaged")
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged file raises whatever its bytes happen to mean
        raise InputError(f"expected a whole .keras file, got {path}: {first_line(error)}") from error


def open_keras(path):
    model = strip_auxiliary_heads(load_keras(path))
    check_signature(path, [image.shape for image in model.inputs], [output.shape for output in model.outputs])
    (image,), (probabilities,) = model.inputs, model.outputs
    return Artifact(
        path, "keras", tuple(image.shape[1:]), probabilities.shape[-1], path.stat().st_size, model.predict_on_batch
    )


def open_saved_model(path):
    import tensorflow as tf

    try:
        # The module must outlive its signature, whose variables it owns.
        module = tf.saved_model.load(path)
        signature = module.signatures["serving_default"]
    except Exception as error:  # as above
        raise InputError(f"expected a whole SavedModel folder, got {path}: {first_line(error)}") from error
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if "probabilities" in outputs:  # as scripts/export.py writes it, with the names of the classes beside them
        outputs = {"probabilities": outputs["probabilities"]}
    check_signature(path, [spec.shape for spec in inputs.values()], [spec.shape for spec in outputs.values()])
    ((input_name, image),), ((output_name, probabilities),) = inputs.items(), outputs.items()

    def predict(images, module=module):
        return signature(**{input_name: tf.cast(images, image.dtype)})[output_name].numpy()

    return Artifact(path, "saved_model", tuple(image.shape[1:]), probabilities.shape[-1], size_of(path), predict)


def open_tflite(path):
    from ai_edge_litert.interpreter import Interpreter

    def started(threads):
        interpreter = Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
        return interpreter

    try:
        first = started(os.cpu_count())
    except (ValueError, RuntimeError) as error:
        raise InputError(f"expected a whole .tflite file, got {path}: {first_line(error)}") from error
    if METADATA in path.read_bytes() and not zipfile.is_zipfile(path):  # its labels lie behind the model
        raise InputError(f"expected a whole .tflite file, got {path}, whose labels are cut off")
    inputs, outputs = first.get_input_details(), first.get_output_details()
    check_signature(path, [tensor["shape"] for tensor in inputs], [tensor["shape"] for tensor in outputs])
    (image,), (probabilities,) = inputs, outputs

    def classify(interpreter, images):
        answers = []
        for pixels in images:
            interpreter.set_tensor(image["index"], quantize(pixels[np.newaxis], image))
            interpreter.invoke()
            answers.append(dequantize(interpreter.get_tensor(probabilities["index"])[0], probabilities))
        return np.stack(answers)

    several = functools.cache(lambda: [started(1) for _ in range(os.cpu_count() or 1)])

    def predict(images):
        images = np.asarray(images)
        if len(images) == 1:
            return classify(first, images)
        # The file takes one image at a time, so that images, and not the rows of one, are shared out among the cores.
        parts = [part for part in np.array_split(images, len(several())) if len(part)]
        with ThreadPoolExecutor(len(parts)) as pool:
            return np.concatenate(list(pool.map(classify, several(), parts)))

    _, height, width, channels = image["shape"].tolist()
    classes = probabilities["shape"].tolist()[-1]
    return Artifact(path, "tflite", (height, width, channels), classes, path.stat().st_size, predict)


def open_onnx(path):
    try:
        import onnxruntime
    except ImportError:
        raise InputError(f"expected onnxruntime to run {path}, got none; pip install -e '.[onnx]' would work") from None
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # of onnxruntime's own kinds, which have no public base
        raise InputError(f"expected a whole .onnx file, got {path}: {first_line(error)}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    check_signature(path, [tensor.shape for tensor in inputs], [tensor.shape for tensor in outputs])
    (image,), (probabilities,) = inputs, outputs

    def predict(images):
        return session.run([probabilities.name], {image.name: np.asarray(images, "float32")})[0]

    height, width = (side if isinstance(side, int) else None for side in image.shape[1:3])
    return Artifact(
        path, "onnx", (height, width, image.shape[3]), probabilities.shape[-1], path.stat().st_size, predict
    )


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


def check_signature(path, inputs, outputs):
    """Raise InputError unless the shapes are those of one image in and one vector of classes out."""
    if [len(shape) for shape in inputs] != [4] or [len(shape) for shape in outputs] != [2]:
        inputs, outputs = (", ".join(str(tuple(shape)) for shape in shapes) for shapes in (inputs, outputs))
        raise InputError(
            f"expected an image classifier, (batch, height, width, channels) to (batch, classes), got {path} from "
            f"{inputs} to {outputs}"
        )
