"""Write what follows from the registry of architectures: make generate.

- `keras_arch/__init__.pyi`: the public names for editors and type checkers.
- `README.md`: the table of models, and the table of the measured results.
- `docs/training.md`: the table of the ablation.
- `tests/golden/variables/NAME.txt`: path and shape of each variable. Existing files stay, because
  saved models need these names. After a deliberate change, delete the file first.
  Note the change in CHANGELOG.md.
"""

import json
import re
import statistics
from pathlib import Path

import keras_arch
from keras_arch.architectures.registry import ARCHITECTURES
from keras_arch.cli import quiet
from keras_arch.reports.tables import machine_of, training_time
from keras_arch.results import read_results

ROOT = Path(__file__).parent.parent
STUB = ROOT / "keras_arch" / "__init__.pyi"
README = ROOT / "README.md"
TRAINING = ROOT / "docs" / "training.md"
ABLATION = ROOT / "benchmarks" / "results" / "ablation.json"
VARIABLES = ROOT / "tests" / "golden" / "variables"
STUB_HEADER = '''"""The public names of the package, for editors and type checkers. Written by make generate."""
# ruff: noqa: I001
# fmt: off

__version__: str

'''
TABLE = r"(?<=<!-- {}, written by make generate -->\n).*?(?=<!-- end -->)"
TABLE_HEADER = """\
| Builder | Parameters | Multiply-adds | Paper |
|---|---|---|---|
"""
RESULTS_HEADER = """\
| Recipe | Model | Data | Parameters | Top-1 (95% interval) | int8 top-1 | Time | Processor |
|---|---|---|---|---|---|---|---|
"""
ABLATION_HEADER = """\
| change | seeds | validation % | test % |
|---|---|---|---|
"""


def stub_text():
    """Return the text of `keras_arch/__init__.pyi`."""
    modules = keras_arch._MODULE_OF.items()
    return STUB_HEADER + "".join(
        f"from .{module} import {name} as {name}\n" for name, module in modules
    )


def table_row(architecture, cost):
    """Return the line of an architecture in the table of models.

    Args:
        architecture: `Architecture`, a row of the registry.
        cost: `Cost` of the model with its default options.
    """
    cells = (
        f"`{architecture.builder}`",
        f"{cost.parameters:,}",
        round_number(cost.multiply_adds),
        architecture.paper,
    )
    return f"| {' | '.join(cells)} |\n"


def round_number(number):
    """Return a number with three digits in millions or billions, such as "1.81 G"."""
    size, unit = (1e9, "G") if number >= 1e9 else (1e6, "M")
    return f"{number / size:#.3g}".rstrip(".") + f" {unit}"


def results_row(name, result):
    """Return the line of a recipe in the table of results.

    Args:
        name: name of the recipe.
        result: its `Result`.
    """
    builder = ARCHITECTURES[result.model].builder
    cells = (
        f"`{name}`",
        f"`{builder}`" + (f", width {result.width:g}" if result.width != 1 else ""),
        result.data,
        f"{result.parameters:,}",
        f"{result.top1:.2%} ({100 * result.low:.2f}-{100 * result.high:.2f})"
        + (f", mean of {result.seeds} seeds" if result.seeds > 1 else ""),
        f"{result.int8_top1:.2%}",
        training_time(result),
        machine_of(result),
    )
    return f"| {' | '.join(cells)} |\n"


def ablation_row(name, trainings):
    """Return the line of a change in the table of the ablation.

    Args:
        name: the change.
        trainings: {seed: {"validation", "test"}}, the accuracies of each training.
    """
    validation, test = (
        f"{100 * statistics.mean(training[split] for training in trainings.values()):.2f}"
        for split in ("validation", "test")
    )
    return f"| {name} | {len(trainings)} | {validation} | {test} |\n"


def read_table(name, text):
    """Return the table `name` in the text of a page, or None."""
    found = re.search(TABLE.format(name), text, re.DOTALL)
    return found and found[0]


def replace_table(name, text, table):
    """Return the text of a page with another table `name`."""
    # Without a count, an empty table would also match up to the end of the next one.
    return re.sub(TABLE.format(name), lambda _: table, text, count=1, flags=re.DOTALL)


def variables_of(model):
    """Return a line per variable. The numbers that Keras gives to seed generators are removed."""
    lines = (f"{variable.path} {tuple(variable.shape)}\n" for variable in model.variables)
    return "".join(re.sub(r"seed_generator_\d+/", "seed_generator/", line) for line in lines)


def main():
    STUB.write_text(stub_text())
    rows = []
    for name, architecture in ARCHITECTURES.items():
        with quiet():
            model = architecture.load()()
            rows.append(table_row(architecture, keras_arch.cost(model)))
        golden = VARIABLES / f"{name}.txt"
        if not golden.exists():
            golden.write_text(variables_of(model))
    results = [results_row(name, result) for name, result in read_results().items()]
    text = replace_table("models", README.read_text(), TABLE_HEADER + "".join(rows))
    README.write_text(replace_table("results", text, RESULTS_HEADER + "".join(results)))
    # A project without measured results has no such file.
    if ABLATION.exists():
        rows = json.loads(ABLATION.read_text())["rows"]
        lines = "".join(ablation_row(name, trainings) for name, trainings in rows.items())
        text = TRAINING.read_text()
        TRAINING.write_text(replace_table("ablation", text, ABLATION_HEADER + lines))


if __name__ == "__main__":
    main()
