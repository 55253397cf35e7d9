"""Network in Network (Lin, Chen, Yan 2013, arXiv:1312.4400): a small network of 1x1 convolutions at every pixel.

Deviations from the authors' CIFAR-10 network: images are normalised by mean and deviation instead of global contrast
and ZCA whitening; weights start as He's instead of at a deviation of 0.05; no ReLU follows the last 1x1 convolution,
so that a class can score below zero.

The second pool averages the pixels inside the image alone. Keras's torch backend repeats pixels at the edge instead, so
that probabilities differ a little there.
"""

from typing import NamedTuple

from keras import layers

from .layers import (
    ANY_SIZE,
    build_model,
    check_arguments,
    check_classes,
    conv,
    conv_relu,
    image_input,
    max_pool_ceil,
    pool_features,
)

DROPOUT = 0.5  # between the blocks


class MLPConv(NamedTuple):
    """A row of the network: a convolution, then two 1x1 convolutions; None stands for the number of classes."""

    kernel_size: int
    filters: tuple[int, int, int | None]


TABLE = (
    MLPConv(5, (192, 160, 96)),
    MLPConv(5, (192, 192, 192)),
    MLPConv(3, (192, 192, None)),
)


def mlpconv(x, filters, kernel_size, name):
    """A convolution whose outputs a perceptron of two layers, shared by all pixels, mixes (figure 1b)."""
    x = conv_relu(x, filters[0], kernel_size, name=f"{name}_conv")
    x = conv_relu(x, filters[1], 1, name=f"{name}_mlp1")
    return conv_relu(x, filters[2], 1, name=f"{name}_mlp2")


def NetworkInNetwork(
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="nin",
    *,
    mean=None,
    std=None,
):
    """Network in Network for CIFAR-10: raw images in, class probabilities out, no dense layer in between.

    Args:
        include_top: whether the 1x1 convolution to the classes, their average over all pixels and the activation are
            there.
        weights: None for random ones, or a .weights.h5 or .keras file of such a model.
        input_tensor: a Keras tensor of raw images to build upon; None makes an input named "image".
        input_shape: (height, width, channels). None is (32, 32, 3), or (None, None, 3) without the top. Height
            and width may be None.
        pooling: without the top, None for the feature map, "avg" or "max" for a vector.
        classes: number of classes, 2 or more. Without the top it is ignored.
        classifier_activation: of the last layer; None gives logits.
        name: of the model.
        mean: what images of 0 to 1 have subtracted, one number from 0 to 1 for each channel. None is ImageNet's
            (0.485, 0.456, 0.406), or their average if the images are not RGB.
        std: what they are divided by then, one number above 0 to 1 for each channel. None is ImageNet's
            (0.229, 0.224, 0.225), or their average. Set both to load weights that were trained with another
            normalization.

    Returns:
        A functional `keras.Model` from images (batch, height, width, channels), 0-255, to (batch, classes).

    Raises:
        InputError (a ValueError): an option, shape or file that cannot be used; the message says what can.

    Reference:
        Lin et al. 2013, arXiv:1312.4400, figure 2; the widths are those of the authors' published definition for CIFAR-10.

    Example:
        model = keras_arch.NetworkInNetwork(input_shape=(32, 32, 3), classes=10)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images, labels)  # images: 0-255, as they come
    """
    check_arguments(include_top, weights, pooling, classes, classifier_activation, name, "nin")
    first, second, third = TABLE
    default_shape = (32, 32, 3) if include_top else ANY_SIZE
    x = images = image_input(
        input_shape, input_tensor, default_shape, smallest=4, mean=mean, std=std
    )
    x = mlpconv(x, first.filters, first.kernel_size, name="mlpconv1")
    x = max_pool_ceil(x, 3, 2, name="pool1")
    x = layers.Dropout(DROPOUT, name="dropout1")(x)
    x = mlpconv(x, second.filters, second.kernel_size, name="mlpconv2")
    x = layers.AveragePooling2D(3, 2, padding="same", name="pool2")(x)
    x = layers.Dropout(DROPOUT, name="dropout2")(x)
    x = conv_relu(x, third.filters[0], third.kernel_size, name="mlpconv3_conv")
    x = conv_relu(x, third.filters[1], 1, name="mlpconv3_mlp1")
    if not include_top:
        return build_model(images, pool_features(x, pooling), weights, name, "nin")
    x = conv(x, check_classes(classes), 1, use_bias=True, name="mlpconv3_mlp2")
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    x = layers.Activation(classifier_activation or "linear", name="predictions")(x)
    return build_model(images, x, weights, name, "nin")
