"""Open a SavedModel directory."""

from pathlib import Path

from ..class_names import LABELS, read_labels
from ..errors import NAMES_SHOWN, InputError, first_line
from ..files import plain_path, size_of
from ..text import VALUE_CELLS, shorten
from .artifact import Artifact, cast_images, check_number_type, check_signature, predict_in_batches

SIGNATURE = "serving_default"  # signature that takes images


def open_saved_model(path: Path) -> Artifact:
    """Open a SavedModel directory. See `open_artifact`."""
    import tensorflow as tf

    try:
        with plain_path(path) as plain:
            module = tf.saved_model.load(plain)  # owns the variables of its signatures
        signatures = dict(module.signatures)
    except Exception as error:  # a damaged file can raise any exception
        raise InputError(
            f"{path} is not a valid SavedModel directory. Received: {first_line(error)}. "
            "Export it again."
        ) from error
    if SIGNATURE not in signatures:
        found = shorten(", ".join(sorted(signatures)[:NAMES_SHOWN]), VALUE_CELLS) or "none"
        raise InputError(
            f"{path} has no signature {SIGNATURE!r}. Received: {found}. "
            "Save it with `model.export(DIRECTORY)`."
        )
    signature = signatures[SIGNATURE]
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if "probabilities" in outputs:  # SavedModels of keras-arch export also output class names
        outputs = {"probabilities": outputs["probabilities"]}
    check_signature(
        path, [spec.shape for spec in inputs.values()], [spec.shape for spec in outputs.values()]
    )
    ((input_name, image),), ((output_name, probabilities),) = inputs.items(), outputs.items()
    check_number_type(path, image.dtype.as_numpy_dtype, image.dtype.name)

    def predict(images, module=module):  # keeps the module alive
        pixels = tf.constant(cast_images(images, image.dtype.as_numpy_dtype))
        return signature(**{input_name: pixels})[output_name].numpy()

    labels = path / "assets" / LABELS
    return Artifact(
        path,
        "saved_model",
        tuple(image.shape[1:]),
        probabilities.shape[-1],
        size_of(path),
        predict_in_batches(predict, image.shape[0]),
        read_labels(labels) if labels.is_file() else None,
    )
