"""Writes variables/NAME.txt for every registered model: path and shape of each variable, in order.

Run it when names or order are meant to change, and say so in CHANGELOG.md, since files saved before then no longer open:

    python tests/golden/write_variables.py
"""

import re
from pathlib import Path


def variables_of(model):
    """A line for each variable. Keras numbers the states of dropout by what the process has built before: left out."""
    lines = (f"{variable.path} {tuple(variable.shape)}\n" for variable in model.variables)
    return "".join(re.sub(r"seed_generator_\d+/", "seed_generator/", line) for line in lines)


if __name__ == "__main__":
    import keras_arch

    folder = Path(__file__).parent / "variables"
    folder.mkdir(exist_ok=True)
    for name in keras_arch.available():
        (folder / f"{name}.txt").write_text(variables_of(keras_arch.build(name)))
