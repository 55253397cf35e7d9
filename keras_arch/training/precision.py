"""Choose the training precision for a machine."""

import functools
import os
import time
from contextlib import suppress
from dataclasses import dataclass

import keras
import numpy as np

from ..files import read_cache, write_cache
from ..machine import available_cores, cpu_name, version_of

MARGIN = 1.15  # required speedup of bfloat16, because it is less exact and timings are noisy
# The probe: a 3x3 convolution with batch norm and ReLU, as in a ResNet, and its gradients.
BATCH, SIZE, FILTERS = 32, 28, 64
# Two per multiply-add, in the forward pass and the gradients of images and kernel.
FLOP = 6 * BATCH * SIZE**2 * 9 * FILTERS**2
ROUNDS, MAX_SECONDS = 5, 1.0


@dataclass(frozen=True)
class Precision:
    """Training precision, with the measured speeds if it was chosen by measurement."""

    name: str
    """"float32", "mixed_bfloat16" or "mixed_float16"."""
    speeds: dict[str, float] | None = None
    """{"float32": ..., "bfloat16": ...}, speed of the probe in GFLOP/s; None if not measured."""


def choose_precision(wanted, recorded=None):
    """Return the `Precision` to train in.

    "auto" is resolved as follows:

    - CPU with TensorFlow: a probe of about one second measures float32 and bfloat16. bfloat16 is
      chosen if it is at least 15% faster. The user's cache keeps the speeds for this processor,
      number of cores and TensorFlow version, so that later runs choose the same precision.
    - GPU: mixed_bfloat16 from compute capability 8.0 (Ampere) on, else float32.
    - TPU: mixed_bfloat16. Other devices: float32.

    Args:
        wanted: "auto", "float32", "mixed_bfloat16" or "mixed_float16".
        recorded: precision of the run to resume, or None. It replaces "auto".
    """
    if wanted != "auto":
        return Precision(wanted)
    if recorded is not None:
        return Precision(recorded)
    if keras.backend.backend() == "tensorflow" and not gpus():
        speeds = remembered_speeds()
        return Precision("mixed_bfloat16" if prefers_bfloat16(speeds) else "float32", speeds)
    return Precision("mixed_bfloat16" if accelerator_has_bfloat16() else "float32")


def prefers_bfloat16(speeds):
    """Return whether bfloat16 is faster by at least the margin."""
    return speeds["bfloat16"] >= MARGIN * speeds["float32"]


@functools.cache  # for users without a writable cache
def remembered_speeds():
    """Return the speeds of the probe from the cache. Measure them if they are not cached."""
    known, key = read_cache("precision.json"), machine_key()
    if not are_speeds(known.get(key)):
        known[key] = measure_speeds()
        write_cache("precision.json", known)
    return known[key]


def are_speeds(content):
    """Return whether a value from the cache has the form of `measure_speeds`."""
    return (
        isinstance(content, dict)
        and set(content) == {"float32", "bfloat16"}
        and all(isinstance(speed, (int, float)) for speed in content.values())
    )


def machine_key():
    """Return the cache key: processor, cores, TensorFlow version and oneDNN setting."""
    kernels = f"oneDNN {os.environ.get('TF_ENABLE_ONEDNN_OPTS', 'default')}"
    return (
        f"{cpu_name()}, {available_cores()} cores, TensorFlow {version_of('tensorflow')}, {kernels}"
    )


def measure_speeds():
    """Measure the probe in float32 and bfloat16.

    The two types alternate, so that other load slows both. Each speed is that of the median step.

    Returns:
        {"float32": GFLOP/s, "bfloat16": GFLOP/s}; 0 for a type that the processor does not support.
    """
    import tensorflow as tf

    steps = {}
    for kind in ("float32", "bfloat16"):
        step = probe_step(tf.as_dtype(kind))
        with suppress(tf.errors.OpError):  # no kernel for this type
            step()  # warm-up: tracing and oneDNN kernels
            steps[kind] = step
    seconds: dict[str, list[float]] = {kind: [] for kind in steps}
    started = time.perf_counter()
    for _ in range(ROUNDS):
        for kind, step in steps.items():
            before = time.perf_counter()
            step()
            seconds[kind].append(time.perf_counter() - before)
        if time.perf_counter() - started > MAX_SECONDS:
            break
    speeds = {
        kind: round(FLOP / float(np.median(found)) / 1e9, 1) for kind, found in seconds.items()
    }
    return {"float32": 0.0, "bfloat16": 0.0} | speeds


def probe_step(kind):
    """Return a function that runs the probe once in the `tf.DType` `kind`."""
    import tensorflow as tf

    random = np.random.default_rng(0)
    images = tf.cast(random.normal(size=(BATCH, SIZE, SIZE, FILTERS)), kind)
    kernel = tf.cast(random.normal(size=(3, 3, FILTERS, FILTERS)), kind)
    ones, zeros = tf.ones(FILTERS), tf.zeros(FILTERS)

    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            tape.watch((images, kernel))
            x = tf.nn.conv2d(images, kernel, 1, "SAME")
            x, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x, scale=ones, offset=zeros, mean=[], variance=[], is_training=True
            )
            total = tf.reduce_sum(tf.cast(tf.nn.relu(x), tf.float32))
        return tape.gradient(total, (images, kernel))

    return lambda: [gradient.numpy() for gradient in gradients()]


def gpus():
    """Return the GPUs that TensorFlow sees."""
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def trains_on_accelerator():
    """Return whether Keras trains on a GPU or TPU, with TensorFlow or JAX."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() != "cpu"
    return keras.backend.backend() == "tensorflow" and bool(gpus())


def accelerator_has_bfloat16():
    """Return whether Keras trains on an accelerator with bfloat16 hardware."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # Ampere is 8.0. GPUs without this field, such as Apple's, may not support bfloat16.
        return tf.config.experimental.get_device_details(gpus()[0]).get(
            "compute_capability", (0, 0)
        ) >= (8, 0)
    if backend == "jax":
        import jax

        device = jax.devices()[0]
        major = str(getattr(device, "compute_capability", "0")).split(".")[0]
        return device.platform == "tpu" or (
            device.platform != "cpu" and major.isdigit() and int(major) >= 8
        )
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
