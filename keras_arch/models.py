"""Functions for any Keras classifier."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import (
    NAMES_SHOWN,
    InputError,
    explain_surroundings,
    first_line,
    is_out_of_memory,
    memory_error,
)
from .files import link_with_suffix
from .keras_private import input_tensors, operation_of, output_index
from .text import VALUE_CELLS, brief, shorten

if TYPE_CHECKING:
    import keras

SCOPE = r"[A-Za-z0-9_.\\/>-]*"  # layer names that TensorFlow can trace
VARIABLE = rf"[A-Za-z0-9.]{SCOPE}"  # variable names that TensorFlow can trace
ROUNDING = 1e-3  # tolerance for probabilities and their sums
SOFTMAX_FIX = 'Build the model with classifier_activation="softmax", or append a Softmax layer.'
SIGMOID_FIX = "They are scores of a sigmoid. Replace it by a softmax, and train the model."
AUXILIARY_OUTPUT = re.compile(r"auxiliary_\d[a-z]")  # GoogLeNet's auxiliary classifiers
# Layers that can end a stage, with the name of the stage. The last one ends it.
STAGE_END = re.compile(r"(stage\d+|mlpconv\d+|inception_\d).*_(out|relu|add|concat)")
# In pre-activation networks, the layers that activate the last sum of a stage.
ACTIVATION_OF_STAGE = re.compile(r"stage\d+_block1_preact_relu|final_relu")
# Fragments of Keras's messages, for a missing class or function and for unsafe code.
MISSING = re.compile(r"Could not locate (class|function) ('.+?')")
UNSAFE = re.compile(r"deserialization of a (`\w+`).*code execution", re.DOTALL)


def check_model(model: object) -> None:
    """Raise InputError unless `model` is a `keras.Model` with inputs and outputs."""
    import keras

    if not isinstance(model, keras.Model) or not hasattr(model, "outputs"):
        raise InputError(
            "`model` must be a functional or a built Sequential `keras.Model`. "
            f"Received: {type(model).__name__}. Build it with keras_arch.build."
        )


def are_probabilities(outputs: np.ndarray) -> bool:
    """Return whether the outputs of a classifier are probabilities, not logits or sigmoid scores.

    Args:
        outputs: Array (images, classes) that the model computes for some images.

    Returns:
        True if every number is between 0 and 1 and every row sums to 1, both within 0.001.
    """
    outputs = np.asarray(outputs, "float64")
    inside = (outputs >= -ROUNDING) & (outputs <= 1 + ROUNDING)
    return bool(inside.all() and np.allclose(outputs.sum(axis=-1), 1, rtol=0, atol=ROUNDING))


def check_probabilities(model, images, allow_nonfinite=False, fix=SOFTMAX_FIX):
    """Raise InputError unless each output of a model is class probabilities.

    Args:
        model: a functional `keras.Model`.
        images: array (images, height, width, channels) of 0-255.
        allow_nonfinite: whether to skip outputs with NaN or infinity.
        fix: end of the message, how to correct the model.
    """
    import keras

    outputs = keras.tree.flatten(run_model(model, images))
    for name, tensor, output in zip(model.output_names, model.outputs, outputs, strict=True):
        output = keras.ops.convert_to_numpy(output)
        if are_probabilities(output) or (allow_nonfinite and not np.isfinite(output).all()):
            continue
        sums, fix = output.sum(axis=-1), SIGMOID_FIX if ends_in_sigmoid(tensor) else fix
        raise InputError(
            f"The output `{shorten(name)}` must be class probabilities. Received: values from "
            f"{output.min():.3g} to {output.max():.3g} with sums per image from {sums.min():.3g} to "
            f"{sums.max():.3g}. {fix}"
        )


def ends_in_sigmoid(output: keras.KerasTensor) -> bool:
    """Return whether a sigmoid computes a symbolic output, so that it is independent scores."""
    import keras

    layer = layer_of(output)
    activation = getattr(layer, "activation", None)
    return activation is keras.activations.sigmoid or type(layer).__name__ == "Sigmoid"


def run_model(model: keras.Model, images: np.ndarray) -> Any:
    """Return what a model computes for images outside of training. See `explain_run`.

    Args:
        model: A functional `keras.Model`.
        images: Array (images, height, width, channels) of 0-255.
    """
    with explain_run():
        return model(np.asarray(images, "float32"), training=False)


@contextmanager
def explain_run() -> Iterator[None]:
    """Raise InputError if Keras cannot run a model in the block.

    A layer may receive another shape than in training, for example.
    """
    try:
        yield
    except Exception as error:  # each layer raises its own
        if is_out_of_memory(error):
            raise memory_error(error) from error
        raise InputError(
            "Keras must be able to run the model on images. Received: "
            f"{first_line(error)}. Check it with model(images, training=False), and correct the "
            "layers."
        ) from error


def plain_model(model: keras.Model, name: str = "classifier") -> keras.Model:
    """Return the model in a form that TensorFlow can trace. Both models share all layers.

    The new model takes one tensor, not a list or dict. It returns one tensor, or a list of several.

    Args:
        model: A functional `keras.Model` with one input, the image.
        name: Name of the new model. TensorFlow cannot trace models with names such as "modèle".

    Raises:
        InputError (a ValueError): The model has several inputs, or TensorFlow cannot trace the name
            of a layer.
    """
    import keras

    if len(model.inputs) != 1:
        raise InputError(
            f"{shorten(model.name)} must have one input, the image. "
            f"Received: {len(model.inputs)} inputs: "
            f"{shorten(', '.join(image.name for image in model.inputs[:5]), 60)}. "
            "Build a model that takes the image alone."
        )
    names = [layer.name for layer in all_layers(model) if not re.fullmatch(SCOPE, layer.name)]
    if names:
        raise InputError(
            "Names of layers must be letters A-Z, digits and _ . - / for TensorFlow to trace them. "
            f"Received: {brief(names[0])}. Rename the layer and copy the weights."
        )
    outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
    return keras.Model(model.inputs[0], outputs, name=name)


def with_traceable_variables(model: keras.Model) -> keras.Model:
    """Return the model, or a copy if TensorFlow cannot trace the names of its variables.

    In a Sequential model, they begin with the name of the model, such as "modèle".

    Args:
        model: A functional or Sequential `keras.Model` with one input, the image.
    """
    import keras

    if all(re.fullmatch(VARIABLE, variable.path) for variable in model.variables):
        return model
    copy = keras.models.clone_model(plain_model(model, model.name))
    copy.set_weights(model.get_weights())
    return copy


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield every layer of a model. The layers of a nested model follow it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from all_layers(layer)


def layer_of(tensor: keras.KerasTensor) -> keras.Operation:
    """Return the layer that computes a symbolic tensor. It may be inside a nested model."""
    layer = operation_of(tensor)
    if hasattr(layer, "layers") and hasattr(layer, "outputs"):
        return layer_of(layer.outputs[output_index(tensor)])
    return layer


def output_layers(model: keras.Model) -> set[keras.layers.Layer]:
    """Return the layers that compute the outputs of a model.

    If operations such as `keras.ops.softmax` follow a layer, they belong to it.
    """
    return set().union(*map(last_layers, model.outputs))


def last_layers(tensor: keras.KerasTensor) -> set[keras.layers.Layer]:
    """Return the layers that compute a symbolic tensor. Operations may follow them."""
    import keras

    layer = operation_of(tensor)
    if hasattr(layer, "layers") and hasattr(layer, "outputs"):
        return last_layers(layer.outputs[output_index(tensor)])
    if isinstance(layer, keras.layers.Layer):
        return {layer}
    return set().union(*map(last_layers, input_tensors(tensor)))


def check_backend(function: str) -> None:
    """Raise InputError unless Keras runs on TensorFlow.

    Args:
        function: Name of the public function that needs TensorFlow, for the message.
    """
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        raise InputError(
            f"`{function}` needs Keras on TensorFlow. Received: the backend {backend}. Save the "
            "model, set KERAS_BACKEND=tensorflow before Keras is imported, and load it again."
        )


def strip_auxiliary_heads(model: keras.Model) -> keras.Model:
    """Return a model without its auxiliary classifiers. Both models share all weights.

    A model without auxiliary classifiers is returned as it is.

    Args:
        model: A `keras.Model`, such as `GoogLeNet(auxiliary_heads=True)`.

    Returns:
        A `keras.Model` with one output, the class probabilities. If the model has one output in a
        list or dict, the new model returns the tensor.

    Raises:
        InputError (a ValueError): The model has several outputs that are not auxiliary classifiers
            of GoogLeNet.

    Example:
        model = keras_arch.GoogLeNet(auxiliary_heads=True)
        model.compile("sgd", ["sparse_categorical_crossentropy"] * 3, loss_weights=[1, 0.3, 0.3])
        model.fit(images, [labels] * 3)
        classifier = keras_arch.strip_auxiliary_heads(model)
    """
    import keras

    check_model(model)
    main = main_outputs(model)
    if len(main) != 1:
        names = [operation_of(output).name for output in model.outputs]
        names = sorted(model.output) if isinstance(model.output, dict) else names
        more = ", ..." if len(names) > NAMES_SHOWN else ""
        raise InputError(
            f"{shorten(model.name)} must have one output, the class probabilities. "
            f"Received: {len(names)} outputs: "
            f"{shorten(', '.join(names[:NAMES_SHOWN]), VALUE_CELLS)}{more}. "
            "Keep one of them: keras.Model(model.input, model.outputs[0])."
        )
    if getattr(model, "output", main[0]) is main[0]:  # a Sequential may have no `output`
        return model
    return keras.Model(model.input, main[0], name=model.name)


def main_outputs(model: keras.Model) -> list[keras.KerasTensor]:
    """Return the outputs of a model without those of auxiliary classifiers."""
    main = [
        output
        for output in model.outputs
        if not AUXILIARY_OUTPUT.fullmatch(operation_of(output).name)
    ]
    return main or model.outputs


def load_keras(path: str | Path) -> keras.Model:
    """Return the model in a .keras file.

    Raises:
        InputError (a ValueError): The file does not exist, is damaged or unsafe, needs code that
            Keras does not know, or holds a model that is neither functional nor a built Sequential.
    """
    if not Path(path).is_file():
        raise InputError(
            f"{path} must be a .keras file. Received: a path that does not exist. Correct the path."
        )
    with explain_surroundings():
        import keras

    check_archive(path)
    try:
        with link_with_suffix(path, ".keras") as file:
            model = keras.models.load_model(file, compile=False)
    except Exception as error:  # Keras has no exception class for this
        if unsafe := UNSAFE.search(str(error)):
            raise InputError(
                f"{path} can run arbitrary code when it is loaded. Received: a {unsafe[1]} layer. "
                "Replace it with a layer class that is registered by "
                "@keras.saving.register_keras_serializable()."
            ) from error
        if missing := MISSING.search(str(error)):
            kind, name = missing.groups()
            raise InputError(
                f"{path} needs the {kind} {shorten(name)}, which Keras does not know. Decorate it "
                "with @keras.saving.register_keras_serializable() and import it before the file is "
                "loaded."
            ) from error
        raise InputError(f"Keras cannot load {path}. Received: {first_line(error)}") from error
    if not hasattr(model, "outputs"):
        raise InputError(
            f"{path} must hold a functional or a built Sequential model. "
            f"Received: a {type(model).__name__} without inputs and outputs. "
            "Call it on keras.Input((height, width, channels)) and save "
            "keras.Model(inputs, outputs)."
        )
    return model


def check_archive(path):
    """Raise InputError if a .keras file, which is a zip archive, is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # damaged bytes can raise any exception
        damaged = first_line(error)
    if damaged is not None:
        raise InputError(f"{path} is damaged. Received: {damaged}. Copy or download it again.")


def head_names(model: keras.Model) -> set[str]:
    """Return the names of the head layers: for each output, the last layer with weights."""
    return {layer.name for layer in head_layers(model)}


def head_layers(model: keras.Model) -> set[keras.layers.Layer]:
    """Return the head layers: for each output, the last layer with weights.

    They may be inside a nested model.
    """
    found = map(find_last_with_weights, model.outputs)
    return {layer for layer in found if layer is not None}


def find_last_with_weights(tensor: keras.KerasTensor) -> keras.layers.Layer | None:
    """Return the last layer with weights on a path to a symbolic tensor, or None."""
    layer = operation_of(tensor)
    if not getattr(layer, "weights", ()):  # an operation such as `keras.ops.softmax` has none
        found = map(find_last_with_weights, input_tensors(tensor))
        return next((layer for layer in found if layer is not None), None)
    if hasattr(layer, "outputs"):
        return find_last_with_weights(layer.outputs[output_index(tensor)])
    return layer


def resize_model(model: keras.Model, height: int | None, width: int | None) -> keras.Model:
    """Return a copy of a model for images of another size. Weights are copied.

    Args:
        model: A `keras.Model` with one input, the image.
        height, width: Image size in pixels. None: any size.

    Raises:
        InputError (a ValueError): The layers of the model cannot take that size.
    """
    import keras

    model = plain_model(strip_auxiliary_heads(model), model.name)
    image = keras.Input((height, width, model.input_shape[-1]), name="image")
    try:
        other = keras.models.clone_model(model, input_tensors=image)
        other.set_weights(model.get_weights())
    except Exception as error:  # each layer raises its own
        size = "any size" if height is None else f"{height}x{width}"
        raise InputError(
            f"`height` and `width` must be a size that {model.name} can take. "
            f"Received: {size}: {first_line(error)}. Pass another size."
        ) from error
    return other


def feature_maps(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Return the last feature map of each stage, for detectors and segmenters.

    A stage is a part of the network at one resolution: all residual blocks of one size, the
    Inception modules 3, 4 or 5, or an mlpconv block. The first stage follows the stem.

    Each map is activated: it is what the next stage reads. In pre-activation networks, it is the
    ReLU after the last sum of the stage. The last map is the output of the network with
    `include_top=False`. `feature_strides` returns the strides.

    Args:
        model: A `keras.Model` from a builder of this package, with or without its head, or such a
            model from a .keras file.

    Returns:
        {"stage1": tensor, "stage2": ...} in the order of the network. A tensor is a symbolic output
        (batch, height, width, channels). All weights are shared with `model`.

    Raises:
        InputError (a ValueError): The model is not from a builder of this package.

    Example:
        backbone = keras_arch.ResNet50(include_top=False, weights="imagenet")
        maps = keras_arch.feature_maps(backbone)
        pyramid = keras.Model(backbone.input, maps)
        pyramid(images)["stage4"]  # images / 32 pixels, 2048 channels
    """
    check_model(model)
    ends: dict[str, keras.KerasTensor] = {}  # {stage in the names of layers: tensor}
    for layer in model.layers:
        if ends and ACTIVATION_OF_STAGE.fullmatch(layer.name):
            ends[next(reversed(ends))] = layer.output
        elif end := STAGE_END.fullmatch(layer.name):
            ends[end[1]] = layer.output
    if not ends:
        raise InputError(
            "`model` must be built by a builder of keras_arch. "
            f"Received: {shorten(model.name)}, whose layers have no names of stages. Pass the "
            "backbone itself, such as keras_arch.ResNet50(include_top=False)."
        )
    return {f"stage{number}": tensor for number, tensor in enumerate(ends.values(), start=1)}


def feature_strides(model: keras.Model) -> dict[str, int]:
    """Return the strides of the feature maps of `feature_maps`.

    A map has a pixel per `stride` pixels of the image in each direction.

    Args:
        model: As in `feature_maps`. The image size may be open.

    Returns:
        {"stage1": stride, "stage2": ...}. The sizes of the maps of residual and plain networks are
        image size / stride, rounded up. Pools of GoogLeNet and Network in Network round odd sizes
        down.

    Raises:
        InputError (a ValueError): The model is not from a builder of this package.

    Example:
        keras_arch.feature_strides(keras_arch.ResNet50())  # {"stage1": 4, "stage2": 8, ...}
    """
    return {name: stride_of(tensor) for name, tensor in feature_maps(model).items()}


def stride_of(tensor: keras.KerasTensor) -> int:
    """Return the product of the strides on the path from the input to a feature map."""
    stride = 1
    while inputs := input_tensors(tensor):
        stride *= getattr(operation_of(tensor), "strides", (1,))[0]
        tensor = inputs[0]
    return stride
