"""What int8 costs, layer by layer, and int8 files with some layers in float32."""

import re
import warnings
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ..artifacts import dequantize, quantize
from ..errors import choose
from .tflite import convert, converter_of, feed

SUSPECT = 0.1  # of a channel's deviation; a layer that adds more error is worth keeping in float32


class Step(NamedTuple):
    """An operator of a .tflite file that computes something."""

    operator: str
    inputs: list[int]
    output: dict[str, Any]  # LiteRT's details of its output tensor


def rank_layers(saved_model, model, form, float_form, calibration, images):
    """How much error each layer of an int8 file adds, with the whole float32 file beside it on the same images.

    The error of a layer is that of its output's median channel: root mean square of the difference, as a share of the
    channel's deviation, and 1 where nothing of the signal is left. What its inputs have already is taken out, as variances
    are.

    Args:
        saved_model: folder that `traced` gave.
        model: the `keras.Model` in it, whose layers a row is named after.
        form, float_form: the int8 and the float32 row of FORMATS.
        calibration: images that the ranges are measured on.
        images: images that the errors are measured on.

    Returns:
        A list of {"layer", "operator", "added": error of its own, "error": error so far, "readers": names of the layers
        that take its output}, the one that adds most first. The probabilities at the end are no row: below a step of
        int8 they are zero, which changes no order.
    """
    floats = started(convert(saved_model, "float32", float_form, calibration))
    integers = started(convert(saved_model, "int8", form, calibration))
    reference = {step.output["name"]: step.output for step in steps_of(floats)}
    steps = [step for step in steps_of(integers)[:-1] if step.output["name"] in reference]
    sums: dict[str, Any] = {step.output["name"]: 0.0 for step in steps}
    for image in images:
        for interpreter in (floats, integers):
            (entry,) = interpreter.get_input_details()
            interpreter.set_tensor(entry["index"], quantize(image[np.newaxis], entry))
            interpreter.invoke()
        for step in steps:
            name = step.output["name"]
            real = floats.get_tensor(reference[name]["index"])
            found = dequantize(integers.get_tensor(step.output["index"]), step.output)
            real, found = (values.reshape(-1, values.shape[-1]).astype("float64") for values in (real, found))
            sums[name] += np.stack([np.mean(one, axis=0) for one in ((found - real) ** 2, real, real**2)])
    errors = {name: median_error(total / len(images)) for name, total in sums.items()}
    names = {step.output["index"]: named_after(step.output["name"], model) for step in steps}
    rows = []
    for step in steps:
        error = errors[step.output["name"]]
        before = [errors[other.output["name"]] for other in steps if other.output["index"] in step.inputs]
        readers = [names[other.output["index"]] for other in steps if step.output["index"] in other.inputs]
        added = max(0.0, error**2 - max(before, default=0.0) ** 2) ** 0.5
        layer = names[step.output["index"]]
        rows.append({"layer": layer, "operator": step.operator, "added": added, "error": error, "readers": readers})
    return sorted(rows, key=lambda row: -row["added"])


def median_error(means):
    """Error of the median channel, at most 1, from its means of squared difference, value and squared value."""
    noise, mean, square = means
    variance = square - mean**2
    alive = variance > 1e-12 * np.maximum(square, 1e-12)  # a channel that never changes has no signal to lose
    return min(1.0, float(np.median(np.sqrt(noise[alive] / variance[alive])))) if alive.any() else 0.0


def started(content):
    """An interpreter that keeps what every operator gave."""
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return interpreter


def steps_of(interpreter):
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    return [
        Step(operator["op_name"], list(operator["inputs"]), tensors[operator["outputs"][0]])
        for operator in interpreter._get_ops_details()
    ]


def suspects(ranking):
    """The layers to keep in float32: those that add too much, and what reads them, or it would be rounded there."""
    worst = [row for row in ranking if row["added"] > SUSPECT]
    return list(dict.fromkeys(name for row in worst for name in (row["layer"], *row["readers"])))


def convert_keeping(saved_model, model, form, float_form, calibration, keep_float):
    """The bytes of an int8 file in which the layers `keep_float` compute in float32; its ends are float32, too."""
    floats = started(convert(saved_model, "float32", float_form, calibration))
    names = {step.output["name"]: named_after(step.output["name"], model) for step in steps_of(floats)}
    for name in keep_float:
        choose("a layer to keep in float32", name, list(dict.fromkeys(names.values())))
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_nodes=[tensor for tensor, layer in names.items() if layer in keep_float]
    )
    with warnings.catch_warnings():  # TensorFlow's own interpreter, which is used inside, says that it will retire
        warnings.simplefilter("ignore", UserWarning)
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter_of(saved_model, "int8", form, calibration),
            debug_dataset=feed(calibration[:1].astype("float32")),
            debug_options=options,
        )
        return debugger.get_nondebug_quantized_model()


def named_after(tensor_name, model):
    """The layer that an operator computes, of several that were fused the one with a kernel; or the tensor's own name.

    The converter joins the names of what it has fused: resnet8_1/stem_conv_relu_1/Relu;resnet8_1/stem_conv_1/convolution.
    """
    parts = re.split("[;/]", tensor_name)
    names = {*parts, *(re.sub(r"_\d+$", "", part) for part in parts)}  # Keras numbers the second call of a layer
    layers = sorted(model.layers, key=lambda layer: not hasattr(layer, "kernel"))
    return next((layer.name for layer in layers if layer.name in names), tensor_name)
