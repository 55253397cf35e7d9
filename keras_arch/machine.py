"""Describe the machine: processor, cores, memory, installed versions and the Git commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from .errors import InputError

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Bytes. Training quickstart on 2 cores takes 3.7e9 of address space and 0.8e9 of memory.
MIN_ADDRESS_SPACE = 4 * 2**30


def total_memory() -> int:
    """Return the memory limit of this process in bytes.

    The limit is the smallest of the machine's memory, the limits of the process's control groups
    (cgroups) and the limit of its address space (`ulimit -v`).
    """
    import psutil

    return min([psutil.virtual_memory().total, *cgroup_limits(), *address_limits()])


def available_memory() -> int:
    """Return the bytes of memory that this process may still allocate."""
    import psutil

    used = psutil.Process().memory_info()
    groups = [limit - used.rss for limit in cgroup_limits()]
    addresses = [limit - used.vms for limit in address_limits()]
    return max(0, min([psutil.virtual_memory().available, *groups, *addresses]))


def address_limits() -> list[int]:
    """Return the limit of the address space (`ulimit -v`) in bytes, or an empty list."""
    try:
        import resource
    except ImportError:  # Windows
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [limit]


def check_address_space() -> None:
    """Raise InputError if `ulimit -v` is too low for TensorFlow.

    TensorFlow would end the process without an error message.
    """
    for limit in address_limits():
        if limit < MIN_ADDRESS_SPACE:
            raise InputError(
                "There is not enough memory: `ulimit -v` must be at least "
                f"{MIN_ADDRESS_SPACE // 1024} (kB) for TensorFlow. Received: {limit // 1024}. "
                "Raise the limit, or limit the memory with a container."
            )


def cgroup_limits() -> list[int]:
    """Return the memory limits of this process's cgroups and their parents, in bytes.

    Cgroups of version 1 and 2 are read.
    """
    try:
        lines = OWN_CGROUPS.read_text().splitlines()
    except OSError:  # another operating system
        return []
    found: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            found += read_limits(CGROUPS, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += read_limits(CGROUPS / "memory", path, "memory.limit_in_bytes")
    return found


def read_limits(root: Path, path: str, file: str) -> list[int]:
    """Return the limits in files named `file`, from the directory `path` in `root` up to `root`."""
    # In a container, `path` may be a path of the host, which does not exist here. The container's
    # group is `root` then.
    place = root / path.lstrip("/")
    contents = []
    for folder in (place, *place.parents[: len(place.parts) - len(root.parts)]):
        try:
            contents.append((folder / file).read_text().strip())
        except OSError:
            continue
    return [int(content) for content in contents if content.isdigit()]  # "max" means no limit


def cpu_name() -> str:
    """Return the processor's name, on Linux with family and model.

    Cloud providers use one name for several models.
    """
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


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def version_of(package: str) -> str:
    """Return the version of an installed package, such as "tensorflow".

    The same module can come from another package: `tensorflow_cpu` and `tf_nightly` also install
    `tensorflow`.

    Raises:
        PackageNotFoundError: no package installs the module.
    """
    try:
        return version(package)
    except PackageNotFoundError:
        found = packages_distributions().get(package.replace("-", "_"))
        if not found:
            raise
        return version(found[0])


def git_commit() -> str | None:
    """Return the Git commit of this package, with a "+" if files were changed.

    The result is None if Git does not track this file. An example is a package that is installed
    in a project's .venv: the project's commit does not describe the package.
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
