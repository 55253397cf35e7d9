"""Export a run for servers and phones, and prove every file: python scripts/export.py RUN."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from keras_arch import files
from keras_arch.cli import announce, parse, print_table, quiet, run, say
from keras_arch.errors import VerificationError
from keras_arch.formats import ExportSettings
from keras_arch.reports.tables import transpose


@dataclass
class Options:
    """Write RUN/export/, then run each file where keras_arch is not, on test images. Exit status 1: a file fails."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run folder that scripts/train.py wrote."""
    settings: ExportSettings
    data_dir: Path | None = None
    """Folder of prepared TFDS data sets; the one that the run was trained from if not given."""
    debug_quantization: bool = False
    """Export nothing; list the layers by what int8 costs in them, and name those to keep in float32."""


def main():
    options = parse(Options, sys.argv[1:], prog="export.py")
    with files.shared_lock(
        options.run
    ):  # or a training with --overwrite could replace it in the meantime
        export(options)


def export(options):
    with quiet():
        from keras_arch.export.record import list_problems, smallest_file
        from keras_arch.export.run import (
            ERROR_LEGEND,
            debug_quantization,
            export_and_verify,
            open_run,
        )
        from keras_arch.reports.html import add_export
        from keras_arch.reports.model_card import write_model_card
        from keras_arch.reports.tables import (
            VERIFICATION_LEGEND,
            operator_lines,
            verification_table,
        )

    settings, folder = options.settings, options.run / "export"
    run, model, data = open_run(options.run, settings, options.data_dir)
    if options.debug_quantization:
        with quiet():
            rows, names = debug_quantization(model, data, settings)
        print_table(rows)
        print(ERROR_LEGEND)
        return print(
            f"Next: the same with --keep-float {' '.join(names)} instead."
            if names
            else "No layer does."
        )
    files.check_writable(folder)
    say(f"Exporting {options.run / 'model.keras'} to {folder}, then running each file:")
    with files.atomic_folder(folder, "export.json") as partial:
        with quiet():
            found = export_and_verify(run, model, data, partial, settings, announce)
        write_model_card(partial, found, run, data.class_names)
        if table := verification_table(found):
            print(f"On {found['proof']['images']:,} test images:")
            print_table(transpose(table))
        print(VERIFICATION_LEGEND, *operator_lines(found), sep="\n")
        if problems := list_problems(found):
            raise VerificationError(folder, problems)
    add_export(options.run, table)
    say(
        f"Next: python scripts/predict.py {folder / smallest_file(found)} PICTURE_OR_FOLDER, and docs/mobile.md"
    )


if __name__ == "__main__":
    run(main)
