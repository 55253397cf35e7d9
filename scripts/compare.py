"""Compare training runs: keras-arch compare RUN RUN..."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from keras_arch import files
from keras_arch.cli import parse, print_table, quiet, run, say
from keras_arch.errors import InputError
from keras_arch.options import Metavar, Positional
from keras_arch.reports.tables import short_names, transpose


@dataclass
class Options:
    """Print a table of cost and accuracy of training runs and plot their curves."""

    runs: Annotated[tuple[Path, ...], Positional("RUN...")]
    """Two or more run directories of keras-arch train."""
    output: Annotated[Path, Metavar("FILE")] = Path("comparison.png")
    """Image file for the plot of the curves."""


def main():
    options = parse(Options, sys.argv[1:], "train")
    if len(options.runs) < 2:
        raise InputError(f"Pass two or more run directories. Received: {len(options.runs)}.")
    files.check_image_output(options.output)
    if len({files.real_path(folder) for folder in options.runs}) < len(options.runs):
        raise InputError(
            f"Pass different run directories. Received: {' '.join(map(str, options.runs))}."
        )
    from keras_arch.reports.tables import comparison_row
    from keras_arch.runs.history import read_history
    from keras_arch.runs.record import read_run

    # Before Keras is imported, which takes seconds, so that errors are fast.
    found = [read_run(folder) for folder in options.runs]
    histories = [read_history(folder) for folder in options.runs]
    with quiet():
        from keras_arch import cost, strip_auxiliary_heads
        from keras_arch.models import load_keras
        from keras_arch.reports.figures import draw_curves

        costs = [
            cost(strip_auxiliary_heads(load_keras(folder / "model.keras")))
            for folder in options.runs
        ]
    _, names = short_names(options.runs)
    rows = [comparison_row(*one) for one in zip(options.runs, found, histories, costs, strict=True)]
    print_table(transpose(dict(zip(names, rows, strict=True))))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(options.output, dict(zip(names, histories, strict=True)))
    say(f"Curves saved to {options.output}.")


if __name__ == "__main__":
    run(main)
