"""Download of files over HTTP, with a progress bar."""

import http.client
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from .errors import InputError, first_line

TIMEOUT = 30  # seconds to wait for the server


def fetch(url: str, path: Path, variable: str = "XDG_CACHE_HOME") -> None:
    """Download a file to a path. Show the progress on terminals. Hashes are not checked.

    Args:
        url: Address of the file.
        path: Path to write.
        variable: Environment variable that moves `path` to another disk, for the error message.

    Raises:
        InputError: The disk is too small.
        OSError: The server does not respond as it should, or the file cannot be written.
    """
    file = url.rpartition("/")[2]
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            size = int(answer.headers.get("Content-Length") or 0)
            free = shutil.disk_usage(path.parent).free
            if size > free:
                raise InputError(
                    f"{file} needs {size / 1e6:,.1f} MB of disk space. Received: {free / 1e6:,.1f} "
                    f"MB free in {path.parent}. Free some space, or set {variable} to another disk."
                )
            with progress_bar() as progress, path.open("wb") as out:
                reading = progress.wrap_file(answer, total=size, description=file)
                shutil.copyfileobj(reading, out)
    except InputError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        raise
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from error
    # ValueError: a server's Content-Length that is no number.
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(first_line(error)) from error
    if (received := path.stat().st_size) < size:
        raise OSError(f"a damaged download of {received:,} of {size:,} bytes")


def progress_bar() -> Progress:
    """Return a progress bar in bytes. It is visible on terminals only."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
