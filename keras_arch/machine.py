"""What this machine has: processor, cores, memory, and the commit of the code that runs."""

import os
import platform
import subprocess
from pathlib import Path

import psutil

from .errors import InputError

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
ADDRESSES = (
    4 * 2**30
)  # bytes of address space; training quickstart on 2 cores takes 3.7e9 and uses 0.8e9 of them


def total_memory():
    """Return the bytes of memory that this process may use.

    They are the machine's, or less if its control group (cgroup) or the limit of its address space
    (`ulimit -v`) says so.
    """
    return min([psutil.virtual_memory().total, *cgroup_limits(), *address_limits()])


def available_memory():
    """Return the bytes of memory that this process may take in addition to what it has."""
    used = psutil.Process().memory_info()
    groups = [limit - used.rss for limit in cgroup_limits()]
    addresses = [limit - used.vms for limit in address_limits()]
    return max(0, min([psutil.virtual_memory().available, *groups, *addresses]))


def address_limits():
    """Return the limit in bytes of the address space of this process (`ulimit -v`), as a list of one or none."""
    try:
        import resource
    except ImportError:  # Windows
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [limit]


def check_address_space():
    """Raise InputError if `ulimit -v` is too low for TensorFlow, which then ends the process without an error."""
    for limit in address_limits():
        if limit < ADDRESSES:
            raise InputError(
                f"There is not enough memory: `ulimit -v` must be at least {ADDRESSES // 1024} for TensorFlow. "
                f"Received: {limit // 1024}. Raise it, or limit memory by a container."
            )


def cgroup_limits():
    """Return the memory limits in bytes of this process's control groups of Linux, version 1 and 2, and of those above."""
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # another operating system
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += limits_of(CGROUPS, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += limits_of(CGROUPS / "memory", path, "memory.limit_in_bytes")
    return found


def limits_of(root, path, file):
    """Return the numbers in the files called `file` in the folder `path` below `root` and in those above it, up to `root`."""
    # In a container, `path` may be that of the host, which is not there: the container's own group is then `root`.
    place = root / path.lstrip("/")
    contents = []
    for folder in (place, *place.parents[: len(place.parts) - len(root.parts)]):
        try:
            contents.append((folder / file).read_text().strip())
        except OSError:
            continue
    return [int(content) for content in contents if content.isdigit()]  # "max" is no limit


def cpu_name():
    """Return the processor's name, with its family and model on Linux, since clouds give one name to several."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = {
        name.strip(): value.strip()
        for name, _, value in (line.partition(":") for line in reversed(lines))
    }
    if "model name" not in fields:
        return platform.machine()
    return (
        f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"
    )


def available_cores():
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def git_commit():
    """Return the commit of the code that runs, with a + if files differ from it.

    The commit is None if Git does not track this file, as for a package that is installed in the
    .venv of a project: the project's commit says nothing about the package.
    """
    file = Path(__file__)

    def git(*arguments):
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=file.parent, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")
    except (OSError, subprocess.CalledProcessError):
        return None
