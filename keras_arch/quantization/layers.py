"""Keras layers that compute with the rounding of an int8 file.

Weights are symmetric with a range for each output channel, and activations have one range for each
tensor, as in LiteRT's specification of int8. The layers are not saved.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops
from keras.quantizers import fake_quant_with_min_max_vars

MOMENTUM = 0.99  # of a moving range
LOW, HIGH = "int8_low", "int8_high"  # names of the variables of a range
SMALLEST = 1e-6  # width of the range of a tensor that is always zero


class FakeQuantization(layers.Layer):
    """Round a tensor to the 256 levels of a range that contains zero.

    In training, the range is a moving average of the minimum and maximum of the batches. The first
    batch initializes it.

    Args:
        fixed: (minimum, maximum) that training does not change. None: a moving range.
    """

    def __init__(self, fixed=None, **options):
        super().__init__(dtype="float32", **options)
        self.fixed = fixed

    def build(self, shape):
        if self.fixed is None:
            self.low, self.high = (
                self.add_weight(name=name, initializer="zeros", trainable=False)
                for name in (LOW, HIGH)
            )

    def call(self, x, training=False):
        if training and self.fixed is None:
            self.update(x)
        return fake_quant_with_min_max_vars(x, *self.limits())

    def limits(self):
        """Return the minimum and maximum."""
        if self.fixed is not None:
            return self.fixed
        low = ops.convert_to_tensor(self.low)
        return low, ops.maximum(self.high, low + SMALLEST)

    def step(self):
        """Return the difference of two neighboring levels."""
        low, high = self.limits()
        return (high - low) / 255

    def update(self, x):
        """Move the range towards that of a batch."""
        batch = ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)
        is_new = ops.equal(self.low, self.high)
        for variable, value in zip((self.low, self.high), batch, strict=True):
            moved = variable * MOMENTUM + ops.stop_gradient(value) * (1 - MOMENTUM)
            variable.assign(ops.where(is_new, ops.stop_gradient(value), moved))

    def compute_output_shape(self, shape):
        return shape


@dataclass
class Neighbors:
    """The layers before and after a layer with weights.

    It is a plain object, so that Keras does not count their weights twice.
    """

    source: FakeQuantization | None = None
    """Rounding of the input."""
    norm: layers.BatchNormalization | None = None
    """Batch norm of the output, which folds into the weights."""

    @property
    def factor(self):
        """Factor of the batch norm for each channel."""
        return 1.0 if self.norm is None else factor_of(self.norm)

    @property
    def offset(self):
        """Offset of the batch norm for each channel."""
        return 0.0 if self.norm is None else offset_of(self.norm)


def factor_of(norm):
    """Return the factor of a batch norm with its moving statistics, for each channel."""
    factor = ops.rsqrt(norm.moving_variance + norm.epsilon)
    return factor * norm.gamma if norm.scale else factor


def offset_of(norm):
    """Return the offset of a batch norm with its moving statistics, for each channel."""
    offset = -norm.moving_mean * factor_of(norm)
    return offset + norm.beta if norm.center else offset


class RoundedWeights:
    """Compute a layer with int8 weights and an int32 bias, after folding a batch norm.

    A step of the bias is the product of the steps of the input and of the weights.
    """

    kernel: Any
    bias: Any
    input: Any
    name: str
    neighbors = Neighbors()
    channels: int | None = None  # axis of the kernel with a range for each channel

    def compute(self, x, operation):
        """Return the sum of `operation(x, kernel)` and the bias."""
        neighbors, kernel = self.neighbors, self.folded_kernel()
        limit = limit_of(kernel, self.channels)
        x = operation(x, round_weights(kernel, limit, self.channels))
        if self.bias is None and neighbors.norm is None:
            return x
        bias = neighbors.offset + (0.0 if self.bias is None else self.bias * neighbors.factor)
        if neighbors.source is None:
            return x + bias
        return x + round_to_steps(bias, neighbors.source.step() * limit / 127)

    def folded_kernel(self):
        """Return the kernel with the factor of the batch norm."""
        channels = self.kernel_channels
        factor = ops.broadcast_to(self.neighbors.factor, (math.prod(channels),))
        return self.kernel * ops.reshape(factor, channels)

    @property
    def kernel_channels(self):
        """Last sides of the kernel, which are the output channels."""
        return self.kernel.shape[-1:]


class QuantizedConv2D(RoundedWeights, layers.Conv2D):
    """`Conv2D` with int8 weights: a range for each output channel."""

    channels = 3

    def call(self, x):
        return self.compute(x, self.convolution_op)


class QuantizedDepthwiseConv2D(RoundedWeights, layers.DepthwiseConv2D):
    """`DepthwiseConv2D` with int8 weights: one range, as the converter takes no other."""

    @property
    def kernel_channels(self):
        return self.kernel.shape[-2:]

    def call(self, x):
        options = self.strides, self.padding, self.data_format, self.dilation_rate
        return self.compute(x, lambda x, kernel: ops.depthwise_conv(x, kernel, *options))


class QuantizedDense(RoundedWeights, layers.Dense):
    """`Dense` with int8 weights: one range, as the converter takes no other."""

    def call(self, x, training=None):
        return self.compute(x, ops.matmul)


class FoldedBatchNormalization(layers.BatchNormalization):
    """Batch norm that the layer before it computes with its weights."""

    def call(self, x, training=None, mask=None):
        return x


class QuantizedBatchNormalization(layers.BatchNormalization):
    """Batch norm with its moving statistics, as a product and a sum in int8."""

    def __init__(self, **options):
        super().__init__(**options)
        self.product = FakeQuantization(name=f"{self.name}_product_range")

    def build(self, shape):
        super().build(shape)
        self.product.build(shape)

    def call(self, x, training=None, mask=None):
        product = self.product(x * round_constant(factor_of(self)), training=training)
        return product + round_constant(offset_of(self))


class RoundedProduct(layers.Layer):
    """Multiply an image by a constant number, or by one for each channel."""

    def __init__(self, scale, **options):
        super().__init__(dtype="float32", **options)
        self.scale = scale

    def call(self, x):
        return x * round_constant(ops.convert_to_tensor(self.scale, "float32"))


class RoundedSum(layers.Layer):
    """Add a constant number to an image, or one for each channel."""

    def __init__(self, offset, **options):
        super().__init__(dtype="float32", **options)
        self.offset = offset

    def call(self, x):
        return x + round_constant(ops.convert_to_tensor(self.offset, "float32"))


def round_constant(values):
    """Round numbers for each channel to the 256 levels of their range with zero."""
    low, high = (
        ops.stop_gradient(value)
        for value in (ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0))
    )
    return fake_quant_with_min_max_vars(values, low, ops.maximum(high, low + SMALLEST))


def limit_of(kernel, axis=None):
    """Return the largest absolute weight, for each channel of an axis or of all."""
    others = None if axis is None else [one for one in range(len(kernel.shape)) if one != axis]
    return ops.maximum(ops.max(ops.abs(ops.stop_gradient(kernel)), others), SMALLEST)


def round_weights(kernel, limit, axis=None):
    """Round weights to the 255 levels of -`limit` to `limit`, as int8 files store them."""
    return fake_quant_with_min_max_vars(kernel, -limit, limit, narrow_range=True, axis=axis)


def round_to_steps(values, step):
    """Round numbers to multiples of `step`. The gradient is that of `values`."""
    step = ops.stop_gradient(step)
    return values + ops.stop_gradient(ops.round(values / step) * step - values)


def is_range(variable: keras.Variable) -> bool:
    """Return whether a variable belongs to a moving range."""
    return variable.name in (LOW, HIGH)
