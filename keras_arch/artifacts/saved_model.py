"""Open a SavedModel folder."""

from ..errors import NAMES_SHOWN, InputError, first_line
from ..files import plain_path, size_of
from ..text import VALUE_CELLS, shorten
from .artifact import Artifact, cast_images, check_number_type, check_signature, predict_in_batches

SIGNATURE = "serving_default"  # of a SavedModel, which serves images


def open_saved_model(path):
    import tensorflow as tf

    try:
        with plain_path(path) as plain:
            module = tf.saved_model.load(
                plain
            )  # it must outlive its signature, whose variables it owns
        signatures = dict(module.signatures)
    except Exception as error:  # as above
        raise InputError(
            f"expected a whole SavedModel folder, got {path}: {first_line(error)}"
        ) from error
    if SIGNATURE not in signatures:
        there = shorten(", ".join(sorted(signatures)[:NAMES_SHOWN]), VALUE_CELLS) or "none"
        raise InputError(
            f"{path} has no signature {SIGNATURE!r}. Received: {there}. Save it with `model.export(FOLDER)`."
        )
    signature = signatures[SIGNATURE]
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if (
        "probabilities" in outputs
    ):  # as scripts/export.py writes it, with the names of the classes beside them
        outputs = {"probabilities": outputs["probabilities"]}
    check_signature(
        path, [spec.shape for spec in inputs.values()], [spec.shape for spec in outputs.values()]
    )
    ((input_name, image),), ((output_name, probabilities),) = inputs.items(), outputs.items()
    check_number_type(path, image.dtype.as_numpy_dtype, image.dtype.name)

    def predict(images, module=module):
        pixels = tf.constant(cast_images(images, image.dtype.as_numpy_dtype))
        return signature(**{input_name: pixels})[output_name].numpy()

    predict = predict_in_batches(predict, image.shape[0])
    return Artifact(
        path, "saved_model", tuple(image.shape[1:]), probabilities.shape[-1], size_of(path), predict
    )
