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
