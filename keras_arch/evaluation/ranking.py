"""Order classes by their probability.

Integer files give many classes the same probability. Everywhere in this package, the first of
them wins, as in `argmax` of NumPy.
"""

import numpy as np


def top_classes(probabilities: np.ndarray, count: int) -> np.ndarray:
    """Return the most probable classes of each image, highest probability first.

    Of equally probable classes, the first one comes first.

    Args:
        probabilities: array (images, classes).
        count: number of classes to return.

    Returns:
        Integer array (images, count). If there are fewer classes, it has all of them.
    """
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :count]


def ranks_of(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the rank of a class for each image: 1 if it is the most probable one.

    Of equally probable classes, the first one has the lowest rank.

    Args:
        probabilities: array (images, classes).
        labels: integer array (images,), one class for each image.

    Returns:
        Integer array (images,), from 1 to the number of classes.
    """
    chosen = np.take_along_axis(probabilities, labels[:, np.newaxis], axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, np.newaxis]
    before = (probabilities > chosen) | ((probabilities == chosen) & earlier)
    return 1 + np.sum(before, axis=1)
