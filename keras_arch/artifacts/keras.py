"""Open a .keras file, or a Keras model in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..class_names import read_packed_labels
from ..models import load_keras, plain_model, strip_auxiliary_heads
from .artifact import Artifact, cast_images, check_number_type, check_signature

if TYPE_CHECKING:
    import keras


def open_keras(path: Path) -> Artifact:
    """Open a .keras file. See `open_artifact`."""
    model = plain_model(strip_auxiliary_heads(load_keras(path)))
    return replace(
        keras_artifact(path, model),
        size=path.stat().st_size,
        class_names=read_packed_labels(path),
    )


def keras_artifact(path: Path, model: keras.Model) -> Artifact:
    """Return the artifact of a model in memory. It has no size and no class names.

    Args:
        path: path or name of the model, for messages.
        model: functional model with one input and one output.
    """
    import keras

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
        path, "keras", tuple(image.shape[1:]), probabilities.shape[-1], size=0, predict=predict
    )
