"""Writes variables/NAME.txt for every registered model: path and shape of each variable, in order.

Run it when names or order are meant to change, and say so in CHANGELOG.md, since files saved before then no longer open:

    python tests/golden/write_variables.py
"""

from pathlib import Path


def variables_of(model):
    return "".join(f"{variable.path} {tuple(variable.shape)}\n" for variable in model.variables)


if __name__ == "__main__":
    import keras_arch

    folder = Path(__file__).parent / "variables"
    folder.mkdir(exist_ok=True)
    for name in keras_arch.available():
        (folder / f"{name}.txt").write_text(variables_of(keras_arch.build(name)))
