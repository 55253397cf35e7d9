"""LiteRT.js, which runs .tflite files in a browser. It is downloaded once into the user's cache."""

import base64
import hashlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..downloads import fetch
from ..errors import DataWarning, InputError, first_line
from ..files import atomic_write, cache_folder
from ..text import shorten

VERSION = "2.5.3"
PACKAGE = f"@litertjs/core@{VERSION}"  # on npm; license Apache-2.0
TARBALL = f"litertjs-core-{VERSION}.tgz"  # the file that npm writes
INTEGRITY = (  # of the tarball, in npm's notation
    "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ=="
)
CDN = f"https://cdn.jsdelivr.net/npm/{PACKAGE}/"  # serves the files of the package

# {file of the package: SHA-256}, in the order of the fields of `Runtime`.
FILES = {
    "dist/index.js": "e7daccc3a31eef890848a737ccb863ded5f046a6b40c3fdc0556495adeb5d9b3",
    "wasm/litert_wasm_compat_internal.js": (
        "4d8f894b7883654fd6e8439730aa41e79ceaab7d19184fc4f1f0b0f1a2a2c8a5"
    ),
    "wasm/litert_wasm_compat_internal.wasm": (
        "5255c8ad06eabdbd2522cdebf6b22fc10faf74625c23a49b9e072570cd1fa41c"
    ),
}

NPM_TIMEOUT = 60  # seconds
# Without retries, npm reports a missing network in a second, not in 70.
NPM_OPTIONS = ("--ignore-scripts", "--loglevel=error", "--fetch-retries=0")
REASON_CELLS = 50  # width of a reason in a message, in terminal columns

Files = dict[str, bytes]  # {file of the package: its content}


@dataclass(frozen=True)
class Runtime:
    """LiteRT.js for every browser that has WebAssembly with SIMD.

    Attributes:
        api: JavaScript module with the functions that a page calls.
        glue: Classic script that loads the WebAssembly module.
        wasm: WebAssembly module (9.3 MB).
    """

    api: str
    glue: str
    wasm: bytes


def load_runtime() -> Runtime:
    """Return LiteRT.js from the user's cache. Download it if necessary.

    It comes from a tarball in the cache directory, from npm if it is installed, or from jsDelivr.

    Raises:
        InputError: No way works, for example because there is no network. The cache is unchanged.

    Warns:
        DataWarning: The cache cannot be written.
    """
    folder = runtime_folder()
    try:
        files = check_files(read_cached(folder))
    except OSError:
        files = obtain_files(folder)
        keep_files(files, folder)
    api, glue, wasm = files.values()
    return Runtime(api.decode(), glue.decode(), wasm)


def runtime_folder() -> Path:
    """Return the directory of this version in the user's cache. It may not exist."""
    try:
        return cache_folder() / f"litertjs-{VERSION}"
    except OSError as error:
        raise InputError(
            f"There is no cache directory. Received: {first_line(error)}. "
            "Set XDG_CACHE_HOME to a writable directory."
        ) from error


def cached_path(folder: Path, name: str) -> Path:
    """Return the path of a file of the package in the cache."""
    return folder / Path(name).name


def read_cached(folder: Path) -> Files:
    """Return the files in the cache. Raise OSError if one is missing."""
    return {name: cached_path(folder, name).read_bytes() for name in FILES}


def keep_files(files: Files, folder: Path) -> None:
    """Write the files to the cache. Issue a `DataWarning` if this fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            atomic_write(cached_path(folder, name), partial(Path.write_bytes, data=content))
    except OSError as error:
        warnings.warn(
            f"LiteRT.js {VERSION} cannot be kept in the cache, so it is downloaded each time. "
            f"Received: {first_line(error)}. Set XDG_CACHE_HOME to a writable directory.",
            DataWarning,
            stacklevel=3,
        )


def obtain_files(folder: Path) -> Files:
    """Return the files from the first way that works.

    Args:
        folder: Directory in the cache, which may contain a tarball.

    Raises:
        InputError: No way works.
    """
    reasons = []
    # Killed processes may write there for a moment.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        for way in (
            *(partial(read_tarball, path) for path in sorted(folder.glob("*.tgz"))),
            partial(pack_with_npm, Path(scratch)),
            partial(download_files, Path(scratch)),
        ):
            try:
                return check_files(way())
            except OSError as error:
                reasons.append(shorten(first_line(error), REASON_CELLS))
    raise InputError(
        f"LiteRT.js {VERSION} cannot be downloaded. Received: {'; '.join(reasons)}. "
        f"Connect to the network once, or copy the file of `npm pack {PACKAGE}` to {folder}."
    )


def check_files(files: Files) -> Files:
    """Return the files. Raise OSError if one has another hash than published."""
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != FILES[name]:
            raise wrong_hash(name)
    return files


def wrong_hash(name: str) -> OSError:
    """Return the error that a file has another hash than published."""
    return OSError(f"{Path(name).name} has a wrong hash")


def read_tarball(path: Path) -> Files:
    """Return the files in the published tarball. Raise OSError for another tarball."""
    content = path.read_bytes()
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if f"sha512-{digest}" != INTEGRITY:
        raise wrong_hash(path.name)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        members = {name: tar.extractfile(f"package/{name}") for name in FILES}
        return {name: member.read() for name, member in members.items() if member}


def pack_with_npm(scratch: Path) -> Files:
    """Return the files from a tarball that npm downloads to a temporary directory.

    Raises:
        OSError: npm is not installed or fails.
        TimeoutError (an OSError): npm takes more than 60 seconds.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("no npm on the PATH")
    status, message = run_process([npm, "pack", *NPM_OPTIONS, PACKAGE], scratch)
    if status:
        raise OSError(message.partition("\n")[0] or f"npm ended with status {status}")
    if not (scratch / TARBALL).is_file():
        raise FileNotFoundError("npm wrote no tarball")
    return read_tarball(scratch / TARBALL)


def run_process(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in a directory. Return its exit status and what it writes to stderr.

    The process and its children end after 60 seconds and at Ctrl-C.
    """
    with subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            _, message = process.communicate(timeout=NPM_TIMEOUT)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(f"npm did not end in {NPM_TIMEOUT} s") from error
            raise
    return process.returncode, message


def download_files(scratch: Path) -> Files:
    """Return the files from jsDelivr. They are written to a temporary directory first.

    Raises:
        InputError: The disk is too small.
        OSError: The server does not respond as it should.
    """
    for name in FILES:
        fetch(CDN + name, cached_path(scratch, name), variable="TMPDIR")
    return read_cached(scratch)
