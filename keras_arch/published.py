"""Weights that have a name: checkpoints that other projects publish, and those of this package.

This table imports neither Keras nor NumPy.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard


class Normalization(NamedTuple):
    """Mean and standard deviation per channel. The input of a network is (x / 255 - mean) / std."""

    mean: Sequence[float]
    std: Sequence[float]


# Of ImageNet's training images.
IMAGENET_NORMALIZATION = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # -1 to 1


class Checkpoint(NamedTuple):
    """A published checkpoint.

    Attributes:
        file: Name of the file. It ends in the first eight digits of the SHA-256.
        parameters: Number of parameters of the network without its classifier.
        normalization: The `mean` and `std` of its training.
    """

    file: str
    parameters: int
    normalization: Normalization = IMAGENET_NORMALIZATION


class Collection(NamedTuple):
    """The checkpoints that one project publishes.

    Attributes:
        url: Address of the directory of the files.
        checkpoints: {name of the builder in `keras_arch.available()`: checkpoint}.
        class_names: Names of the classes, or None if only their number is compared.
    """

    url: str
    checkpoints: Mapping[str, Checkpoint]
    class_names: Sequence[str] | None = None


PUBLISHED = {
    # Torchvision's IMAGENET1K_V1.
    "imagenet": Collection(
        "https://download.pytorch.org/models/",
        {
            "resnet18": Checkpoint("resnet18-f37072fd.pth", 11_176_512),
            "resnet34": Checkpoint("resnet34-b627a593.pth", 21_284_672),
            "resnet50": Checkpoint("resnet50-0676ba61.pth", 23_508_032),
            "resnet101": Checkpoint("resnet101-63fe2227.pth", 42_500_160),
            "resnet152": Checkpoint("resnet152-394f9c45.pth", 58_143_808),
            "googlenet": Checkpoint("googlenet-1378be20.pth", 5_599_904, HALVES),
        },
    ),
    # Torchvision's IMAGENET1K_V2, from another training.
    "imagenet_v2": Collection(
        "https://download.pytorch.org/models/",
        {
            "resnet50": Checkpoint("resnet50-11ad3fa6.pth", 23_508_032),
            "resnet101": Checkpoint("resnet101-cd907fc2.pth", 42_500_160),
            "resnet152": Checkpoint("resnet152-f82ba261.pth", 58_143_808),
        },
    ),
    # Yerlan Idelbayev 2018, github.com/akamaster/pytorch_resnet_cifar10. BSD 2-clause license.
    # Published test accuracy: 91.73, 92.63, 93.10, 93.39 and 93.68%.
    "cifar10": Collection(
        "https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/",
        {
            "resnet20": Checkpoint("resnet20-12fca82f.th", 269_072),
            "resnet32": Checkpoint("resnet32-d509ac18.th", 463_504),
            "resnet44": Checkpoint("resnet44-014dd654.th", 657_936),
            "resnet56": Checkpoint("resnet56-4bfd9763.th", 852_368),
            "resnet110": Checkpoint("resnet110-1d1ed7c2.th", 1_727_312),
        },
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
}
"""{value of the `weights` argument: checkpoints}."""


PACKAGED = {"cifar10_jpeg": Path(__file__).parent / "trained" / "cifar10_jpeg"}
"""{value of the `weights` argument: run directory in this package}."""

DEMO = PACKAGED["cifar10_jpeg"] / "model_int8.tflite"  # the model called "demo"

HUB_PREFIX = "hf://"  # of names on the Hugging Face Hub


def is_hub_name(source: Any) -> TypeGuard[str]:
    """Return whether `source` is a name on the Hugging Face Hub. It may be malformed."""
    return isinstance(source, str) and source.startswith(HUB_PREFIX)


def is_published(source: Any) -> TypeGuard[str]:
    """Return whether `source` is the name of published weights, such as "imagenet"."""
    return isinstance(source, str) and source in PUBLISHED
