"""Measure the int8 error of each layer, and keep layers in float32."""

import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..artifacts.tflite import dequantize, quantize
from ..errors import choose
from ..formats import Format
from .operators import Operator, list_operators, match_layers, start_interpreter
from .tflite import configure, convert, open_converter, representative_dataset

ERROR_THRESHOLD = 0.1  # added error above which `layers_to_keep` returns a layer


@dataclass(frozen=True)
class LayerError:
    """Error of one operator of an int8 file compared with the float32 file."""

    layer: str
    """Name of the layer. Its path, if several layers have the name."""
    operator: str
    added: float
    """Error that the operator adds, 0-1."""
    error: float
    """Error of its output, 0-1."""
    readers: tuple[str, ...]
    """Names of the layers that take its output."""


def rank_layers(
    traced: str,
    model: keras.Model,
    form: Format,
    float_form: Format,
    calibration: np.ndarray,
    images: np.ndarray,
) -> list[LayerError]:
    """Rank layers by the error that int8 adds.

    The int8 and the float32 file run on the same images.

    - The error of a layer is the root mean square of the difference in the median channel of its
      output, as a fraction of the channel's standard deviation, at most 1.
    - The error of probabilities is the square root of the fraction of images whose top class
      changes. int8 probabilities have steps of 1/256, so that most probabilities of many classes
      become zero. This matters only if the top class is one of them.
    - The added error is the error without the error of the inputs: the difference of variances.

    Args:
        traced: SavedModel that `trace` wrote.
        model: the model in it.
        form: the int8 row of `FORMATS`.
        float_form: the float32 row of `FORMATS`.
        calibration: images that set the ranges.
        images: images that the errors are measured on.

    Returns:
        A `LayerError` for each operator, sorted by `added`, highest first. A layer of several
        operators has several, such as a dense layer and its softmax.
    """
    converter = open_converter(traced)
    floats = start_interpreter(convert(converter, float_form, calibration))
    integers = start_interpreter(convert(converter, form, calibration))
    operators, float_operators = list_operators(integers), list_operators(floats)
    last = operators[-1]
    reference = {one.output["name"]: one.output for one in float_operators}
    reference[last.output["name"]] = float_operators[-1].output
    layers = match_layers(operators, model)
    operators = [one for one in operators if one.output["name"] in reference]
    sums: dict[int, Any] = {one.output["index"]: 0.0 for one in operators}
    changed = dict.fromkeys(sums, 0.0)
    for image in images:
        for interpreter in (floats, integers):
            (entry,) = interpreter.get_input_details()
            interpreter.set_tensor(entry["index"], quantize(image[np.newaxis], entry))
            interpreter.invoke()
        for one in operators:
            index = one.output["index"]
            real = floats.get_tensor(reference[one.output["name"]]["index"])
            found = dequantize(integers.get_tensor(index), one.output)
            real, found = (
                values.reshape(-1, values.shape[-1]).astype("float64") for values in (real, found)
            )
            sums[index] += np.stack(
                [np.mean(values, axis=0) for values in ((found - real) ** 2, real, real**2)]
            )
            changed[index] += np.mean(found.argmax(axis=1) != real.argmax(axis=1))
    value_errors = {index: median_error(total / len(images)) for index, total in sums.items()}
    class_errors = {index: (total / len(images)) ** 0.5 for index, total in changed.items()}
    names = {one.output["index"]: layers[one.output["name"]].name for one in operators}
    rows = [
        layer_error(
            one,
            class_errors if one.name == "SOFTMAX" or one is last else value_errors,
            names,
            operators,
        )
        for one in operators
    ]
    return sorted(rows, key=lambda row: -row.added)


def layer_error(
    operator: Operator, errors: dict[int, float], names: dict[int, str], operators: list[Operator]
) -> LayerError:
    """Return the `LayerError` of an operator.

    Args:
        operator: one of `operators`.
        errors: {index of an output tensor: its error}.
        names: {index of an output tensor: name of its layer}.
        operators: all operators.
    """
    index = operator.output["index"]
    before = max((errors[tensor] for tensor in operator.inputs if tensor in errors), default=0.0)
    added = max(0.0, errors[index] ** 2 - before**2) ** 0.5
    readers = tuple(names[other.output["index"]] for other in operators if index in other.inputs)
    return LayerError(names[index], operator.name, added, errors[index], readers)


def median_error(means: np.ndarray) -> float:
    """Return the error of the median channel, at most 1.

    Args:
        means: (3, channels) means of the squared difference, the value and the squared value.
    """
    noise, mean, square = means
    variance = square - mean**2
    alive = variance > 1e-12 * np.maximum(square, 1e-12)  # a constant channel has no error
    if not alive.any():
        return 0.0
    return min(1.0, float(np.median(np.sqrt(noise[alive] / variance[alive]))))


def layers_to_keep(ranking: list[LayerError]) -> list[str]:
    """Return the layers to keep in float32: those above the threshold, and their readers.

    A reader in int8 would quantize the float32 output again.
    """
    worst = [row for row in ranking if row.added > ERROR_THRESHOLD]
    return list(dict.fromkeys(name for row in worst for name in (row.layer, *row.readers)))


def convert_mixed(
    traced: str, model: keras.Model, form: Format, float_form: Format, calibration: np.ndarray
) -> bytes:
    """Return the content of an int8 file with the layers `form.keep_float` in float32.

    Its input and output are float32. The name of a nested model stands for all of its layers.

    Args:
        traced: SavedModel that `trace` wrote.
        model: the model in it.
        form: the int8 row of `FORMATS` with `keep_float`.
        float_form: the float32 row of `FORMATS`.
        calibration: images that set the ranges.
    """
    content = convert(open_converter(traced), float_form, None)
    operators = list_operators(start_interpreter(content))
    names = {
        tensor: (layer.name, *layer.path[:-1])
        for tensor, layer in match_layers(operators, model).items()
    }
    known = list(dict.fromkeys(name for layers in names.values() for name in layers))
    for name in form.keep_float:
        choose("a layer to keep in float32", name, known)
    kept = [tensor for tensor, layers in names.items() if set(layers) & set(form.keep_float)]
    with warnings.catch_warnings():  # the debugger uses an interpreter that TensorFlow deprecates
        warnings.simplefilter("ignore", UserWarning)
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=configure(open_converter(traced), form, calibration),
            debug_dataset=representative_dataset(calibration[:1].astype("float32")),
            debug_options=tf.lite.experimental.QuantizationDebugOptions(denylisted_nodes=kept),
        )
        return debugger.get_nondebug_quantized_model()
