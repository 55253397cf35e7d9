"""What holds for any Keras classifier, whoever built it."""

import numpy as np

ROUNDING = 1e-3  # by which a probability, or the sum of an image's probabilities, may be off


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
