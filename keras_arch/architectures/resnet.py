"""ResNet: Deep Residual Learning for Image Recognition (He, Zhang, Ren, Sun 2015, arXiv:1512.03385).

Two families from one pair of blocks: ImageNet's (section 3.3, table 1) and CIFAR-10's (section 4.2).

Deviations from the paper: the stride of a bottleneck sits on the 3x3 convolution instead of the first 1x1, as in
fb.resnet.torch and torchvision ("ResNet v1.5", half a point more accurate); images are normalised by mean and
deviation instead of subtracting the mean alone. ResNet8 is not in the paper: it is MLPerf Tiny's depth, n = 1.
"""

from collections.abc import Callable
from typing import NamedTuple

from keras import layers

from ..errors import InputError
from .layers import classifier_head, conv_bn, conv_bn_relu, finish, image_input, max_pool

# --- blocks ---


class Parts(NamedTuple):
    """What all blocks of one network share, chosen once by the builder, so that a block holds topology only."""

    shortcut: Callable  # (x, filters, stride, name) -> x in the shape of the residual branch
    last_gamma: str = "ones"  # the initial scale of the branch's last batch norm; at zero the block is the identity


def basic_block(x, filters, stride, parts, name):
    """Two 3x3 convolutions around which the input skips (figure 5, left)."""
    shortcut = parts.shortcut(x, filters, stride, f"{name}_shortcut")
    y = conv_bn_relu(x, filters, 3, stride, name=f"{name}_conv1")
    y = conv_bn(y, filters, 3, gamma_initializer=parts.last_gamma, name=f"{name}_conv2")
    y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.ReLU(name=f"{name}_out")(y)


def bottleneck_block(x, filters, stride, parts, name):
    """A 3x3 convolution between two 1x1 that shrink and restore the channels (figure 5, right)."""
    shortcut = parts.shortcut(x, 4 * filters, stride, f"{name}_shortcut")
    y = conv_bn_relu(x, filters, 1, name=f"{name}_conv1")
    y = conv_bn_relu(y, filters, 3, stride, name=f"{name}_conv2")
    y = conv_bn(y, 4 * filters, 1, gamma_initializer=parts.last_gamma, name=f"{name}_conv3")
    y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.ReLU(name=f"{name}_out")(y)


# --- shortcuts: the identity wherever the shapes agree ---


def projection(x, filters, stride, name):
    """Option B of the paper: a 1x1 convolution where the shape changes."""
    if stride == 1 and x.shape[-1] == filters:
        return x
    return conv_bn(x, filters, 1, stride, name=name)


def zero_padding(x, filters, stride, name):
    """Option A of the paper: every second pixel, and zeros for the channels that are missing; no parameters."""
    if stride > 1:
        x = layers.MaxPooling2D(1, stride, name=f"{name}_subsample")(x)
    missing = filters - x.shape[-1]
    if missing:
        # Read as (batch, channels, height, width), the last two axes are our width and channels: the one layer of
        # Keras that pads channels, has a name and needs no custom code to load.
        pad = layers.ZeroPadding2D(((0, 0), (0, missing)), data_format="channels_first", name=f"{name}_pad")
        x = pad(x)
    return x


SHORTCUTS = {"projection": projection, "zero_padding": zero_padding}

# --- stems ---


def imagenet_stem(x, filters):
    """A 7x7 convolution and a max pool: 224 pixels become 56."""
    x = conv_bn_relu(x, filters, 7, 2, name="stem_conv")
    return max_pool(x, 3, 2, name="stem_pool")


def cifar_stem(x, filters):
    """A 3x3 convolution that keeps the size, for images of 32 pixels or so."""
    return conv_bn_relu(x, filters, 3, name="stem_conv")


class Stem(NamedTuple):
    build: Callable
    stride: int


STEMS = {"imagenet": Stem(imagenet_stem, 4), "cifar": Stem(cifar_stem, 1)}

# --- tables ---


class ResNet(NamedTuple):
    """A network of the paper. Every stage but the first halves height and width."""

    block: Callable
    blocks: tuple[int, ...]  # in each stage
    filters: tuple[int, ...]  # of the 3x3 convolutions in each stage
    stem: str
    shortcut: str
    input_shape: tuple[int, int, int]
    classes: int


def imagenet(block, *blocks):
    """A column of table 1."""
    return ResNet(block, blocks, (64, 128, 256, 512), "imagenet", "projection", (224, 224, 3), 1000)


def cifar(block, n):
    """Section 4.2: three stages of n blocks, 6n + 2 layers."""
    return ResNet(block, (n, n, n), (16, 32, 64), "cifar", "zero_padding", (32, 32, 3), 10)


# --- builders ---


def choose(option, value, table):
    """The row of `table` that `value` names, or a line that lists the names."""
    if value not in table:
        raise InputError(f"expected {option} to be one of {', '.join(map(repr, table))}, got {value!r}")
    return table[value]


def residual_stages(x, network, parts):
    """The body of every ResNet: stage after stage, block after block."""
    for stage, (filters, blocks) in enumerate(zip(network.filters, network.blocks, strict=True), start=1):
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = network.block(x, filters, stride, parts, name=f"stage{stage}_block{block}")
    return x


def builder(title, network):
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
        zero_init_residual=False,
    ):
        stem = choose("stem", stem, STEMS)
        shortcut = choose("shortcut", shortcut, SHORTCUTS)
        smallest = stem.stride * 2 ** (len(network.blocks) - 1)
        x = images = image_input(input_shape, input_tensor, network.input_shape, smallest)
        x = stem.build(x, network.filters[0])
        x = residual_stages(x, network, Parts(shortcut, "zeros" if zero_init_residual else "ones"))
        x = classifier_head(x, include_top, pooling, classes, classifier_activation)
        return finish(images, x, weights, name)

    build.__name__ = build.__qualname__ = title
    build.__doc__ = f"""{title} (He et al. 2015): raw images in, class probabilities out.

    Args:
        include_top: whether the average pool and the classifier are there.
        weights: None for random ones, or a .weights.h5 or .keras file that this builder's model saved.
        input_tensor: a Keras tensor of raw images to build upon; None makes an input named "image".
        input_shape: (height, width, channels), {network.input_shape} where None; height and width may be None.
        pooling: without the top, None for the feature map, "avg" or "max" for a vector.
        classes: number of classes, 2 or more.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.
        stem: "imagenet" (7x7/2 and max pool, divides the size by 4) or "cifar" (3x3, keeps it).
        shortcut: "projection" (option B) or "zero_padding" (option A, no parameters), where the shape changes.
        zero_init_residual: start the last batch norm of each residual branch at zero, so that each block
            begins as the identity (up to its ReLU).

    Returns:
        A functional `keras.Model` from images (batch, height, width, channels), 0-255, to (batch, classes).

    Raises:
        InputError (a ValueError): an option, shape or file that cannot be used; the message says what can.

    Example:
        model = keras_arch.{title}(input_shape={network.input_shape}, classes=5)
        model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        model.fit(images, labels)  # images: 0-255, as they come
    """
    return build


# Table 1
ResNet18 = builder("ResNet18", imagenet(basic_block, 2, 2, 2, 2))
ResNet34 = builder("ResNet34", imagenet(basic_block, 3, 4, 6, 3))
ResNet50 = builder("ResNet50", imagenet(bottleneck_block, 3, 4, 6, 3))
ResNet101 = builder("ResNet101", imagenet(bottleneck_block, 3, 4, 23, 3))
ResNet152 = builder("ResNet152", imagenet(bottleneck_block, 3, 8, 36, 3))

# Section 4.2
ResNet8 = builder("ResNet8", cifar(basic_block, 1))
ResNet20 = builder("ResNet20", cifar(basic_block, 3))
ResNet32 = builder("ResNet32", cifar(basic_block, 5))
ResNet44 = builder("ResNet44", cifar(basic_block, 7))
ResNet56 = builder("ResNet56", cifar(basic_block, 9))
ResNet110 = builder("ResNet110", cifar(basic_block, 18))
