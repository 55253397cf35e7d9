"""Calibrate the probabilities of a run by one temperature: keras-arch calibrate RUN."""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from keras_arch import files
from keras_arch.cli import parse, print_table, progress, quiet, run, say
from keras_arch.errors import InputError
from keras_arch.formats import ExportSettings
from keras_arch.options import Metavar, Positional, Range
from keras_arch.runs.folder import check_run_folder
from keras_arch.runs.record import finish_calibration, read_run


@dataclass
class Options:
    """Write a copy of a run whose probabilities match its accuracy, and find a threshold.

    One temperature is fitted on validation and measured on test. The most probable class of an
    image does not change.
    """

    run: Annotated[Path, Positional("RUN")]
    """Run directory that keras-arch train wrote."""
    output: Annotated[Path | None, Metavar("DIRECTORY")] = None
    """Run directory to write. Default: RUN-calibrated."""
    accuracy: Annotated[float, Range(0, 1)] = 0.99
    """Accuracy on validation that the recommended threshold reaches."""
    data_dir: Annotated[str | None, Metavar("DIRECTORY|URL")] = None
    """Directory of prepared TFDS data sets. Default: that of the run."""
    overwrite: bool = False
    """Replace an existing run directory."""


def main():
    options = parse(Options, sys.argv[1:], "train")
    with files.shared_lock(options.run):  # a training with --overwrite waits
        recipe = read_run(options.run)["recipe"]
        output = options.output or default_output(options.run)
        refuse_own_folder(options.run, output)
        check = partial(check_run_folder, output, recipe, options.overwrite, resume=False)
        check()
        calibrate(options, output, check)


def default_output(folder):
    """Return the run directory RUN-calibrated, next to RUN."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(f"{named.name}-calibrated")


def refuse_own_folder(folder, output):
    """Raise InputError if the output is the run itself, or one contains the other."""
    source, real = folder.resolve(), files.real_path(output)
    if source in (real, *real.parents) or real in source.parents:
        raise InputError(
            f"--output must be outside of the run {folder}. Received: {output}. "
            "Pass another directory."
        )


def calibrate(options, output, check):
    """Calibrate the run, write the copy and print what was found."""
    with quiet():
        from keras_arch.class_names import pack_labels
        from keras_arch.evaluation.calibrate import calibrate_model
        from keras_arch.evaluation.evaluate import summarize_run
        from keras_arch.export.run import open_run
        from keras_arch.quantization.ranges import pack_ranges, read_int8_ranges, scale_ranges
        from keras_arch.reports.html import write_figures_and_report
        from keras_arch.reports.tables import (
            acceptance_rows,
            calibration_rows,
            calibration_title,
            recommendation_lines,
        )

        _, model, data = open_run(options.run, ExportSettings(), options.data_dir)
    found = calibrate_model(model, data, options.accuracy, progress)
    metrics, mistakes = summarize_run(found.predictions, data)
    with files.atomic_folder(output, "run.json", check=check) as unfinished:
        sha256 = files.hash_of(found.model.get_weights())
        record = finish_calibration(unfinished, options.run, metrics, found.calibration, sha256)
        write_figures_and_report(unfinished, mistakes)

        def save(path):
            found.model.save(path)
            pack_labels(path, data.class_names)
            if ranges := read_int8_ranges(options.run / "model.keras"):
                temperature = found.calibration.temperature
                pack_ranges(path, scale_ranges(ranges, found.scaled, temperature))

        # Last, because a directory that stays after an error would count as an interrupted run.
        files.atomic_write(unfinished / "model.keras", save)
    say(calibration_title(record, data.validation.count, data.test.count))
    print_table(calibration_rows(record))
    print_table(acceptance_rows(record))
    for line in recommendation_lines(record):
        print(line)
    say(f"Calibrated run saved to {output}. Open {output / 'report.html'} for a summary.")
    found = record.get("recommended", {}).get("threshold", 0)
    threshold = f" --at-least {found:g}" if found else ""
    say("Next:")
    say(f"  keras-arch predict {output} IMAGE{threshold}")
    say(f"  keras-arch export {output}")


if __name__ == "__main__":
    run(main)
