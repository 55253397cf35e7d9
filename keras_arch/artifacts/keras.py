"""Open a .keras file."""

from pathlib import Path

from ..class_names import read_packed_labels
from ..models import load_keras, plain_model, strip_auxiliary_heads
from .artifact import Artifact, cast_images, check_number_type, check_signature


def open_keras(path: Path) -> Artifact:
    """Open a .keras file. See `open_artifact`."""
    import keras

    model = plain_model(strip_auxiliary_heads(load_keras(path)))
    check_signature(
        path, [image.shape for image in model.inputs], [output.shape for output in model.outputs]
    )
    (image,), (probabilities,) = model.inputs, model.outputs
    check_number_type(path, image.dtype, image.dtype)
    structure = getattr(model, "input", image)  # e.g. a dict; a Sequential may have no `input`

    def predict(images):
        return model.predict_on_batch(
            keras.tree.pack_sequence_as(structure, [cast_images(images, image.dtype)])
        )

    return Artifact(
        path,
        "keras",
        tuple(image.shape[1:]),
        probabilities.shape[-1],
        path.stat().st_size,
        predict,
        read_packed_labels(path),
    )
