"""What an export demands of a model's outputs before it writes anything."""

import numpy as np

from ..errors import InputError
from ..models import are_probabilities

LOOKED_AT = 16  # calibration images whose outputs are checked


def check_probabilities(model, images):
    """Raise InputError unless `model` gives class probabilities for the first of `images`.

    Args:
        model: a `keras.Model` with one output.
        images: array (count, height, width, channels) of 0-255.
    """
    outputs = np.asarray(model(images[:LOOKED_AT].astype("float32"), training=False))
    if not are_probabilities(outputs):
        sums = outputs.sum(axis=-1)
        raise InputError(
            f"{model.name} must give class probabilities. Received: outputs from {outputs.min():.3g} to "
            f"{outputs.max():.3g}, whose sums for each image are {sums.min():.3g} to {sums.max():.3g}. Build the model with "
            'classifier_activation="softmax", or append keras.layers.Softmax() to logits'
        )
