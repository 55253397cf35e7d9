"""Keras layers that compute with the rounding of an int8 file.

Weights are symmetric with a range for each output channel, and activations have one range for each
tensor, as in LiteRT's specification of int8. The layers are not saved.
"""

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
        if self.fixed is not None:
            return fake_quant_with_min_max_vars(x, *self.fixed)
        if training:
            self.update(x)
        low = ops.convert_to_tensor(self.low)
        return fake_quant_with_min_max_vars(x, low, ops.maximum(self.high, low + SMALLEST))

    def update(self, x):
        """Move the range towards that of a batch."""
        batch = ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)
        is_new = ops.equal(self.low, self.high)
        for variable, value in zip((self.low, self.high), batch, strict=True):
            moved = variable * MOMENTUM + ops.stop_gradient(value) * (1 - MOMENTUM)
            variable.assign(ops.where(is_new, ops.stop_gradient(value), moved))

    def compute_output_shape(self, shape):
        return shape


class Normalization:
    """Batch norm with its moving statistics, as a factor and an offset for each channel.

    It is a plain object, so that Keras does not count the weights of the batch norm twice.
    """

    def __init__(self, layer):
        self.layer = layer

    @property
    def factor(self):
        layer = self.layer
        factor = ops.rsqrt(layer.moving_variance + layer.epsilon)
        return factor * layer.gamma if layer.scale else factor

    @property
    def offset(self):
        layer = self.layer
        offset = -layer.moving_mean * self.factor
        return offset + layer.beta if layer.center else offset


class FoldsNormalization:
    """Weights of a layer with those of the batch norm that follows it."""

    normalization: Normalization | None = None

    def folded_bias(self):
        """Return the bias, or None if there is neither a bias nor a batch norm."""
        if self.normalization is None:
            return self.bias
        offset = self.normalization.offset
        return offset if self.bias is None else offset + self.bias * self.normalization.factor

    def add_bias(self, x):
        bias = self.folded_bias()
        return x if bias is None else x + bias


class QuantizedConv2D(FoldsNormalization, layers.Conv2D):
    """`Conv2D` with int8 weights: a range for each output channel."""

    def call(self, x):
        kernel = self.kernel
        if self.normalization is not None:
            kernel = kernel * self.normalization.factor
        return self.add_bias(self.convolution_op(x, round_weights(kernel, axis=3)))


class QuantizedDepthwiseConv2D(FoldsNormalization, layers.DepthwiseConv2D):
    """`DepthwiseConv2D` with int8 weights: one range, as the converter takes no other."""

    def call(self, x):
        kernel = self.kernel
        if self.normalization is not None:
            kernel = kernel * ops.reshape(self.normalization.factor, kernel.shape[2:])
        kernel = round_weights(kernel)
        return self.add_bias(
            ops.depthwise_conv(
                x, kernel, self.strides, self.padding, self.data_format, self.dilation_rate
            )
        )


class QuantizedDense(FoldsNormalization, layers.Dense):
    """`Dense` with int8 weights: one range, as the converter takes no other."""

    def call(self, x, training=None):
        kernel = self.kernel
        if self.normalization is not None:
            kernel = kernel * self.normalization.factor
        return self.add_bias(ops.matmul(x, round_weights(kernel)))


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
        normalization = Normalization(self)
        product = x * round_constant(normalization.factor)
        return self.product(product, training=training) + round_constant(normalization.offset)


class Affine(layers.Layer):
    """Multiply an image by `scale`, or add `offset`, one number or one for each channel."""

    def __init__(self, scale=None, offset=None, **options):
        super().__init__(dtype="float32", **options)
        self.scale, self.offset = scale, offset

    def call(self, x):
        if self.scale is not None:
            return x * round_constant(ops.convert_to_tensor(self.scale, "float32"))
        return x + round_constant(ops.convert_to_tensor(self.offset, "float32"))


def round_constant(values):
    """Round numbers for each channel to the 256 levels of their range with zero."""
    low, high = (
        ops.stop_gradient(value)
        for value in (ops.minimum(ops.min(values), 0.0), ops.maximum(ops.max(values), 0.0))
    )
    return fake_quant_with_min_max_vars(values, low, ops.maximum(high, low + SMALLEST))


def round_weights(kernel, axis=None):
    """Round weights to the 255 levels of a symmetric range, as int8 files store them.

    Args:
        kernel: tensor.
        axis: axis with a range for each of its channels. None: one range.
    """
    others = None if axis is None else [one for one in range(len(kernel.shape)) if one != axis]
    limit = ops.maximum(ops.max(ops.abs(ops.stop_gradient(kernel)), others), SMALLEST)
    return fake_quant_with_min_max_vars(kernel, -limit, limit, narrow_range=True, axis=axis)


def is_range(variable: keras.Variable) -> bool:
    """Return whether a variable belongs to a moving range."""
    return variable.name in (LOW, HIGH)
