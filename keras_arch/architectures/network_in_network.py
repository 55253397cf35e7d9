"""Network in Network (Lin, Chen, Yan 2013, arXiv:1312.4400).

Deviations from the authors' CIFAR-10 network:

- Images are normalized by mean and standard deviation. The authors use global contrast
  normalization and ZCA whitening.
- Weights have He initialization. The authors use a standard deviation of 0.05.
- No ReLU follows the last 1x1 convolution, so class scores can be negative.

The second pool averages only pixels inside the image. Keras's torch backend repeats pixels at the
edge, so probabilities differ slightly on that backend.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import keras
from keras import layers

from .layers import (
    ANY_SIZE,
    build_model,
    check_builder_arguments,
    check_classes,
    conv,
    conv_relu,
    image_input,
    max_pool_ceil,
    pool_features,
)

DROPOUT = 0.5


class MLPConv(NamedTuple):
    """The kernel size and the numbers of filters of a block."""

    kernel_size: int
    filters: tuple[int, ...]


TABLE = (
    MLPConv(5, (192, 160, 96)),
    MLPConv(5, (192, 192, 192)),
    MLPConv(3, (192, 192)),  # the last convolution has one filter per class
)


def mlpconv(
    x: keras.KerasTensor, filters: Sequence[int], kernel_size: int, name: str
) -> keras.KerasTensor:
    """Build an mlpconv block: a convolution and two 1x1 convolutions (figure 1b).

    The 1x1 convolutions are a two-layer perceptron that all pixels share.

    Args:
        x: Tensor (batch, height, width, channels).
        filters: Number of filters of the three convolutions.
        kernel_size: Kernel size of the first convolution.
        name: Prefix of the layer names.

    Returns:
        Tensor (batch, height, width, filters[2]).
    """
    x = conv_relu(x, filters[0], kernel_size, name=f"{name}_conv")
    x = conv_relu(x, filters[1], 1, name=f"{name}_mlp1")
    return conv_relu(x, filters[2], 1, name=f"{name}_mlp2")


def NetworkInNetwork(
    include_top: bool = True,
    weights: str | Path | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: Literal["avg", "max"] | None = None,
    classes: int = 10,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "nin",
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> keras.Model:
    """Build Network in Network for CIFAR-10.

    Args:
        include_top: Whether to include the 1x1 convolution to the classes, the average pool and the
            activation. Defaults to True.
        weights: None for random initialization, or the path of a .keras or .weights.h5 file.
        input_tensor: Keras tensor of raw images to use as input. Defaults to a new input named
            "image".
        input_shape: (height, width, channels). Height and width may be None. Defaults to
            (32, 32, 3), or to (None, None, 3) if `include_top` is False.
        pooling: Pooling of the features if `include_top` is False: None for the feature map,
            "avg" or "max" for a vector.
        classes: Number of classes, at least 2. Defaults to 10. Unused if `include_top` is False.
        classifier_activation: Activation of the class scores. None returns logits. Defaults to
            "softmax".
        name: Name of the model.
        mean: Mean of images of 0-1 that is subtracted, one number from 0 to 1 per channel. Defaults
            to ImageNet's (0.485, 0.456, 0.406), or to their average if the images are not RGB.
        std: Standard deviation by which they are divided, one number above 0 and up to 1 per
            channel. Defaults to ImageNet's (0.229, 0.224, 0.225), or to their average. Set both to
            load weights that were trained with other values.

    Returns:
        A functional `keras.Model` from raw images (batch, height, width, channels) of 0-255 to
        probabilities (batch, classes).

    Raises:
        InputError (a ValueError): An argument is invalid, or `weights` do not fit the model.

    Reference:
        Lin et al. 2013, arXiv:1312.4400, figure 2. The numbers of filters are those of the authors'
        published definition for CIFAR-10.

    Example:
        model = keras_arch.NetworkInNetwork(input_shape=(32, 32, 3), classes=10)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(images, labels)  # raw images of 0-255
    """
    check_builder_arguments(
        include_top, weights, pooling, classes, classifier_activation, name, "nin"
    )
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
