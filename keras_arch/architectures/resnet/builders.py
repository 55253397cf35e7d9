"""ResNet, pre-activation ResNet and plain networks.

- Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun 2015, arXiv:1512.03385): the
  ImageNet networks of section 3.3 and table 1, the CIFAR-10 networks of section 4.2, and their
  plain counterparts.
- Identity Mappings in Deep Residual Networks (He, Zhang, Ren, Sun 2016, arXiv:1603.05027): the
  pre-activation networks, called V2.

Deviations from the papers:

- Bottleneck blocks have their stride in the 3x3 convolution, not in the first 1x1 convolution, as
  in fb.resnet.torch and torchvision ("ResNet v1.5").
- Images are normalized by mean and standard deviation. The papers subtract the mean.
- The stem of V2 networks ends in batch norm and ReLU, and their first block begins with batch norm
  and ReLU.
- ResNet8 (n = 1, the depth of MLPerf Tiny's ResNet) and ResNet14 (n = 2) are not in the papers.
"""

import inspect
import numbers
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import keras

from ...errors import InputError, choose
from ..layers import (
    ANY_SIZE,
    as_real,
    bn_relu,
    build_model,
    check_builder_arguments,
    check_width,
    classifier_head,
    image_input,
    scale_count,
)
from .blocks import (
    Parts,
    basic_block,
    bottleneck_block,
    plain_block,
    preactivation_basic_block,
    preactivation_bottleneck_block,
)
from .parts import BARE_SHORTCUTS, SHORTCUTS, STEMS, VARIANTS, squeeze_excitation, stochastic_depth


class Network(NamedTuple):
    """The table of a network. The first block of every stage but the first has stride 2."""

    block: Callable
    blocks: tuple[int, ...]  # number of blocks in each stage
    filters: Sequence[int]  # of the 3x3 convolutions in each stage
    stem: Literal["imagenet", "deep", "cifar"]
    shortcut: Literal["projection", "average_pool", "zero_padding"] | None  # None in plain networks
    input_shape: tuple[int, int, int]
    classes: int
    shortcuts: Mapping[str, Callable] = SHORTCUTS
    final: Callable | None = None  # (x, name) -> x, after the last block


def imagenet_network(block, *blocks, shortcut="projection"):
    """Return a column of table 1, with the number of blocks in stages conv2_x to conv5_x."""
    return Network(block, blocks, (64, 128, 256, 512), "imagenet", shortcut, (224, 224, 3), 1000)


def cifar_network(block, n, shortcut="zero_padding"):
    """Return a network of section 4.2: three stages of n blocks.

    It has 6n + 2 layers if a block has two, and 9n + 2 if a block has three.
    """
    return Network(block, (n, n, n), (16, 32, 64), "cifar", shortcut, (32, 32, 3), 10)


def preactivation_network(network):
    """Return the network with a final batch norm and ReLU, and without batch norm in shortcuts."""
    return network._replace(shortcuts=BARE_SHORTCUTS, final=bn_relu)


class Builder(Protocol):
    """A function that builds one network, such as `ResNet50`."""

    __name__: str

    def __call__(
        self,
        include_top: bool = True,
        weights: str | Path | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: Literal["avg", "max"] | None = None,
        classes: int = ...,
        classifier_activation: str | Callable | None = "softmax",
        name: str = ...,
        *,
        stem: Literal["imagenet", "deep", "cifar"] = ...,
        width: float = 1.0,
        shortcut: Literal["projection", "average_pool", "zero_padding"] | None = ...,
        variant: Literal["b", "d"] = "b",
        zero_init_residual: bool = False,
        stochastic_depth_rate: float = 0.0,
        squeeze_excitation_ratio: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> keras.Model:
        """Build the network.

        ImageNet networks have the defaults input_shape=(224, 224, 3), classes=1000,
        stem="imagenet" and shortcut="projection". CIFAR networks have the defaults
        input_shape=(32, 32, 3), classes=10, stem="cifar" and shortcut="zero_padding" (ResNet-164V2:
        "projection"). Plain networks take no option of shortcuts or residual branches.

        Args:
            include_top: Whether to include the average pool and the classifier. Defaults to True.
            weights: None for random initialization, "imagenet" for torchvision's checkpoint
                (ResNet-18, 34, 50, 101 and 152; "imagenet_v2": 50, 101 and 152), "cifar10"
                (ResNet-20, 32, 44, 56 and 110), "cifar10_jpeg" (ResNet-20),
                "hf://OWNER/REPOSITORY" on the Hugging Face Hub, or the path of a file: .keras,
                .weights.h5, .safetensors or .pth. See `transfer_weights` for other classes and
                grayscale images.
            input_tensor: Keras tensor of raw images to use as input. Defaults to a new input named
                "image".
            input_shape: (height, width, channels). Height and width may be None. Defaults to the
                size of the paper, or to (None, None, 3) if `include_top` is False.
            pooling: Pooling of the features if `include_top` is False: None for the feature map,
                "avg" or "max" for a vector.
            classes: Number of classes, at least 2. Unused if `include_top` is False.
            classifier_activation: Activation of the classifier. None returns logits. Defaults to
                "softmax".
            name: Name of the model. Defaults to the name of the network.
            stem: "imagenet" (7x7 convolution and max pool) and "deep" (three 3x3 convolutions and
                max pool) divide the image size by 4. "cifar" (3x3 convolution) keeps it.
            width: Multiplier of the number of filters of every convolution, above 0 and at most 16.
                Multiply-adds grow about quadratically. Zagoruyko and Komodakis 2016
                (arXiv:1605.07146) widen the stages, but not the stem. Defaults to 1.
            shortcut: Shortcuts that change the shape: "projection" (option B), "average_pool"
                (ResNet-D) or "zero_padding" (option A, no parameters).
            variant: "b", or "d" for ResNet-D, which replaces the stem "imagenet" by "deep" and all
                shortcuts by "average_pool". Defaults to "b".
            zero_init_residual: Whether to initialize the last scale of each residual branch (V2:
                the last kernel) to zero, so that each block starts as an identity mapping up to
                its last ReLU. Defaults to False.
            stochastic_depth_rate: Probability with which training drops the branch of the last
                block, from 0 to below 1. It grows linearly with depth. Defaults to 0.
            squeeze_excitation_ratio: Width of the squeeze as a fraction of the channels, from 0 to
                1, such as 1/16. Defaults to 0, no squeeze and excitation.
            mean: Mean of images of 0-1 that is subtracted, one number from 0 to 1 per channel.
                Defaults to ImageNet's (0.485, 0.456, 0.406), or to their average if the images are
                not RGB.
            std: Standard deviation by which they are divided, one number above 0 and up to 1 per
                channel. Defaults to ImageNet's (0.229, 0.224, 0.225), or to their average. Set both
                to load weights that were trained with other values.

        Returns:
            A functional `keras.Model` from raw images (batch, height, width, channels) of 0-255 to
            probabilities (batch, classes).

        Raises:
            InputError (a ValueError): An argument is invalid, or `weights` do not fit the model.

        Reference:
            He et al. 2015, arXiv:1512.03385. V2: He et al. 2016, arXiv:1603.05027.
        """
        ...


def make_builder(title: str, network: Network) -> Builder:
    """Return the public builder of a network.

    Args:
        title: Name of the builder, such as "ResNet50".
        network: The table of the network.
    """
    default_name = title.lower()

    def build(
        include_top: bool = True,
        weights: str | Path | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: Literal["avg", "max"] | None = None,
        classes: int = network.classes,
        classifier_activation: str | Callable | None = "softmax",
        name: str = default_name,
        *,
        stem: Literal["imagenet", "deep", "cifar"] = network.stem,
        width: float = 1.0,
        shortcut: Literal["projection", "average_pool", "zero_padding"] | None = network.shortcut,
        variant: Literal["b", "d"] = "b",
        zero_init_residual: bool = False,
        stochastic_depth_rate: float = 0.0,
        squeeze_excitation_ratio: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> keras.Model:
        check_builder_arguments(
            include_top, weights, pooling, classes, classifier_activation, name, default_name
        )
        replaced = VARIANTS[choose("variant", variant, VARIANTS)]
        choose("stem", stem, STEMS)
        entrance = STEMS[replaced.get(stem, stem)]
        if network.shortcut is None:
            check_plain_options(
                title,
                shortcut=shortcut,
                zero_init_residual=zero_init_residual,
                stochastic_depth_rate=stochastic_depth_rate,
                squeeze_excitation_ratio=squeeze_excitation_ratio,
            )
            parts = Parts()
        else:
            kind = choose("shortcut", shortcut, network.shortcuts)
            parts = Parts(
                network.shortcuts[replaced.get(kind, kind)],
                last_gamma="zeros" if zero_init_residual else "ones",
                last_kernel="zeros" if zero_init_residual else "he_normal",
                branch_end=make_squeeze_excitation_end(squeeze_excitation_ratio),
            )
        factor = check_width(width)
        filters = [scale_count(count, factor) for count in network.filters]
        smallest = entrance.stride * 2 ** (len(network.blocks) - 1)
        default_shape = network.input_shape if include_top else ANY_SIZE
        x = images = image_input(input_shape, input_tensor, default_shape, smallest, mean, std)
        x = entrance.build(x, filters[0])
        x = build_stages(x, network._replace(filters=filters), parts, stochastic_depth_rate)
        if network.final is not None:
            x = network.final(x, name="final")
        x = classifier_head(x, include_top, pooling, classes, classifier_activation)
        return build_model(images, x, weights, name, default_name)

    build.__name__ = build.__qualname__ = title
    build.__doc__ = write_docstring(title, network)
    return build


def write_docstring(title: str, network: Network) -> str:
    """Return the docstring of a builder: its defaults, the docs of `Builder` and an example."""
    _, _, arguments = inspect.cleandoc(Builder.__call__.__doc__ or "").partition("\n\nArgs:\n")
    spelled = re.sub(r"([0-9]+)", r"-\1", title, count=1)  # ResNet-50
    return f"""Build {spelled}.

Defaults: input_shape={network.input_shape}, classes={network.classes}, stem={network.stem!r},
shortcut={network.shortcut!r}.

Args:
{arguments}

Example:
    model = keras_arch.{title}(input_shape={network.input_shape}, classes=5)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels)  # raw images of 0-255
"""


def build_stages(x, network, parts, stochastic_depth_rate):
    """Build all stages. The rate of stochastic depth grows linearly with depth."""
    rate = as_real(
        "stochastic_depth_rate",
        stochastic_depth_rate,
        lambda number: 0 <= number < 1,
        "from 0 to below 1",
    )
    done = 0
    for stage, (filters, blocks) in enumerate(
        zip(network.filters, network.blocks, strict=True), start=1
    ):
        for block in range(1, blocks + 1):
            done += 1
            stride = 2 if stage > 1 and block == 1 else 1
            drop = make_stochastic_depth_end(rate * done / sum(network.blocks))
            block_parts = parts._replace(branch_end=parts.branch_end + drop)
            x = network.block(x, filters, stride, block_parts, name=f"stage{stage}_block{block}")
    return x


def make_squeeze_excitation_end(ratio):
    """Return the branch end of squeeze and excitation. It is empty if `ratio` is 0."""
    ratio = as_real(
        "squeeze_excitation_ratio", ratio, lambda number: 0 <= number <= 1, "from 0 to 1"
    )
    return (partial(squeeze_excitation, ratio=ratio),) if ratio else ()


def make_stochastic_depth_end(rate):
    """Return the branch end of stochastic depth. It is empty if `rate` is 0."""
    return (partial(stochastic_depth, rate=rate),) if rate else ()


def check_plain_options(title: str, **options: Any) -> None:
    """Raise InputError unless every option of residual branches is None, 0 or False."""
    for name, value in options.items():
        if value is not None and not (isinstance(value, numbers.Real) and value == 0):
            raise InputError(
                f"{title} has no skip connections, so it does not take `{name}`. "
                f"Received: {name}={reprlib.repr(value)}. Use Res{title.replace('Plain', 'Net')}."
            )


# He et al. 2015, table 1.
ResNet18: Builder = make_builder("ResNet18", imagenet_network(basic_block, 2, 2, 2, 2))
ResNet34: Builder = make_builder("ResNet34", imagenet_network(basic_block, 3, 4, 6, 3))
ResNet50: Builder = make_builder("ResNet50", imagenet_network(bottleneck_block, 3, 4, 6, 3))
ResNet101: Builder = make_builder("ResNet101", imagenet_network(bottleneck_block, 3, 4, 23, 3))
ResNet152: Builder = make_builder("ResNet152", imagenet_network(bottleneck_block, 3, 8, 36, 3))

# He et al. 2015, section 4.2. ResNet8 and ResNet14 are not in the paper.
ResNet8: Builder = make_builder("ResNet8", cifar_network(basic_block, 1))
ResNet14: Builder = make_builder("ResNet14", cifar_network(basic_block, 2))
ResNet20: Builder = make_builder("ResNet20", cifar_network(basic_block, 3))
ResNet32: Builder = make_builder("ResNet32", cifar_network(basic_block, 5))
ResNet44: Builder = make_builder("ResNet44", cifar_network(basic_block, 7))
ResNet56: Builder = make_builder("ResNet56", cifar_network(basic_block, 9))
ResNet110: Builder = make_builder("ResNet110", cifar_network(basic_block, 18))

# The plain networks of table 1 and section 4.2.
Plain18: Builder = make_builder("Plain18", imagenet_network(plain_block, 2, 2, 2, 2, shortcut=None))
Plain34: Builder = make_builder("Plain34", imagenet_network(plain_block, 3, 4, 6, 3, shortcut=None))
Plain20: Builder = make_builder("Plain20", cifar_network(plain_block, 3, shortcut=None))
Plain32: Builder = make_builder("Plain32", cifar_network(plain_block, 5, shortcut=None))
Plain44: Builder = make_builder("Plain44", cifar_network(plain_block, 7, shortcut=None))
Plain56: Builder = make_builder("Plain56", cifar_network(plain_block, 9, shortcut=None))

# He et al. 2016. The paper has 110 and 164 layers. The others use its blocks in the tables of 2015.
ResNet20V2: Builder = make_builder(
    "ResNet20V2", preactivation_network(cifar_network(preactivation_basic_block, 3))
)
ResNet56V2: Builder = make_builder(
    "ResNet56V2", preactivation_network(cifar_network(preactivation_basic_block, 9))
)
ResNet110V2: Builder = make_builder(
    "ResNet110V2", preactivation_network(cifar_network(preactivation_basic_block, 18))
)
ResNet164V2: Builder = make_builder(
    "ResNet164V2",
    preactivation_network(cifar_network(preactivation_bottleneck_block, 18, "projection")),
)
ResNet50V2: Builder = make_builder(
    "ResNet50V2",
    preactivation_network(imagenet_network(preactivation_bottleneck_block, 3, 4, 6, 3)),
)
ResNet101V2: Builder = make_builder(
    "ResNet101V2",
    preactivation_network(imagenet_network(preactivation_bottleneck_block, 3, 4, 23, 3)),
)
ResNet152V2: Builder = make_builder(
    "ResNet152V2",
    preactivation_network(imagenet_network(preactivation_bottleneck_block, 3, 8, 36, 3)),
)
