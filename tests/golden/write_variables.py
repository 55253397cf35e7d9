"""Write variables/NAME.txt for every registered model: path and shape of each variable, in order.

Run it after a deliberate change of names or order. Files saved before then can no longer be loaded.
Note the change in CHANGELOG.md.

    python tests/golden/write_variables.py
"""

import re
from pathlib import Path


def variables_of(model):
    """Return a line per variable. The numbers that Keras gives to seed generators are removed."""
    lines = (f"{variable.path} {tuple(variable.shape)}\n" for variable in model.variables)
    return "".join(re.sub(r"seed_generator_\d+/", "seed_generator/", line) for line in lines)


if __name__ == "__main__":
    import keras_arch

    folder = Path(__file__).parent / "variables"
    folder.mkdir(exist_ok=True)
    for name in keras_arch.available():
        (folder / f"{name}.txt").write_text(variables_of(keras_arch.build(name)))
