"""Write a page that runs exported files in a browser: keras-arch demo RUN."""

import shlex
import sys
import warnings
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from keras_arch import files
from keras_arch.cli import parse, quiet, run, say, use_tensorflow
from keras_arch.errors import DataWarning, InputError, require
from keras_arch.options import Metavar, Positional


@dataclass
class Options:
    """Write one HTML file that classifies pictures, drawings and camera frames in a browser.

    It contains the exported .tflite files and works without network.
    """

    export: Annotated[Path, Positional("RUN")]
    """Run directory with an export, export directory, or demo."""
    output: Annotated[Path | None, Metavar("FILE")] = None
    """Path of the page. Default: demo.html in the export directory; ./demo.html for demo."""
    test: Annotated[str | None, Metavar("DATASET")] = None
    """Test images of the page. Default: those that verified the export."""
    data_dir: Annotated[str | None, Metavar("DIRECTORY|URL")] = None
    """Directory of prepared TFDS data. Default: that of the run."""
    open: bool = False
    """Open the page in the default browser."""


def main():
    options = parse(Options, sys.argv[1:], "predict")
    if options.output and options.output.suffix != ".html":
        raise InputError(f"--output must be an .html file. Received: {options.output}.")
    with files.shared_lock(options.export):  # a training with --overwrite waits
        output = write_packaged(options) if is_packaged(options) else write_exported(options)
    say(f"Page saved to {output} ({output.stat().st_size / 1e6:.1f} MB). Open it in a browser.")
    if options.output is None and not is_packaged(options):  # the server shows its directory
        folder = shlex.quote(str(output.parent))
        say(f"On a phone in the same network: run python -m http.server --directory {folder}")
        say("and open http://ADDRESS:8000/demo.html with the address of this computer.")
    if options.open and not webbrowser.open(output.resolve().as_uri()):
        warnings.warn("--open found no browser. Open the page yourself.", DataWarning, stacklevel=2)


def is_packaged(options):
    """Return whether the page is of the model in the package."""
    return options.export == Path("demo") and not options.export.exists()


def write_packaged(options):
    """Write the page of the model in the package, and return its path."""
    if options.test or options.data_dir:
        given = "--test" if options.test else "--data-dir"
        raise InputError(f"{given} requires an export. Received: demo, which has its own images.")
    from keras_arch.demo.contents import open_demo

    return write_page(options.output or Path("demo.html"), open_demo)


def write_exported(options):
    """Write the page of an export, and return its path."""
    require("train")  # reads test images
    use_tensorflow()
    from keras_arch.demo.contents import find_export, find_run, open_files, read_export

    folder = find_export(options.export)
    report = read_export(folder)
    data = options.test or report["verification"]["data"]

    def open_contents():
        with quiet():
            from keras_arch.demo.samples import load_samples

            samples = load_samples(folder, report, options.test, options.data_dir)
        return open_files(folder, report, samples)

    output = options.output or folder / "demo.html"
    files.refuse_inside(output, [data] if data else [])
    write_page(output, open_contents)
    if output.resolve() == (folder / "demo.html").resolve() and (run_folder := find_run(folder)):
        with quiet():
            from keras_arch.reports.html import add_export

            add_export(run_folder, report)
    return output


def write_page(output, open_contents):
    """Write the page of what `open_contents` returns, and return its path."""
    from keras_arch.demo.page import compose_page
    from keras_arch.demo.runtime import load_runtime

    files.check_writable(output, "file")
    runtime = load_runtime()  # may need the network, so before the data are read
    with quiet():
        contents = open_contents()
    page = compose_page(contents, runtime)
    output.parent.mkdir(parents=True, exist_ok=True)
    files.atomic_write(output, lambda partial: partial.write_text(page, encoding="utf-8"))
    return output


if __name__ == "__main__":
    run(main)
