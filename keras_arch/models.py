"""What holds for any Keras classifier, whoever built it."""

import re
import zipfile
from pathlib import Path

import numpy as np

from .errors import NAMES_SHOWN, InputError, explain_surroundings, first_line
from .files import link_with_suffix
from .text import VALUE_CELLS, brief, shorten

SCOPE = r"[A-Za-z0-9_.\\/>-]*"  # names of layers that TensorFlow can trace
ROUNDING = 1e-3  # by which a probability, or the sum of an image's probabilities, may be off


def check_model(model):
    """Raise InputError unless `model` is a `keras.Model` with inputs and outputs."""
    import keras

    if not isinstance(model, keras.Model) or not hasattr(model, "outputs"):
        raise InputError(
            f"`model` must be a functional or a built Sequential `keras.Model`. Received: {type(model).__name__}. Build "
            "it with keras_arch.build."
        )


def are_probabilities(outputs):
    """Return whether the outputs of a classifier are probabilities, not logits or independent scores.

    Args:
        outputs: array (images, classes) of what the model computes for some images.

    Returns:
        True if every number is between 0 and 1 and each row sums to 1, both to rounding.
    """
    outputs = np.asarray(outputs, "float64")
    inside = (outputs >= -ROUNDING) & (outputs <= 1 + ROUNDING)
    return bool(inside.all() and np.allclose(outputs.sum(axis=-1), 1, rtol=0, atol=ROUNDING))


def check_probabilities(model, images, allow_nonfinite=False):
    """Raise InputError unless each output of a model is class probabilities.

    Args:
        model: a functional `keras.Model`.
        images: array (images, height, width, channels) of 0-255.
        allow_nonfinite: whether to skip outputs with NaN or infinity.
    """
    import keras

    outputs = keras.tree.flatten(model(np.asarray(images, "float32"), training=False))
    for name, output in zip(model.output_names, outputs, strict=True):
        output = keras.ops.convert_to_numpy(output)
        if are_probabilities(output) or (allow_nonfinite and not np.isfinite(output).all()):
            continue
        sums = output.sum(axis=-1)
        raise InputError(
            f"The output `{shorten(name)}` must be class probabilities. Received: values from "
            f"{output.min():.3g} to {output.max():.3g} with sums per image from {sums.min():.3g} to "
            f'{sums.max():.3g}. Build the model with classifier_activation="softmax", or append a '
            "Softmax layer."
        )


def plain_model(model, name="classifier"):
    """Return the same classifier, sharing all layers, in the form that TensorFlow can trace and that every caller knows.

    Its one image is no list or dict, and neither is its only output; several are a list.

    Args:
        model: a functional `keras.Model` of one image.
        name: of the new model. TensorFlow cannot trace models with names such as "modèle".

    Raises:
        InputError (a ValueError): the model has several inputs, or a layer whose name TensorFlow cannot trace.
    """
    import keras

    if len(model.inputs) != 1:
        raise InputError(
            f"{shorten(model.name)} must have one input, the image. Received: {len(model.inputs)} inputs: "
            f"{shorten(', '.join(image.name for image in model.inputs[:5]), 60)}. Build a model that takes the image alone."
        )
    names = [layer.name for layer in all_layers(model) if not re.fullmatch(SCOPE, layer.name)]
    if names:
        raise InputError(
            "Names of layers must be letters A-Z, digits and _ . - / for TensorFlow to trace them. "
            f"Received: {brief(names[0])}. Rename the layer and copy the weights."
        )
    outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
    return keras.Model(model.inputs[0], outputs, name=name)


def all_layers(model):
    """Yield every layer of a model, each nested model followed by its layers."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from all_layers(layer)


def layer_of(tensor):
    """Return the layer that computes a symbolic tensor. It may be inside a nested model."""
    layer, _, index = tensor._keras_history
    return (
        layer_of(layer.outputs[index])
        if hasattr(layer, "layers") and hasattr(layer, "outputs")
        else layer
    )


def check_backend(function):
    """Raise InputError unless Keras runs on TensorFlow.

    Args:
        function: name of the public function that needs TensorFlow, for the message.
    """
    import keras

    if (backend := keras.backend.backend()) != "tensorflow":
        raise InputError(
            f"`{function}` needs Keras on TensorFlow. Received: the backend {backend}. Save the model, set "
            "KERAS_BACKEND=tensorflow before Keras is imported, and load it again."
        )


TRAINING_HEAD = re.compile(r"auxiliary_\d[a-z]")  # how GoogLeNet names its training heads


MISSING = re.compile(
    r"Could not locate (class|function) ('.+?')"
)  # what Keras says of code that it does not find
UNSAFE = re.compile(
    r"deserialization of a (`\w+`).*code execution", re.DOTALL
)  # and of what it holds to be unsafe


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

    check_model(model)
    names = [output._keras_history.operation.name for output in model.outputs]
    main = [
        output
        for output, name in zip(model.outputs, names, strict=True)
        if not TRAINING_HEAD.fullmatch(name)
    ]
    main = main or model.outputs
    if len(main) != 1:
        names = sorted(model.output) if isinstance(model.output, dict) else names
        more = ", ..." if len(names) > NAMES_SHOWN else ""
        raise InputError(
            f"{shorten(model.name)} must have one output, the class probabilities. Received: {len(names)} outputs: "
            f"{shorten(', '.join(names[:NAMES_SHOWN]), VALUE_CELLS)}{more}. Keep one of them: keras.Model(model.input, model.outputs[0])"
        )
    if getattr(model, "output", main[0]) is main[0]:  # a Sequential may have no `output`
        return model
    return keras.Model(model.input, main[0], name=model.name)


def load_keras(path):
    """The `keras.Model` in a .keras file, or InputError if the file is damaged or holds a model without a graph."""
    if not Path(path).is_file():
        raise InputError(f"expected a .keras file, got {path}, which does not exist")
    with explain_surroundings():
        import keras

    check_archive(path)
    try:
        with link_with_suffix(path, ".keras") as file:
            model = keras.models.load_model(file, compile=False)
    except Exception as error:  # Keras has no exception for this
        if unsafe := UNSAFE.search(str(error)):
            raise InputError(
                f"{path} can run any Python code or graph when it is opened, so it stays closed. Received: a {unsafe[1]} layer. "
                "Replace it with a layer class that is registered by @keras.saving.register_keras_serializable()."
            ) from error
        if missing := MISSING.search(str(error)):
            kind, name = missing.groups()
            raise InputError(
                f"{path} needs the {kind} {shorten(name)}, which Keras does not know. Decorate it with "
                "@keras.saving.register_keras_serializable() and import it before the file is opened."
            ) from error
        raise InputError(f"Keras cannot open {path}. Received: {first_line(error)}") from error
    if not hasattr(model, "outputs"):
        raise InputError(
            f"{path} must hold a functional or a built Sequential model. Received: a {type(model).__name__} without "
            "inputs and outputs. Call it on keras.Input((height, width, channels)) and save keras.Model(inputs, outputs)."
        )
    return model


def check_archive(path):
    """Raise InputError if a .keras file, which is a zip archive, is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # whatever its bytes happen to mean
        damaged = first_line(error)
    if damaged is not None:
        raise InputError(f"{path} is damaged. Received: {damaged}. Copy or download it again.")


def head_names(model):
    """Names of the layers that turn features into classes: for each output, the last with weights on the way to it."""
    return {layer.name for layer in head_layers(model)}


def head_layers(model):
    """The layers that `head_names` names. They may be inside a nested model."""
    return {last_with_weights(output) for output in model.outputs}


def last_with_weights(tensor):
    """The last layer with weights on the way to a symbolic tensor."""
    layer, node, index = tensor._keras_history
    if not getattr(layer, "weights", ()):  # an operation such as `keras.ops.softmax` has none
        return last_with_weights(layer._inbound_nodes[node].input_tensors[0])
    return last_with_weights(layer.outputs[index]) if hasattr(layer, "outputs") else layer


def resize_model(model, height, width):
    """The same model, with copies of its weights, for images of another size.

    Raises:
        InputError (a ValueError): its layers cannot take that size.
    """
    import keras

    model = plain_model(strip_auxiliary_heads(model), model.name)
    image = keras.Input((height, width, model.input_shape[-1]), name="image")
    try:
        other = keras.models.clone_model(model, input_tensors=image)
        other.set_weights(model.get_weights())
    except Exception as error:  # of whichever layer is the first that cannot
        raise InputError(
            f"expected a size that {model.name} can take, got {height}x{width}: {first_line(error)}"
        ) from error
    return other
