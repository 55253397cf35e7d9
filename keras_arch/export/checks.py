"""Check images and models before an export writes anything."""

import keras
import numpy as np
from numpy.typing import ArrayLike

from ..errors import InputError
from ..models import all_layers


def check_raw_images(images: np.ndarray, name: str) -> np.ndarray:
    """Return `images` as an array, or raise InputError unless they are raw images.

    Args:
        images: array-like (count, height, width, channels), 0-255.
        name: name of the argument, for the message.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not images.size or images.dtype.kind not in "uif":
        raise InputError(
            f"`{name}` must be an array of numbers (count, height, width, channels) with at least "
            f"one image. Received: shape={images.shape}, dtype={images.dtype}."
        )
    finite = np.isfinite(images).all(axis=(1, 2, 3))
    if not finite.all():
        raise InputError(
            f"`{name}` must be finite pixels of 0-255. Received: NaN or infinity in "
            f"{np.sum(~finite)} of {len(images)} images. Remove these images."
        )
    low, high = images.min(), images.max()
    normalized = images.dtype.kind == "f" and high <= 1  # integers of 0 and 1 can be a raw mask
    if low < 0 or high > 255 or normalized:
        raise InputError(
            f"`{name}` must be pixels of 0-255. Received: pixels from {low:.6g} to {high:.6g}. "
            "Pass raw 0-255 pixels. The model normalizes them."
        )
    return images


def check_labels(labels: ArrayLike, count: int, classes: int, name: str) -> np.ndarray:
    """Return labels as int64 (count,), or raise InputError if they do not fit.

    Args:
        labels: array-like of `count` integers, 0 to classes - 1.
        count: number of images.
        classes: number of classes.
        name: name of the argument, for the message.
    """
    labels = np.asarray(labels)
    if labels.size != count or labels.dtype.kind not in "iu":
        raise InputError(
            f"`{name}` must have one integer label for each of {count} images. "
            f"Received: labels of shape {labels.shape}, dtype={labels.dtype}."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"The labels of `{name}` must be from 0 to {classes - 1}. "
            f"Received: {labels.min()} to {labels.max()}. Use the order of `class_names`."
        )
    return labels.reshape(-1).astype("int64")


def check_precision(model: keras.Model) -> None:
    """Raise InputError unless all layers of a model and its nested models compute in float32."""
    for layer in (model, *all_layers(model)):
        if layer.compute_dtype != "float32":
            raise InputError(
                "All layers must compute in float32 for an export. "
                f"Received: `{layer.name}` in {layer.dtype_policy.name}. "
                'Call keras.config.set_dtype_policy("float32"), build the model again without '
                "other dtypes and copy the weights."
            )
