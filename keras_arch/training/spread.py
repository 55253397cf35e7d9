"""How the current Keras distribution spreads a training over devices and processes."""

from dataclasses import dataclass

import keras

from ..data.convert import InBatches
from ..data.order import EVERYTHING, Part
from ..errors import InputError
from .devices import check_batch_size
from .sharing import process_count


@dataclass(frozen=True)
class Spread:
    """Devices of a training, and the part of each batch that this process loads."""

    devices: int = 1
    """Number of devices of all processes."""
    part: Part = EVERYTHING


ALONE = Spread()


def current_spread():
    """Return the `Spread` of the distribution of `keras.distribution.set_distribution`.

    Raises:
        InputError (a ValueError): `fit` cannot train with it, or with a strategy of TensorFlow.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.distribute.has_strategy():
            raise InputError(
                "`fit` must run outside of a tf.distribute strategy, which changes batch norm and "
                f"clipping. Received: {type(tf.distribute.get_strategy()).__name__}. Use "
                "keras.distribution.DataParallel with KERAS_BACKEND=jax."
            )
    distribution = keras.distribution.distribution()
    if distribution is None:
        if (count := process_count()) > 1:
            raise InputError(
                f"{count} processes must train with a distribution. Received: none. Call "
                "keras.distribution.set_distribution with DataParallel(auto_shard_dataset=False)."
            )
        return ALONE
    if keras.backend.backend() != "jax" or not isinstance(
        distribution, keras.distribution.DataParallel
    ):
        raise InputError(
            "The distribution must be keras.distribution.DataParallel on JAX. Received: "
            f"{type(distribution).__name__} on {keras.backend.backend()}. Set KERAS_BACKEND=jax."
        )
    if distribution.num_processes > 1 and distribution.auto_shard_dataset:
        raise InputError(
            "The distribution must not shard the data, because each process loads its part. "
            "Received: auto_shard_dataset=True. Pass DataParallel(auto_shard_dataset=False)."
        )
    part = Part(distribution.data_shard_id, distribution.num_processes)
    return Spread(distribution.num_model_replicas, part)


def check_spread(spread, dataset, recipe):
    """Raise InputError unless each device gets the same number of images of each batch."""
    if spread.devices == 1:
        return
    if isinstance(dataset.train, InBatches):
        raise InputError(
            "`data` must be a keras_arch.Dataset or arrays on several devices. Received: a pair of "
            "tf.data.Dataset, whose batches may have any size. Use keras_arch.load_dataset."
        )
    check_batch_size(recipe.batch_size, spread.devices)
