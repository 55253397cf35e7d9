"""PyTorch's CIFAR ResNets that pad new channels on both sides, in our order of channels.

A shortcut of option A (He et al. 2015) adds channels of zeros. Our `shortcut="zero_padding"` adds
them after the existing channels. Yerlan Idelbayev's networks add half of them before and half
after: the same networks, but for the order of the channels. The order is that of the residual
stream, so each stage has one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..files import hash_of_file, is_path
from ..published import PUBLISHED
from .download import published_hash


def is_centered(source: Any) -> bool:
    """Return whether `source` is the file of a published network that pads on both sides.

    The tensors do not show on which side a network pads. So the SHA-256 decides.
    """
    if not is_path(source) or not Path(source).is_file():
        return False
    digest = hash_of_file(Path(source))
    return any(
        digest.startswith(published_hash(checkpoint.file))
        for checkpoint in PUBLISHED["cifar10"].checkpoints.values()
    )


def reorder_channels(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a network that pads on both sides, in our order of channels.

    The second convolution of a block writes to the residual stream. The first one reads it.
    """
    reordered = dict(tensors)
    order = np.arange(len(tensors["bn1.weight"]))  # their channel of each of our channels
    for stage in (1, 2, 3):
        before, filters = order, len(tensors[f"layer{stage}.0.bn2.weight"])
        side = (filters - len(before)) // 2  # zeros on each side
        zeros = np.r_[:side, filters - side : filters]
        order = np.r_[side + before, zeros]
        for name, tensor in tensors.items():
            block = re.fullmatch(rf"layer{stage}\.(\d+)\.(conv1|conv2|bn2)\.\w+", name)
            if block and block[2] == "conv1":
                reordered[name] = tensor[:, before if block[1] == "0" else order]
            elif block and tensor.ndim:  # the counter of batches has no channels
                reordered[name] = tensor[order]
    reordered["fc.weight"] = tensors["fc.weight"][:, order]
    return reordered
