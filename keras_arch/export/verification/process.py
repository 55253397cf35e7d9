"""Processes that run probe.py on exported files."""

import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...machine import available_memory

PROBE = Path(__file__).with_name("probe.py")
THREADS = (1, 2)  # each needs its own process
# Free bytes for both processes. Each takes 0.2e9 with TensorFlow 2.21 imported, and the model.
MEMORY = 2**30

Process = subprocess.Popen[str]


@contextmanager
def start_early(kinds: Collection[str]) -> Iterator[list[Process]]:
    """Start the processes that run a SavedModel before it is written.

    Their import of TensorFlow takes seconds on one core.

    Args:
        kinds: `FileSpec.kind` of the files of an export. Without "saved_model", nothing starts.

    Yields:
        One process for each number of threads, or an empty list if there is too little memory.
        Those that still run are stopped at the end.
    """
    early = "saved_model" in kinds and available_memory() > MEMORY
    started = [start_process("saved_model") for _ in THREADS] if early else []
    try:
        yield list(started)
    finally:
        for process in started:
            with process:  # closes its pipes
                process.kill()


def start_process(kind: str) -> Process:
    """Start probe.py for a kind of file."""
    return subprocess.Popen(
        [sys.executable, "-P", str(PROBE), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_import(process: Process) -> None:
    """Wait until a process has imported its runtime, so that it slows down no measurement."""
    assert process.stdout
    process.stdout.readline()  # probe.py prints an empty line. A process that ends also returns.


def run_job(process: Process, job: dict[str, Any]) -> dict[str, Any]:
    """Return what probe.py prints for a job, or {"error": message} if the process ends."""
    stdout, stderr = process.communicate(json.dumps(job))
    try:
        return json.loads(stdout)
    except ValueError:
        return {"error": f"its process ended with status {process.returncode}: {stderr[-500:]}"}
