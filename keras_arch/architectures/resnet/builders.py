"""ResNet and what it is measured against.

Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun 2015, arXiv:1512.03385): the ImageNet family of
section 3.3 and table 1, the CIFAR-10 family of section 4.2, and the plain networks of both. Identity Mappings in Deep
Residual Networks (the same 2016, arXiv:1603.05027): the pre-activation networks, called v2.

Deviations from the papers: the stride of a bottleneck sits on the 3x3 convolution instead of the first 1x1, as in
fb.resnet.torch and torchvision ("ResNet v1.5"); images are normalised by mean and
deviation instead of subtracting the mean alone; the stem of the v2 networks ends in batch norm and ReLU like the others',
and their first block begins with its own. ResNet8 is not in the papers: it is MLPerf Tiny's depth, n = 1.
"""

import numbers
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from ...errors import InputError, choose
from ..layers import (
    ANY_SIZE,
    as_real,
    bn_relu,
    build_model,
    check_arguments,
    classifier_head,
    image_input,
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
    """A network of the papers. Every stage but the first halves height and width."""

    block: Callable
    blocks: tuple[int, ...]  # in each stage
    filters: tuple[int, ...]  # of the 3x3 convolutions in each stage
    stem: str
    shortcut: str | None  # None where nothing skips
    input_shape: tuple[int, int, int]
    classes: int
    shortcuts: Mapping[str, Callable] = SHORTCUTS
    final: Callable | None = None  # (x, name) -> x, behind the last block


def imagenet_network(block, *blocks, shortcut="projection"):
    """A column of table 1: the number of blocks in stages conv2_x to conv5_x."""
    return Network(block, blocks, (64, 128, 256, 512), "imagenet", shortcut, (224, 224, 3), 1000)


def cifar_network(block, n, shortcut="zero_padding"):
    """Section 4.2: three stages of n blocks; 6n + 2 layers where a block has two, 9n + 2 where it has three."""
    return Network(block, (n, n, n), (16, 32, 64), "cifar", shortcut, (32, 32, 3), 10)


def preactivation_network(network):
    """The same table for blocks that leave their sum as it is: batch norm and ReLU follow the last, none a shortcut."""
    return network._replace(shortcuts=BARE_SHORTCUTS, final=bn_relu)


def make_builder(title, network):
    """The public function that builds `network`."""
    default_name = title.lower()

    def build(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=network.classes,
        classifier_activation="softmax",
        name=default_name,
        *,
        stem=network.stem,
        shortcut=network.shortcut,
        variant="b",
        zero_init_residual=False,
        stochastic_depth_rate=0.0,
        squeeze_excitation_ratio=0.0,
        mean=None,
        std=None,
    ):
        check_arguments(
            include_top, weights, pooling, classes, classifier_activation, name, default_name
        )
        replaced = VARIANTS[choose("variant", variant, VARIANTS)]
        stem = STEMS[replaced.get(choose("stem", stem, STEMS), stem)]
        if network.shortcut is None:
            check_plain_options(
                title, shortcut, zero_init_residual, stochastic_depth_rate, squeeze_excitation_ratio
            )
            parts = Parts()
        else:
            parts = Parts(
                network.shortcuts[
                    replaced.get(choose("shortcut", shortcut, network.shortcuts), shortcut)
                ],
                last_gamma="zeros" if zero_init_residual else "ones",
                last_kernel="zeros" if zero_init_residual else "he_normal",
                branch_end=squeeze_excitations(squeeze_excitation_ratio),
            )
        smallest = stem.stride * 2 ** (len(network.blocks) - 1)
        default_shape = network.input_shape if include_top else ANY_SIZE
        x = images = image_input(input_shape, input_tensor, default_shape, smallest, mean, std)
        x = stem.build(x, network.filters[0])
        x = build_stages(x, network, parts, stochastic_depth_rate)
        if network.final is not None:
            x = network.final(x, name="final")
        x = classifier_head(x, include_top, pooling, classes, classifier_activation)
        return build_model(images, x, weights, name, default_name)

    build.__name__ = build.__qualname__ = title
    options = RESIDUAL_OPTIONS.format(shortcut=network.shortcut) if network.shortcut else ""
    build.__doc__ = DOCSTRING.format(title=title, input_shape=network.input_shape, options=options)
    return build


def build_stages(x, network, parts, stochastic_depth_rate):
    """The body: stage after stage, block after block, dropped the more often the deeper they lie."""
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
            drop = stochastic_depths(rate * done / sum(network.blocks))
            block_parts = parts._replace(branch_end=parts.branch_end + drop)
            x = network.block(x, filters, stride, block_parts, name=f"stage{stage}_block{block}")
    return x


def squeeze_excitations(ratio):
    """The end of a branch with squeeze and excitation, if `ratio` is not 0."""
    ratio = as_real(
        "squeeze_excitation_ratio", ratio, lambda number: 0 <= number <= 1, "from 0 to 1"
    )
    return (partial(squeeze_excitation, ratio=ratio),) if ratio else ()


def stochastic_depths(rate):
    """The end of a branch with stochastic depth, if `rate` is not 0."""
    return (partial(stochastic_depth, rate=rate),) if rate else ()


def check_plain_options(title, *options):
    if any(
        not (option is None or (isinstance(option, numbers.Real) and option == 0))
        for option in options
    ):
        raise InputError(
            f"expected of {title} no shortcut, zero_init_residual, stochastic_depth_rate or squeeze_excitation_ratio, "
            f"since nothing skips in it; Res{title.replace('Plain', 'Net')} would work"
        )


RESIDUAL_OPTIONS = """        shortcut: {shortcut!r} here; where the shape changes, "projection" (option B), "average_pool" (ResNet-D) or
            "zero_padding" (option A, no parameters); v2 networks have no batch norm in it.
        variant: "b", or "d" for ResNet-D: the deep stem in place of imagenet's and average-pooled shortcuts.
        zero_init_residual: start each residual branch at zero, so that each block begins as the identity (up to the
            ReLU behind it).
        stochastic_depth_rate: how often the last block's branch is dropped in training, from 0 to below 1; earlier
            blocks in proportion to their depth.
        squeeze_excitation_ratio: width of the squeeze as a share of the channels, such as 1/16; 0 for none.
"""

DOCSTRING = """{title}: raw images in, class probabilities out.

    Args:
        include_top: whether the average pool and the classifier are there.
        weights: None for random ones; "imagenet" for torchvision's, where it has this network; or a .weights.h5 or
            .keras file of such a model, or a .safetensors or .pth file of torchvision's.
        input_tensor: a Keras tensor of raw images to build upon; None makes an input named "image".
        input_shape: (height, width, channels). None is {input_shape}, or (None, None, 3) without the top. Height
            and width may be None.
        pooling: without the top, None for the feature map, "avg" or "max" for a vector.
        classes: number of classes, 2 or more. Without the top it is ignored.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.
        stem: "imagenet" (7x7/2 and max pool, divides the size by 4), "deep" (three 3x3 and max pool, the same) or
            "cifar" (3x3, keeps the size).
{options}        mean: what images of 0 to 1 have subtracted, one number from 0 to 1 for each channel. None is ImageNet's
            (0.485, 0.456, 0.406), or their average if the images are not RGB.
        std: what they are divided by then, one number above 0 to 1 for each channel. None is ImageNet's
            (0.229, 0.224, 0.225), or their average. Set both to load weights that were trained with another
            normalization.

    Returns:
        A functional `keras.Model` from images (batch, height, width, channels), 0-255, to (batch, classes).

    Raises:
        InputError (a ValueError): an option, shape or file that cannot be used; the message says what can.

    Reference:
        He et al. 2015, arXiv:1512.03385; v2: He et al. 2016, arXiv:1603.05027.

    Example:
        model = keras_arch.{title}(input_shape={input_shape}, classes=5)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images, labels)  # images: 0-255, as they come
    """


# Table 1 of 2015.
ResNet18 = make_builder("ResNet18", imagenet_network(basic_block, 2, 2, 2, 2))
ResNet34 = make_builder("ResNet34", imagenet_network(basic_block, 3, 4, 6, 3))
ResNet50 = make_builder("ResNet50", imagenet_network(bottleneck_block, 3, 4, 6, 3))
ResNet101 = make_builder("ResNet101", imagenet_network(bottleneck_block, 3, 4, 23, 3))
ResNet152 = make_builder("ResNet152", imagenet_network(bottleneck_block, 3, 8, 36, 3))

# Section 4.2 of 2015.
ResNet8 = make_builder("ResNet8", cifar_network(basic_block, 1))
ResNet20 = make_builder("ResNet20", cifar_network(basic_block, 3))
ResNet32 = make_builder("ResNet32", cifar_network(basic_block, 5))
ResNet44 = make_builder("ResNet44", cifar_network(basic_block, 7))
ResNet56 = make_builder("ResNet56", cifar_network(basic_block, 9))
ResNet110 = make_builder("ResNet110", cifar_network(basic_block, 18))

# The plain networks of both sections.
Plain18 = make_builder("Plain18", imagenet_network(plain_block, 2, 2, 2, 2, shortcut=None))
Plain34 = make_builder("Plain34", imagenet_network(plain_block, 3, 4, 6, 3, shortcut=None))
Plain20 = make_builder("Plain20", cifar_network(plain_block, 3, shortcut=None))
Plain32 = make_builder("Plain32", cifar_network(plain_block, 5, shortcut=None))
Plain44 = make_builder("Plain44", cifar_network(plain_block, 7, shortcut=None))
Plain56 = make_builder("Plain56", cifar_network(plain_block, 9, shortcut=None))

# 2016: 110 and 164 layers are the paper's; the others are its blocks in the tables of 2015.
ResNet20V2 = make_builder(
    "ResNet20V2", preactivation_network(cifar_network(preactivation_basic_block, 3))
)
ResNet56V2 = make_builder(
    "ResNet56V2", preactivation_network(cifar_network(preactivation_basic_block, 9))
)
ResNet110V2 = make_builder(
    "ResNet110V2", preactivation_network(cifar_network(preactivation_basic_block, 18))
)
ResNet164V2 = make_builder(
    "ResNet164V2",
    preactivation_network(cifar_network(preactivation_bottleneck_block, 18, "projection")),
)
ResNet50V2 = make_builder(
    "ResNet50V2",
    preactivation_network(imagenet_network(preactivation_bottleneck_block, 3, 4, 6, 3)),
)
ResNet101V2 = make_builder(
    "ResNet101V2",
    preactivation_network(imagenet_network(preactivation_bottleneck_block, 3, 4, 23, 3)),
)
ResNet152V2 = make_builder(
    "ResNet152V2",
    preactivation_network(imagenet_network(preactivation_bottleneck_block, 3, 8, 36, 3)),
)
