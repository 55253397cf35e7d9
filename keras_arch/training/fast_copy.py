"""The copy that is trained: the same network with a fused batch norm, in the precision that the hardware is fast in.

Keras 3's BatchNormalization on TensorFlow is a mean, a variance and some element-wise operations, each of which walks
through memory; the fused kernel does all in one, and takes 16-bit images while its own parameters stay float32. The
model that is saved keeps stock layers in float32: only weights go back and forth.
"""

import keras

from ..models import layer_of

# In float32 always, which costs little: raw images, averages over many pixels and probabilities want more than 8 bits.
EXACT = (keras.layers.Rescaling, keras.layers.GlobalAveragePooling2D)


def fast_copy(model, precision):
    """A copy of `model` for training, with its weights, in the same order.

    Args:
        model: a functional `keras.Model` of stock layers.
        precision: "float32", "mixed_bfloat16" or "mixed_float16", as `keras.dtype_policies.DTypePolicy` has them.
            Weights are float32 in each; layers of `EXACT`, and those that give the outputs, compute in float32, too.

    Returns:
        A `keras.Model` of the same outputs, to rounding: `model.set_weights(copy.get_weights())` brings back what it
        learned.
    """

    last = {layer_of(output) for output in model.outputs}

    def clone(layer):
        config = layer.get_config()
        exact = isinstance(layer, (*EXACT, keras.layers.InputLayer)) or layer in last
        config["dtype"] = "float32" if exact else precision
        kind = type(layer)
        if kind is keras.layers.BatchNormalization and keras.backend.backend() == "tensorflow":
            kind = FusedBatchNormalization
        return kind.from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of images through TensorFlow's fused kernel: the same mathematics.

    Statistics, scale and offset are float32 whatever the images are. Of the batch's variance Keras keeps that of the
    population (division by n) and the kernel hands out that of a sample (by n - 1): it is brought back.
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
            self.follow(self.moving_mean, mean)
            self.follow(self.moving_variance, variance * (count - 1) / count)
        return outputs

    def follow(self, average, value):
        """Move an average towards what this batch says."""
        average.assign(average * self.momentum + value * (1 - self.momentum))


def make_repeatable(seed):
    """Seed everything that draws at random; on a GPU, have TensorFlow add up in one order only, which costs speed there.

    On a CPU its kernels do so anyway.
    """
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            tf.config.experimental.enable_op_determinism()
