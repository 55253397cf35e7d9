"""Connect the processes of a training, and end all of them if one fails.

Every process runs the same program. Process 0 writes the run directory and prints.
"""

import atexit
import contextlib
import io
import os
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from ..errors import DataWarning, InputError, first_line, one_line
from ..text import printable
from . import watch
from .sharing import share

START_LIMIT = 60  # seconds until all processes are connected
SHUTDOWN_LIMIT = 10  # seconds in which JAX waits for other processes at the end


@contextmanager
def connect(coordinator: str, count: int | None, index: int | None) -> Iterator[None]:
    """Connect all processes while the block runs, and end all of them if one fails.

    Only process 0 prints in the block.

    Args:
        coordinator: HOST:PORT of process 0, or "auto".
        count: number of processes; None with "auto".
        index: number of this process, from 0; None with "auto".
    """
    import jax

    with hide_native_output():
        with time_limit(coordinator, index):
            initialize(coordinator, count, index)
            watched = start_watch(coordinator)
        name = watch.process_name(jax.process_index(), jax.process_count(), socket.gethostname())
        try:
            with silence(jax.process_index() == 0):
                yield
        except BaseException as error:
            if not isinstance(error, (InputError, OSError, KeyboardInterrupt)):
                time.sleep(watch.LINGER)  # if another process is gone, the watch reports it
            if not watched.report(printable(one_line(f"{name}: {first_line(error)}"))):
                threading.Event().wait()  # another thread is ending this process
            # When Python exits, JAX would wait for the other processes.
            status = 2 if isinstance(error, (InputError, OSError)) else 1
            atexit.register(end, 130 if isinstance(error, KeyboardInterrupt) else status)
            raise
        watched.finish()
        with contextlib.suppress(RuntimeError):  # the training is over
            jax.distributed.shutdown()


def end(status: int) -> None:
    """End this process at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def time_limit(coordinator: str, index: int | None) -> Iterator[None]:
    """End this process if the block takes too long. JAX's own limit ends it without a reason."""
    missing = "Process 0" if index else "Another process"
    message = (
        f"{missing} did not answer within {START_LIMIT} seconds. Received: --coordinator "
        f"{coordinator}. Start all processes at the same time, with the same address and "
        "another --process each, and open the ports between the machines."
    )
    timer = threading.Timer(START_LIMIT, watch.leave, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def initialize(coordinator: str, count: int | None, index: int | None) -> None:
    """Connect the JAX of all processes."""
    import jax

    # It would catch SIGTERM.
    jax.config.update("jax_enable_preemption_service", False)
    start = partial(
        jax.distributed.initialize,
        initialization_timeout=2 * START_LIMIT,
        shutdown_timeout_seconds=SHUTDOWN_LIMIT,
    )
    if coordinator != "auto":
        if index == 0:
            check_port(coordinator)
        return start(coordinator, count, index, cluster_detection_method="deactivate")
    try:
        start()
    except Exception as error:
        raise InputError(
            "--coordinator auto needs SLURM, Kubernetes, Open MPI or a TPU pod. Received: "
            f"{first_line(error)}. Pass --coordinator HOST:PORT --processes N --process K."
        ) from error


def check_port(coordinator: str) -> None:
    """Raise InputError if process 0 cannot listen on the port of its address."""
    try:
        socket.create_server(("", int(coordinator.rpartition(":")[2]))).close()
    except OSError as error:
        raise InputError(
            f"Process 0 cannot listen on the port of {coordinator}. Received: "
            f"{os.strerror(error.errno or 0)}. Pass another port to all processes."
        ) from error


def start_watch(coordinator: str) -> watch.Watch:
    """Return the `Watch` of this process."""
    import jax

    index, count = jax.process_index(), jax.process_count()
    if index > 0:
        return watch.connect(share(None), index, count)
    host = coordinator.rpartition(":")[0].strip("[]")  # "" for "auto"
    server, door = watch.open_door([*filter(None, [host]), *own_addresses()])
    share(door)
    return watch.welcome(server, door["token"], count)


def own_addresses() -> list[str]:
    """Return the IPv4 addresses of this machine, those that only it can reach last."""
    import psutil

    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET
    ]
    return sorted(found, key=lambda address: address.startswith("127."))


@contextmanager
def hide_native_output() -> Iterator[None]:
    """Hide what native code prints, unless the block raises an unexpected exception.

    When a process ends, the JAX of the others prints many lines. What Python prints stays visible.
    """
    before = sys.stdout, sys.stderr
    visible = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        sys.stdout, sys.stderr = (
            os.fdopen(descriptor, "w", 1, encoding=stream.encoding, errors="backslashreplace")
            for descriptor, stream in zip(visible, before, strict=True)
        )
        for descriptor in (1, 2):
            os.dup2(hidden.fileno(), descriptor)
        try:
            yield
        except (InputError, OSError, KeyboardInterrupt):
            raise
        except BaseException:
            hidden.seek(0)
            os.write(visible[1], hidden.read())
            raise
        finally:
            for number, stream in ((1, sys.stdout), (2, sys.stderr)):
                stream.flush()
                os.dup2(stream.fileno(), number)
            sys.stdout, sys.stderr = before


@contextmanager
def silence(prints: bool) -> Iterator[None]:
    """Drop the output and the data warnings of a process that does not print."""
    if prints:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        yield
