"""What int8 costs, layer by layer, and int8 files with some layers in float32."""

import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from ..artifacts.tflite import dequantize, quantize
from ..errors import choose
from .operators import places_of, start_interpreter, steps_of
from .tflite import convert, converter_of, representative_dataset

SUSPECT = 0.1  # of a channel's deviation; a layer that adds more error is worth keeping in float32


def rank_layers(saved_model, model, form, float_form, calibration, images):
    """How much error each layer of an int8 file adds, with the whole float32 file beside it on the same images.

    The error of a layer is that of its output's median channel: root mean square of the difference, as a share of the
    channel's deviation, and 1 where nothing of the signal is left. The error of probabilities is the root mean square
    of 1 for each image whose top class is another and 0 for the rest: steps of 1/256 make most probabilities of many
    classes zero, which counts only if the top class is among them. What its inputs have already is taken out, as
    variances are.

    Args:
        saved_model: folder that `traced` gave.
        model: the `keras.Model` in it, whose layers a row is named after.
        form, float_form: the int8 and the float32 row of FORMATS.
        calibration: images that the ranges are measured on.
        images: images that the errors are measured on.

    Returns:
        A list of {"layer", "operator", "added": error of its own, "error": error so far, "readers": names of the layers
        that take its output}, the one that adds most first. A layer of several operators has a row for each, such as a
        dense layer and its softmax. Layers of nested models are named, too, by their path where several have one name.
    """
    floats = start_interpreter(convert(saved_model, "float32", float_form, calibration))
    integers = start_interpreter(convert(saved_model, "int8", form, calibration))
    steps, float_steps = steps_of(integers), steps_of(floats)
    last = steps[-1]
    reference = {step.output["name"]: step.output for step in float_steps}
    reference[last.output["name"]] = float_steps[-1].output
    places = places_of(steps, model)
    names = {step.output["index"]: places[step.output["name"]].name for step in steps}
    steps = [step for step in steps if step.output["name"] in reference]
    sums: dict[int, Any] = {step.output["index"]: 0.0 for step in steps}
    changed = dict.fromkeys(sums, 0.0)
    for image in images:
        for interpreter in (floats, integers):
            (entry,) = interpreter.get_input_details()
            interpreter.set_tensor(entry["index"], quantize(image[np.newaxis], entry))
            interpreter.invoke()
        for step in steps:
            index = step.output["index"]
            real = floats.get_tensor(reference[step.output["name"]]["index"])
            found = dequantize(integers.get_tensor(index), step.output)
            real, found = (
                values.reshape(-1, values.shape[-1]).astype("float64") for values in (real, found)
            )
            sums[index] += np.stack(
                [np.mean(one, axis=0) for one in ((found - real) ** 2, real, real**2)]
            )
            changed[index] += np.mean(found.argmax(axis=1) != real.argmax(axis=1))
    of_values = {index: median_error(total / len(images)) for index, total in sums.items()}
    of_classes = {index: (total / len(images)) ** 0.5 for index, total in changed.items()}
    rows = []
    for step in steps:
        errors = of_classes if step.operator == "SOFTMAX" or step is last else of_values
        index = step.output["index"]
        before = max((errors[tensor] for tensor in step.inputs if tensor in errors), default=0.0)
        readers = [names[other.output["index"]] for other in steps if index in other.inputs]
        added = max(0.0, errors[index] ** 2 - before**2) ** 0.5
        row = {
            "layer": names[index],
            "operator": step.operator,
            "added": added,
            "error": errors[index],
        }
        rows.append({**row, "readers": readers})
    return sorted(rows, key=lambda row: -row["added"])


def median_error(means):
    """Error of the median channel, at most 1, from its means of squared difference, value and squared value."""
    noise, mean, square = means
    variance = square - mean**2
    alive = variance > 1e-12 * np.maximum(
        square, 1e-12
    )  # a channel that never changes has no signal to lose
    return (
        min(1.0, float(np.median(np.sqrt(noise[alive] / variance[alive])))) if alive.any() else 0.0
    )


def suspects(ranking):
    """The layers to keep in float32: those that add too much, and what reads them, or it would be rounded there."""
    worst = [row for row in ranking if row["added"] > SUSPECT]
    return list(dict.fromkeys(name for row in worst for name in (row["layer"], *row["readers"])))


def convert_keeping(saved_model, model, form, float_form, calibration, keep_float):
    """The bytes of an int8 file in which the layers `keep_float` compute in float32; its ends are float32, too.

    The name of a nested model stands for all of its layers.
    """
    steps = steps_of(start_interpreter(convert(saved_model, "float32", float_form, calibration)))
    names = {
        tensor: (place.name, *place.path[:-1]) for tensor, place in places_of(steps, model).items()
    }
    offered = list(dict.fromkeys(name for layers in names.values() for name in layers))
    for name in keep_float:
        choose("a layer to keep in float32", name, offered)
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_nodes=[
            tensor for tensor, layers in names.items() if set(layers) & set(keep_float)
        ]
    )
    with (
        warnings.catch_warnings()
    ):  # TensorFlow's own interpreter, which is used inside, says that it will retire
        warnings.simplefilter("ignore", UserWarning)
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter_of(saved_model, "int8", form, calibration),
            debug_dataset=representative_dataset(calibration[:1].astype("float32")),
            debug_options=options,
        )
        return debugger.get_nondebug_quantized_model()
