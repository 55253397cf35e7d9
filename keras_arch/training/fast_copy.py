"""Copy a model for fast training: fused batch norm and mixed precision.

On TensorFlow, Keras 3 computes batch norm by several operations, each a pass over memory. The fused
kernel needs one pass and takes 16-bit images with float32 parameters. The saved model keeps stock
layers in float32. Only weights are copied between the two.
"""

import random

import keras

from ..models import layer_of

# Always in float32: raw images and averages over many pixels need more than the 8 bits of bfloat16.
EXACT = (keras.layers.Rescaling, keras.layers.GlobalAveragePooling2D)


def fast_copy(model, precision):
    """Copy a model for training.

    Args:
        model: a functional `keras.Model` of stock layers.
        precision: name of a `keras.dtype_policies.DTypePolicy`: "float32", "mixed_bfloat16" or
            "mixed_float16". Weights, layers in `EXACT` and output layers are always float32.

    Returns:
        A `keras.Model` with the same outputs up to rounding and the same order of weights:
        `model.set_weights(copy.get_weights())` copies the trained weights back.
    """

    last = {layer_of(output) for output in model.outputs}

    def clone(layer):
        config = layer.get_config()
        exact = isinstance(layer, (*EXACT, keras.layers.InputLayer)) or layer in last
        config["dtype"] = "float32" if exact else precision
        if keras.backend.backend() == "torch" and config.get("seed", 0) is None:
            # Without a seed, dropout uses PyTorch's global generator, which no checkpoint has.
            config["seed"] = random.randrange(2**31)
        kind = type(layer)
        if kind is keras.layers.BatchNormalization and keras.backend.backend() == "tensorflow":
            kind = FusedBatchNormalization
        return kind.from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


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

    Deterministic kernels are slower on a GPU. On a CPU, all kernels are deterministic.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()
