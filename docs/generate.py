"""Write what follows from the registry of architectures: make generate.

- `keras_arch/__init__.pyi`: the public names for editors and type checkers.
- `README.md`: the table of models.
- `tests/golden/variables/NAME.txt`: path and shape of each variable. Existing files stay, because
  saved models need these names. After a deliberate change, delete the file first.
  Note the change in CHANGELOG.md.
"""

import re
from pathlib import Path

import keras_arch
from keras_arch.architectures.registry import ARCHITECTURES
from keras_arch.cli import quiet

ROOT = Path(__file__).parent.parent
STUB = ROOT / "keras_arch" / "__init__.pyi"
README = ROOT / "README.md"
VARIABLES = ROOT / "tests" / "golden" / "variables"
STUB_HEADER = '''"""The public names of the package, for editors and type checkers. Written by make generate."""
# ruff: noqa: I001
# fmt: off

__version__: str

'''
TABLE = re.compile(r"(?<=<!-- written by make generate -->\n).*?(?=<!-- end -->)", re.DOTALL)
TABLE_HEADER = """\
| Builder | Parameters | Multiply-adds | Paper |
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


def read_table(text):
    """Return the table of models in the text of README.md."""
    return TABLE.search(text)[0]


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
    table = TABLE_HEADER + "".join(rows)
    README.write_text(TABLE.sub(lambda _: table, README.read_text()))


if __name__ == "__main__":
    main()
