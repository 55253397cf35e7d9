"""Export a run to SavedModel, TFLite and ONNX, and verify every file.

keras-arch export RUN
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from keras_arch import files
from keras_arch.cli import announce, parse, print_table, quiet, run, say, use_tensorflow
from keras_arch.errors import VerificationError, require
from keras_arch.formats import ExportSettings
from keras_arch.options import Positional


@dataclass
class Options:
    """Export a run to RUN/export and verify every file on test images.

    Each file runs without keras_arch. Exit status 1: a file fails.
    """

    run: Annotated[Path, Positional("RUN")]
    """Run directory that keras-arch train wrote."""
    settings: ExportSettings
    data_dir: Path | None = None
    """Directory of prepared TFDS data. Default: that of the run."""
    debug_quantization: bool = False
    """Table of int8 errors by layer, instead of an export."""


def main():
    options = parse(Options, sys.argv[1:], "export")
    if "onnx" in options.settings.formats:
        require("onnx")
    with files.shared_lock(options.run):  # a training with --overwrite waits
        use_tensorflow()  # for its converters
        if options.debug_quantization:
            debug(options)
        else:
            export(options)


def debug(options):
    """Print the layers with the highest int8 errors."""
    with quiet():
        from keras_arch.export.quantization import ERROR_THRESHOLD
        from keras_arch.export.run import debug_quantization, open_run
        from keras_arch.reports.tables import QUANTIZATION_LEGEND, quantization_rows

    _, model, data = open_run(options.run, options.settings, options.data_dir)
    with quiet():
        ranking, names = debug_quantization(model, data, options.settings)
    print_table(quantization_rows(ranking))
    print(QUANTIZATION_LEGEND)
    if not names:
        return print(f"No layer adds more than {ERROR_THRESHOLD:.0%}.")
    print(
        f"To keep layers that add more than {ERROR_THRESHOLD:.0%}, and their readers, in float32:"
    )
    say(f"  --keep-float {' '.join(names)}")


def export(options):
    """Write RUN/export and add it to report.html."""
    with quiet():
        from keras_arch.export.record import list_problems, smallest_file
        from keras_arch.export.run import export_and_verify, open_run
        from keras_arch.reports.html import add_export
        from keras_arch.reports.model_card import write_model_card
        from keras_arch.reports.tables import (
            VERIFICATION_LEGEND,
            refusal_lines,
            verification_table,
        )

    settings, folder = options.settings, options.run / "export"
    run, model, data = open_run(options.run, settings, options.data_dir)
    files.check_writable(folder)
    say(f"Exporting to {folder} and verifying each file:")
    with files.atomic_folder(folder, "export.json") as partial:
        with quiet():
            report = export_and_verify(run, model, data, partial, settings, announce)
        write_model_card(partial, report, run, data.class_names)
        if table := verification_table(report):
            print(f"Verified on {report['verification']['images']:,} test images:")
            print(table, VERIFICATION_LEGEND, sep="\n")
        for line in refusal_lines(report):
            print(line)
        if problems := list_problems(report):
            raise VerificationError(folder, problems)
    add_export(options.run, report)
    if table:
        print("Next (to deploy to Android and iOS, see docs/mobile.md):")
        say(f"  keras-arch predict {folder / smallest_file(report)} IMAGE")


if __name__ == "__main__":
    run(main)
