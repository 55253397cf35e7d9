"""The precision that training computes in: what "auto" means on the machine at hand."""

import functools
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version

import keras
import numpy as np

from ..files import read_cache, write_cache
from ..machine import available_cores, cpu_name

MARGIN = 1.15  # by which bfloat16 must be faster: it is less exact, and a measurement has noise
# The probe: a 3x3 convolution with batch norm and ReLU, as in the middle of a ResNet, and its gradients.
BATCH, SIZE, FILTERS = 32, 28, 64
FLOP = (
    6 * BATCH * SIZE**2 * 9 * FILTERS**2
)  # two a multiply-add; forward, gradient of the images and of the kernel
ROUNDS, MOST_SECONDS = 5, 1.0


@dataclass(frozen=True)
class Precision:
    """The precision of a training and, if it was chosen by measuring, the speeds that decided."""

    name: str
    """"float32", "mixed_bfloat16" or "mixed_float16"."""
    speeds: dict[str, float] | None = None
    """GFLOP/s of the probe in "float32" and "bfloat16"."""


def choose_precision(wanted, recorded=None):
    """Return the `Precision` to train in.

    On a CPU under TensorFlow, "auto" is the faster of float32 and bfloat16 in a probe of about a second, bfloat16 only
    with a margin of 15%. The result is kept in the user's cache for this processor, number of cores and TensorFlow, so
    that two runs choose alike. On a GPU, "auto" is mixed_bfloat16 from compute capability 8.0 (Ampere) on. Elsewhere it
    is float32.

    Args:
        wanted: "auto", or the name of a precision, which is returned as it is.
        recorded: name of the precision that a run to be resumed was started with, or None. It replaces "auto".
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
    """Return whether bfloat16 is faster by more than the margin."""
    return speeds["bfloat16"] >= MARGIN * speeds["float32"]


@functools.cache  # for a process whose user has no cache that can be written
def remembered_speeds():
    """Return the speeds of the probe on this machine, measured once for each machine."""
    known, key = read_cache("precision.json"), machine_key()
    if not are_speeds(known.get(key)):
        known[key] = measure_speeds()
        write_cache("precision.json", known)
    return known[key]


def are_speeds(content):
    """Return whether the content of the cache is what `measure_speeds` gives."""
    return (
        isinstance(content, dict)
        and set(content) == {"float32", "bfloat16"}
        and all(isinstance(speed, (int, float)) for speed in content.values())
    )


def machine_key():
    """Return what the speeds depend on: processor, cores, TensorFlow, and whether it uses oneDNN."""
    kernels = f"oneDNN {os.environ.get('TF_ENABLE_ONEDNN_OPTS', 'default')}"
    return f"{cpu_name()}, {available_cores()} cores, TensorFlow {version('tensorflow')}, {kernels}"


def measure_speeds():
    """Return GFLOP/s of a convolution, its batch norm and their gradients in float32 and in bfloat16.

    The two take turns, so that whatever else the machine does slows both. Each speed is that of the median step; a
    processor that cannot compute in bfloat16 at all has a speed of 0.
    """
    import tensorflow as tf

    steps = {}
    for kind in ("float32", "bfloat16"):
        step = probe_step(tf.as_dtype(kind))
        with suppress(tf.errors.OpError):  # no kernel for it
            step()  # traces, and lets oneDNN build its kernels
            steps[kind] = step
    seconds: dict[str, list[float]] = {kind: [] for kind in steps}
    started = time.perf_counter()
    for _ in range(ROUNDS):
        for kind, step in steps.items():
            before = time.perf_counter()
            step()
            seconds[kind].append(time.perf_counter() - before)
        if time.perf_counter() - started > MOST_SECONDS:
            break
    speeds = {
        kind: round(FLOP / float(np.median(found)) / 1e9, 1) for kind, found in seconds.items()
    }
    return {"float32": 0.0, "bfloat16": 0.0} | speeds


def probe_step(kind):
    """Return a function that computes the probe once in the number type `kind`."""
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
    """Return TensorFlow's GPUs."""
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def accelerator_has_bfloat16():
    """Return whether Keras trains on an accelerator that multiplies bfloat16 in hardware."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # Ampere is 8.0. A card that does not tell, such as Apple's, may lack it.
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
