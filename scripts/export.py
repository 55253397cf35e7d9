"""Export a model to SavedModel, TFLite and ONNX, and verify every file.

keras-arch export RUN
keras-arch export MODEL.keras --labels labels.txt --calibration DATASET --test DATASET
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from keras_arch import files
from keras_arch.class_names import class_names_for
from keras_arch.cli import announce, parse, print_table, quiet, run, say, use_tensorflow
from keras_arch.errors import InputError, require
from keras_arch.formats import ExportSettings
from keras_arch.options import Metavar, Positional


@dataclass
class Options:
    """Export a run or a Keras model and verify every file on images.

    Each file runs without keras_arch. Exit status 1: a file fails.
    """

    model: Annotated[Path, Positional("MODEL")]
    """Run directory that keras-arch train wrote, or a .keras file of any origin."""
    settings: ExportSettings
    calibration: Annotated[str | None, Metavar("DATASET")] = None
    """Training images for a .keras file: name, image folder or .npz file."""
    test: Annotated[str | None, Metavar("DATASET")] = None
    """Labeled test images for a .keras file. Default: no accuracy is measured."""
    labels: Annotated[Path | None, Metavar("FILE")] = None
    """Class names of a .keras file, one a line. Default: the names in the file."""
    softmax: bool = False
    """Append a softmax to a .keras file with logits."""
    output_name: Annotated[str | None, Metavar("NAME")] = None
    """Output of a .keras file with several outputs."""
    output: Annotated[Path | None, Metavar("DIRECTORY")] = None
    """Output directory for a .keras file. Default: NAME_export next to NAME.keras."""
    data_dir: Annotated[str | None, Metavar("DIRECTORY|URL")] = None
    """Directory of prepared TFDS data. Default: that of the run."""
    debug_quantization: bool = False
    """Table of int8 errors by layer, instead of an export."""


EXPORT_ITS_MODEL = "Export the Keras model that it was made from."
SAVE_AS_KERAS = 'Load it in Python, and save the model with model.save("model.keras").'
OTHER_FILES = {".h5": SAVE_AS_KERAS, ".hdf5": SAVE_AS_KERAS}  # {suffix: how to export it}
FILE_OPTIONS = ("calibration", "test", "labels", "softmax", "output_name", "output")


def main():
    options = parse(Options, sys.argv[1:], "export")
    folder = check_options(options)
    names = class_names_for(options.model, options.labels) if is_file(options) else ()
    for extra in ("onnx", "int4"):
        if extra in options.settings.formats:
            require(extra)
    with files.shared_lock(options.model):  # a training with --overwrite waits
        use_tensorflow()  # for its converters
        if options.debug_quantization:
            debug(options, names)
        else:
            export(options, names, folder)


def is_file(options):
    """Return whether the model is a .keras file, not a run directory."""
    return options.model.suffix == ".keras" and not options.model.is_dir()


def check_options(options):
    """Return the export directory. Raise InputError for options that contradict the model."""
    given = [f"--{name.replace('_', '-')}" for name in FILE_OPTIONS if getattr(options, name)]
    if not is_file(options):
        if options.model.is_file() or (options.model / "saved_model.pb").is_file():
            raise InputError(
                f"{options.model} must be a run directory or a .keras file. Received: another "
                f"kind of file. {OTHER_FILES.get(options.model.suffix, EXPORT_ITS_MODEL)}"
            )
        if given:
            raise InputError(
                f"{given[0]} requires a .keras file. Received: {options.model}. "
                "A run has its own class names, data and directory."
            )
        return options.model / "export"
    if options.calibration is None:
        raise InputError(
            "--calibration is required for a .keras file. Received: none. Pass training images, "
            "such as an image folder, or pass a run directory instead of the file."
        )
    folder = options.output or options.model.with_name(f"{options.model.stem}_export")
    files.refuse_inside(folder, filter(None, (options.calibration, options.test)))
    files.refuse_foreign(folder, "export.json")
    files.check_writable(folder)
    return folder


def open_source(options, names):
    """Return the model and the images to export.

    Args:
        options: `Options`.
        names: class names of a .keras file.
    """
    with quiet():
        from keras_arch.export.model_file import ModelFileOptions, open_model_file
        from keras_arch.export.run import open_run, source_of_run
        from keras_arch.quantization.ranges import read_int8_ranges

    if not is_file(options):
        run, model, data = open_run(options.model, options.settings, options.data_dir)
        ranges = read_int8_ranges(options.model / "model.keras")
        return source_of_run(run, model, data, options.settings, ranges)
    needed = ModelFileOptions(
        names,
        options.calibration,
        options.test,
        options.softmax,
        options.output_name,
        options.data_dir,
    )
    with quiet():
        source = open_model_file(options.model, needed, options.settings)
    return replace(source, ranges=read_int8_ranges(options.model))


def debug(options, names):
    """Print the layers with the highest int8 errors."""
    with quiet():
        from keras_arch.export.classifier import debug_quantization
        from keras_arch.export.quantization import ERROR_THRESHOLD
        from keras_arch.reports.tables import QUANTIZATION_LEGEND, quantization_rows

    source = open_source(options, names)
    with quiet():
        ranking, kept = debug_quantization(source, options.settings)
    print_table(quantization_rows(ranking))
    print(QUANTIZATION_LEGEND)
    if not kept:
        return print(f"No layer adds more than {ERROR_THRESHOLD:.0%}.")
    print(
        f"To keep layers that add more than {ERROR_THRESHOLD:.0%}, and their readers, in float32:"
    )
    say(f"  --keep-float {' '.join(kept)}")


def export(options, names, folder):
    """Write the export directory and add the export to the report.html of a run."""
    with quiet():
        from keras_arch.demo.contents import tflite_files
        from keras_arch.export.classifier import write_export
        from keras_arch.export.record import raise_problems, smallest_file
        from keras_arch.reports.html import add_export
        from keras_arch.reports.tables import (
            refusal_lines,
            verification_legend,
            verification_table,
            verification_title,
        )

    source = open_source(options, names)
    files.check_writable(folder)
    say(f"Exporting to {folder} and verifying each file:")
    with files.atomic_folder(folder, "export.json") as partial:
        with quiet():
            report = write_export(source, partial, options.settings, announce)
        if table := verification_table(report):
            print(verification_title(report), table, verification_legend(report), sep="\n")
        for line in refusal_lines(report):
            print(line)
        raise_problems(folder, report)
    if source.run:
        add_export(options.model, report)
    else:
        print("Input of every file: raw pixels of 0-255. Do not normalize them.")
    if table:
        print("Next (to deploy to Android and iOS, see docs/mobile.md):")
        say(f"  keras-arch predict {folder / smallest_file(report)} IMAGE")
    if tflite_files(report):
        say(f"  keras-arch demo {options.model if source.run else folder}")


if __name__ == "__main__":
    run(main)
