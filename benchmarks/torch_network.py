"""Translate a Keras model of keras_arch to a PyTorch module, layer by layer."""

import torch
from torch import nn

from keras_arch.keras_private import operation_of


def to_torch(model):
    """Return a `torch.nn.Module` with the layers and weights of a Keras model.

    Args:
        model: functional `keras.Model` of the layers that the builders use.

    Returns:
        A module from images (batch, channels, height, width) of 0-255 to logits.
    """
    steps, layers, padded = [], {}, {}
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "InputLayer":
            input_name = layer.name
            continue
        tensors = layer.input if isinstance(layer.input, list) else [layer.input]
        inputs = [operation_of(tensor).name for tensor in tensors]
        if kind == "ZeroPadding2D" and layer.data_format == "channels_last":
            # Padding inside the convolutions and pools of PyTorch is faster.
            padded[layer.name] = (inputs[0], layer.padding[0])
            continue
        padding = (0, 0)
        if inputs[0] in padded:
            inputs[0], padding = padded[inputs[0]]
        steps.append((layer.name, inputs))
        layers[layer.name] = CONVERT[kind](layer, padding)
    return Network(input_name, steps, layers)


class Network(nn.Module):
    """A network of named layers.

    Args:
        input_name: name of the input.
        steps: (layer, names of its inputs) in the order of execution.
        layers: {name: module}.
    """

    def __init__(self, input_name, steps, layers):
        super().__init__()
        self.input_name, self.steps, self.layers = input_name, steps, nn.ModuleDict(layers)

    def forward(self, images):
        values = {self.input_name: images}
        for name, inputs in self.steps:
            values[name] = self.layers[name](*[values[source] for source in inputs])
        return values[name]


class Rescaling(nn.Module):
    def __init__(self, layer):
        super().__init__()
        for name in ("scale", "offset"):
            self.register_buffer(name, torch.tensor(getattr(layer, name)).reshape(1, -1, 1, 1))

    def forward(self, x):
        return x * self.scale + self.offset


class Add(nn.Module):
    def forward(self, x, y):
        return x + y


class Concatenate(nn.Module):
    def forward(self, *branches):
        return torch.cat(branches, dim=1)


class GlobalAverage(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def convolution(layer, padding):
    kernel, *bias = layer.get_weights()
    size = kernel.shape[0]
    padding = size // 2 if layer.padding == "same" else padding[0]
    module = nn.Conv2d(
        kernel.shape[2], kernel.shape[3], size, layer.strides[0], padding, bias=bool(bias)
    )
    module.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1))
    return module


def max_pool(layer, padding):
    """Return a max pooling layer. After a ReLU, padding with zeros does not change the maximum."""
    size, stride = layer.pool_size[0], layer.strides[0]
    if layer.padding == "same":
        assert (size, stride) == (3, 1)
        return nn.MaxPool2d(3, 1, 1)
    return nn.MaxPool2d(size, stride, padding[0], ceil_mode=padding == (0, 1))


def batch_norm(layer):
    module = nn.BatchNorm2d(layer.gamma.shape[0], eps=layer.epsilon, momentum=1 - layer.momentum)
    names = "weight", "bias", "running_mean", "running_var"
    for name, value in zip(names, layer.get_weights(), strict=True):
        getattr(module, name).data = torch.tensor(value)
    return module


def dense(layer):
    kernel, bias = layer.get_weights()
    module = nn.Linear(*kernel.shape)
    module.weight.data, module.bias.data = torch.tensor(kernel.T), torch.tensor(bias)
    return module


CONVERT = {
    "Rescaling": lambda layer, _: Rescaling(layer),
    # The option A shortcut pads the channels; see keras_arch/architectures/resnet/parts.py.
    "ZeroPadding2D": lambda layer, _: nn.ConstantPad3d((0, 0, 0, 0, *layer.padding[1]), 0.0),
    "Conv2D": convolution,
    "BatchNormalization": lambda layer, _: batch_norm(layer),
    "ReLU": lambda layer, _: nn.ReLU(),
    "Add": lambda layer, _: Add(),
    "Concatenate": lambda layer, _: Concatenate(),
    "MaxPooling2D": max_pool,
    "GlobalAveragePooling2D": lambda layer, _: GlobalAverage(),
    "Dropout": lambda layer, _: nn.Dropout(layer.rate),
    "Dense": lambda layer, _: dense(layer),
}
