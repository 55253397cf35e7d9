"""The registry of all architectures: one row per builder.

This module imports neither Keras nor NumPy, so that `available` is fast.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import choose, explain_surroundings

if TYPE_CHECKING:
    import keras


class Architecture(NamedTuple):
    """A row of the registry.

    Attributes:
        builder: Name of the public function, such as "ResNet50".
        module: Its module in this directory, such as "resnet.builders".
        paper: The paper, in Markdown.
        parameters: Trainable parameters with the default options, from the paper or another
            implementation. None if nobody published an exact number.
    """

    builder: str
    module: str
    paper: str
    parameters: int | None

    def load(self) -> Callable[..., keras.Model]:
        """Import the builder."""
        with explain_surroundings():  # Keras may not be importable
            module = importlib.import_module(f".{self.module}", __package__)
        return getattr(module, self.builder)


RESNET = "resnet.builders"
LIN_2013 = "[Lin et al. 2013](https://arxiv.org/abs/1312.4400)"
SZEGEDY_2014 = "[Szegedy et al. 2014](https://arxiv.org/abs/1409.4842)"
HE_2015 = "[He et al. 2015](https://arxiv.org/abs/1512.03385)"
HE_2016 = "[He et al. 2016](https://arxiv.org/abs/1603.05027)"
CIFAR = f"{HE_2015}, section 4.2"
PLAIN = f"{HE_2015}, without skip connections"

# Plain-18 and Plain-34 lack the projections of three stages: 1x1 kernels and batch norms.
PROJECTIONS = 64 * 128 + 128 * 256 + 256 * 512 + 2 * (128 + 256 + 512)


def without_biases(parameters: int, *blocks: int) -> int:
    """Return the parameters of a V2 network from those of keras.applications.

    Theirs has biases in four projections, in the last convolution of each block and in the stem. It
    has no batch norm after the stem.
    """
    filters = (256, 512, 1024, 2048)
    ends = sum(count * size for count, size in zip(blocks, filters, strict=True))
    return parameters - sum(filters) - ends - 64 + 2 * 64


# torchvision publishes the parameters of ResNet-18 to ResNet-152. Those of CIFAR networks are
# counted from section 4.2 of the paper, with option A: shortcuts without parameters.
ARCHITECTURES = {
    "resnet18": Architecture("ResNet18", RESNET, HE_2015, 11_689_512),
    "resnet34": Architecture("ResNet34", RESNET, HE_2015, 21_797_672),
    "resnet50": Architecture("ResNet50", RESNET, HE_2015, 25_557_032),
    "resnet101": Architecture("ResNet101", RESNET, HE_2015, 44_549_160),
    "resnet152": Architecture("ResNet152", RESNET, HE_2015, 60_192_808),
    "resnet50v2": Architecture(
        "ResNet50V2", RESNET, HE_2016, without_biases(25_568_360, 3, 4, 6, 3)
    ),
    "resnet101v2": Architecture(
        "ResNet101V2", RESNET, HE_2016, without_biases(44_577_896, 3, 4, 23, 3)
    ),
    "resnet152v2": Architecture(
        "ResNet152V2", RESNET, HE_2016, without_biases(60_236_904, 3, 8, 36, 3)
    ),
    "plain18": Architecture("Plain18", RESNET, PLAIN, 11_689_512 - PROJECTIONS),
    "plain34": Architecture("Plain34", RESNET, PLAIN, 21_797_672 - PROJECTIONS),
    "resnet8": Architecture("ResNet8", RESNET, "MLPerf Tiny's depth", None),
    "resnet14": Architecture("ResNet14", RESNET, "section 4.2 of He et al. 2015 with n = 2", None),
    "resnet20": Architecture("ResNet20", RESNET, CIFAR, 269_722),
    "resnet32": Architecture("ResNet32", RESNET, CIFAR, 464_154),
    "resnet44": Architecture("ResNet44", RESNET, CIFAR, 658_586),
    "resnet56": Architecture("ResNet56", RESNET, CIFAR, 853_018),
    "resnet110": Architecture("ResNet110", RESNET, CIFAR, 1_727_962),
    "resnet20v2": Architecture("ResNet20V2", RESNET, HE_2016, None),
    "resnet56v2": Architecture("ResNet56V2", RESNET, HE_2016, None),
    "resnet110v2": Architecture("ResNet110V2", RESNET, HE_2016, None),
    "resnet164v2": Architecture("ResNet164V2", RESNET, HE_2016, None),
    "plain20": Architecture("Plain20", RESNET, PLAIN, 269_722),
    "plain32": Architecture("Plain32", RESNET, PLAIN, 464_154),
    "plain44": Architecture("Plain44", RESNET, PLAIN, 658_586),
    "plain56": Architecture("Plain56", RESNET, PLAIN, 853_018),
    "googlenet": Architecture(
        "GoogLeNet", "googlenet", f"{SZEGEDY_2014}, with batch normalization", 7_005_832
    ),
    "nin": Architecture("NetworkInNetwork", "network_in_network", LIN_2013, 966_986),
}
"""{name in `available()`: row}."""


def available() -> list[str]:
    """Return the sorted names of all architectures.

    Example:
        keras_arch.available()[:2]  # ["googlenet", "nin"]
    """
    return sorted(ARCHITECTURES)


def build(name: str, **options: Any) -> keras.Model:
    """Build an architecture by name.

    Args:
        name: A name in `available()`, such as "resnet20". Upper and lower case are equal.
        **options: Arguments of the builder, such as `input_shape` and `classes`.

    Returns:
        A functional `keras.Model` from raw images of 0-255 to class probabilities.

    Raises:
        InputError (a ValueError): The name is unknown, the builder does not have an option, or its
            value is invalid.

    Example:
        model = keras_arch.build("resnet20", input_shape=(32, 32, 3), classes=10)
    """
    builder = find_architecture(name)
    check_builder_options(name, builder, options)
    return builder(**options)


def find_architecture(name: str) -> Callable[..., keras.Model]:
    """Return the builder of an architecture. Raise InputError if the name is unknown."""
    return ARCHITECTURES[choose("the name of a model", str(name).lower(), available())].load()


def check_builder_options(
    name: str, builder: Callable, options: Iterable[str], fixed: Collection[str] = ()
) -> None:
    """Raise InputError unless each name in `options` is an argument of a builder.

    Args:
        name: name of the builder, for the message.
        builder: function that returns a model.
        options: names of arguments.
        fixed: arguments that the message does not offer, because they cannot be chosen.
    """
    arguments = inspect.signature(builder).parameters
    if any(argument.kind is argument.VAR_KEYWORD for argument in arguments.values()):
        return
    free = [argument for argument in arguments if argument not in fixed]
    fix = "" if free else "It has no options."
    for option in options:
        if option not in arguments:
            choose(f"an option of {name}", option, free, fix)
