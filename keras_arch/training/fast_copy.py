"""Copy a model for fast training: fused batch norm and mixed precision.

On TensorFlow, Keras 3 computes batch norm by several operations, each a pass over memory. The fused
kernel needs one pass and takes 16-bit images with float32 parameters. The saved model keeps stock
layers in float32. Only weights are copied between the two.
"""

import random

import keras

from ..errors import InputError, first_line
from ..models import output_layers
from ..text import VALUE_CELLS, shorten

# Always in float32: raw images and averages over many pixels need more than the 8 bits of bfloat16.
EXACT = (
    keras.layers.Rescaling,
    keras.layers.Normalization,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.InputLayer,
)


def fast_copy(model, precision):
    """Copy a model for training.

    Args:
        model: a functional `keras.Model` of stock layers.
        precision: name of a `keras.dtype_policies.DTypePolicy`: "float32", "mixed_bfloat16" or
            "mixed_float16". Weights, layers in `EXACT` and output layers are always float32.
            Operations of `keras.ops` compute in the type of their inputs.

    Returns:
        A `keras.Model` with the same outputs up to rounding and the same order of weights:
        `model.set_weights(copy.get_weights())` copies the trained weights back.

    Raises:
        InputError (a ValueError): Keras cannot create a layer from its configuration.
    """
    exact = output_layers(model)

    def clone(operation):
        try:
            if not isinstance(operation, keras.layers.Layer):  # such as that of `image / 255`
                return type(operation).from_config(operation.get_config())
            return clone_layer(operation, "float32" if operation in exact else precision)
        except Exception as error:  # a layer of the user may raise any exception
            kind = shorten(f"{operation.name}, a {type(operation).__name__}", VALUE_CELLS)
            is_code = isinstance(operation, keras.layers.Lambda)
            cause = "its function has no configuration" if is_code else first_line(error)
            raise InputError(
                f"Keras must be able to copy each layer of `model`. Received: {kind}: {cause}. "
                "Replace it with functions of keras.ops, or with a layer class that has "
                "`get_config`."
            ) from error

    copy = keras.models.clone_model(
        model, clone_function=clone, call_function=call_exactly, recursive=True
    )
    copy.set_weights(model.get_weights())
    return copy


def call_exactly(operation, *arguments, **options):
    """Call a layer or an operation. An operation with arrays, such as a kernel, needs float32."""
    tensors = keras.tree.flatten((arguments, options))
    if not isinstance(operation, keras.layers.Layer) and any(map(is_float_array, tensors)):
        arguments, options = keras.tree.map_structure(to_float32, (arguments, options))
    return operation(*arguments, **options)


def is_float_array(value):
    """Return whether a value is an array of floats and not a symbolic tensor."""
    return (
        hasattr(value, "dtype")
        and not isinstance(value, keras.KerasTensor)
        and keras.backend.is_float_dtype(keras.backend.standardize_dtype(value.dtype))
    )


def to_float32(value):
    """Cast a symbolic tensor of 16-bit floats. Return other values as they are."""
    if isinstance(value, keras.KerasTensor) and value.dtype in ("bfloat16", "float16"):
        return keras.ops.cast(value, "float32")
    return value


def clone_layer(layer, precision):
    """Return a new layer with the configuration of `layer`, for training in a precision."""
    config = layer.get_config()
    if "dtype" in config:
        config["dtype"] = "float32" if isinstance(layer, EXACT) else precision
    if keras.backend.backend() == "torch" and config.get("seed", 0) is None:
        # Without a seed, dropout uses PyTorch's global generator, which no checkpoint has.
        config["seed"] = random.randrange(2**31)
    kind = type(layer)
    if kind is keras.layers.BatchNormalization and keras.backend.backend() == "tensorflow":
        kind = FusedBatchNormalization
    return kind.from_config(config)


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` for images, computed by TensorFlow's fused kernel.

    Statistics, scale and offset are float32 for every image type. The kernel returns the sample
    variance (division by n - 1). The layer converts it to the variance of Keras (division by n).
    """

    def call(self, inputs, training=None, mask=None):
        if (
            len(inputs.shape) != 4
            or self.axis not in (-1, 3)
            or self.renorm
            or self.synchronized
            or mask is not None
        ):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        training = bool(training) and self.trainable
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma if self.scale else tf.ones_like(self.moving_mean),
            offset=self.beta if self.center else tf.zeros_like(self.moving_mean),
            mean=[] if training else self.moving_mean,
            variance=[] if training else self.moving_variance,
            epsilon=self.epsilon,
            is_training=training,
        )
        if training:
            count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], "float32")
            self.update_average(self.moving_mean, mean)
            self.update_average(self.moving_variance, variance * (count - 1) / count)
        return outputs

    def update_average(self, average, value):
        """Update a moving average with the value of a batch."""
        average.assign(average * self.momentum + value * (1 - self.momentum))


def make_repeatable(seed):
    """Seed all random generators. On a GPU, also enable TensorFlow's deterministic kernels.

    On a CPU, all kernels are deterministic.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()
