"""Devices and processes of a training, with Keras on JAX."""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any

from ..errors import InputError
from ..options import Metavar, Range, check_options, option_error
from .processes import connect

MAX_PROCESSES = 100_000


@dataclass(frozen=True)
class DeviceOptions:
    """Devices and processes of a training. They are not part of the recipe."""

    devices: Annotated[str, Metavar("all|N")] = "1"
    """Devices of each process. More than 1 needs KERAS_BACKEND=jax (see docs/scale.md)."""
    coordinator: Annotated[str | None, Metavar("HOST:PORT|auto")] = None
    """Address of process 0. auto: that of SLURM, Kubernetes, Open MPI or a TPU pod."""
    processes: Annotated[int, Range(1, MAX_PROCESSES)] | None = None
    """Number of processes that train together. Requires --coordinator."""
    process: Annotated[int, Range(0, MAX_PROCESSES)] | None = None
    """Number of this process, from 0. Requires --coordinator. Process 0 writes the run."""

    def __post_init__(self):
        check_options(self)
        if self.devices != "all" and not (self.devices.isdecimal() and int(self.devices) > 0):
            raise option_error("devices", self.devices, "all or an integer above 0")
        if self.coordinator is None or self.coordinator == "auto":
            if self.processes is not None or self.process is not None:
                raise InputError(
                    "`processes` and `process` need the address of process 0. Received: "
                    f"coordinator={self.coordinator}. Pass --coordinator HOST:PORT."
                )
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise option_error("coordinator", self.coordinator, "HOST:PORT or auto")
        if self.processes is None or self.process is None:
            raise InputError(
                "`coordinator` needs the number of processes and that of this process. Received: "
                f"processes={self.processes}, process={self.process}. Pass --processes N "
                "--process K, or --coordinator auto."
            )
        if self.process >= self.processes:
            raise InputError(
                f"`process` must be from 0 to {self.processes - 1}, because there are "
                f"{self.processes} processes. Received: process={self.process}."
            )


@dataclass(frozen=True)
class Devices:
    """The devices of all processes."""

    count: int = 1
    """Number of devices of all processes together."""
    kind: str = ""
    """Such as "cpu" or "NVIDIA H100 80GB HBM3". Empty: not known, one device."""
    processes: int = 1
    process: int = 0
    """Number of this process, from 0."""
    distribution: Any = None
    """`keras.distribution.DataParallel`; None for one device."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.process == 0

    @property
    def record(self) -> dict[str, Any]:
        """Fields for run.json."""
        return {"count": self.count, "processes": self.processes, "kind": self.kind}

    @property
    def scope(self) -> Any:
        """Context manager in which Keras trains on all devices."""
        return self.distribution.scope() if self.distribution else nullcontext()


@contextmanager
def join(options: DeviceOptions) -> Iterator[Devices]:
    """Yield the `Devices` of this process and those that it trains with.

    With a coordinator, wait until all processes are connected. If the block raises an exception in
    one process, or a process is killed, all processes end.

    Raises:
        InputError (a ValueError): the backend is not JAX, or there are fewer devices.
    """
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        hide_gpus_from_tensorflow()
    if options.devices == "1" and options.coordinator is None:
        yield Devices(kind=kind_of_device())
        return
    if backend != "jax":
        raise InputError(
            f"Several devices need Keras on JAX. Received: the backend {backend}. Run "
            'pip install "keras_arch[jax]" and set KERAS_BACKEND=jax.'
        )
    if options.coordinator is None:
        yield find_devices(options.devices)
        return
    with connect(options.coordinator, options.processes, options.process):
        yield find_devices(options.devices)


def kind_of_device() -> str:
    """Return the kind of the device that Keras trains on, or "" if the backend does not know it."""
    import keras

    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.local_devices()[0].device_kind
    if backend == "tensorflow":
        import tensorflow as tf

        from .precision import gpus

        if not (found := gpus()):
            return ""
        return tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU")
    return ""


def hide_gpus_from_tensorflow() -> None:
    """Keep TensorFlow, which loads the images, from taking the memory of the GPUs."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # TensorFlow has begun to use them
        tf.config.set_visible_devices([], "GPU")


def find_devices(wanted: str) -> Devices:
    """Return the `Devices` that are `wanted`, "all" or a number of each process."""
    import jax
    import keras

    found = [jax.local_devices(process) for process in range(jax.process_count())]
    own = found[jax.process_index()]
    least = min(map(len, found))
    if wanted == "all" and least < max(map(len, found)):
        numbers = ", ".join(str(len(devices)) for devices in found)
        raise InputError(
            f"All processes must have the same number of devices. Received: {numbers}. Pass "
            f"--devices {least}."
        )
    each = len(own) if wanted == "all" else int(wanted)
    if each > least:
        raise InputError(
            f"`devices` must be at most {least}, the number of devices that JAX has "
            f"({own[0].device_kind}). Received: devices={each}. Pass --devices all."
        )
    used = [device for devices in found for device in devices[:each]]
    distribution = None
    if len(used) > 1 or len(found) > 1:
        names = [f"{device.platform}:{device.id}" for device in used]
        distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
    return Devices(len(used), own[0].device_kind, len(found), jax.process_index(), distribution)


def check_batch_size(batch_size: int, devices: int) -> None:
    """Raise InputError unless each device gets the same number of images of a batch."""
    if rest := batch_size % devices:
        near = [str(size) for size in (batch_size - rest, batch_size - rest + devices) if size]
        raise InputError(
            f"`batch_size` must be a multiple of {devices}, the number of devices. Received: "
            f"batch_size={batch_size}. Pass {' or '.join(near)} (--batch-size)."
        )
