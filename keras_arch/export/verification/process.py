"""Processes that run probe.py on exported files."""

import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROBE = Path(__file__).with_name("probe.py")
THREADS = (1, 2)  # each needs its own process

Process = subprocess.Popen[str]


@contextmanager
def start_early(kinds: Collection[str]) -> Iterator[list[Process]]:
    """Start the processes for a SavedModel, which takes seconds, before they have a job.

    Args:
        kinds: `FileSpec.kind` of the files of an export. Without "saved_model", nothing starts.

    Yields:
        One process for each number of threads. Those that still run are stopped at the end.
    """
    started = [start_process("saved_model") for _ in THREADS] if "saved_model" in kinds else []
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
