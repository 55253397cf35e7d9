"""The console command `keras-arch`: `keras-arch train ...` runs scripts/train.py.

The scripts are files to read and to copy. A wheel holds them as keras_arch/scripts/.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Union

from . import __version__
from .cli import parse_with_tyro, run, say
from .errors import InputError, choose, require
from .plugins import load_module

PROGRAM = "keras-arch"
COMMANDS = {
    "train": "Train a model, evaluate it and write a run directory.",
    "export": "Export a run or a .keras file for mobile and verify the files.",
    "demo": "Write a page that runs exported files in a browser.",
    "evaluate": "Evaluate and compare models.",
    "calibrate": "Match the probabilities of a run to its accuracy.",
    "predict": "Classify images.",
    "compare": "Compare training runs.",
    "cost": "Count parameters, multiply-adds and activations of architectures.",
    "show-data": "Plot training images and count the images of each class.",
}
PACKAGE = Path(__file__).parent
SCRIPTS = PACKAGE / "scripts"
if not SCRIPTS.is_dir():  # in a clone
    SCRIPTS = PACKAGE.parent / "scripts"
COMPLETION = "--tyro-print-completion"  # as tyro's own flag
SHELLS = ("bash", "zsh", "fish", "tcsh")


def main() -> None:
    """Run the command line `keras-arch COMMAND [options]`."""
    run(lambda: start(sys.argv[1:]))


def start(arguments: list[str]) -> None:
    """Run the script of a command in this process."""
    if not arguments or arguments[0] in ("-h", "--help"):
        for line in help_lines():
            say(line)
        return
    if arguments[0] == "--version":
        say(f"{PROGRAM} {__version__}")
        return
    if arguments[0] == COMPLETION:
        complete(arguments)
        return
    name = choose(f"a command of {PROGRAM}", arguments[0], list(COMMANDS))
    sys.argv = [f"{PROGRAM} {name}", *arguments[1:]]
    import_script(name).main()


def script_of(name: str) -> Path:
    """Return the path of a command's script."""
    return SCRIPTS / f"{name.replace('-', '_')}.py"


def help_lines() -> list[str]:
    """Return the lines of `keras-arch --help`."""
    return [
        f"usage: {PROGRAM} COMMAND [OPTIONS]",
        "",
        "Train ResNet, GoogLeNet and Network in Network, and export them for mobile.",
        "",
        *(f"  {name:<12}{text}" for name, text in COMMANDS.items()),
        "",
        f"{PROGRAM} COMMAND --help lists the options of a command.",
        f"{PROGRAM} --version prints the version.",
        f"{PROGRAM} {COMPLETION} bash prints the completion script for bash.",
    ]


def complete(arguments: list[str]) -> None:
    """Print tyro's completion script for all commands.

    Args:
        arguments: `COMPLETION` and the name of a shell.
    """
    if len(arguments) != 2:
        raise InputError(f"Pass {COMPLETION} and one shell: {', '.join(SHELLS)}.")
    choose("a shell", arguments[1], SHELLS)
    require("predict", ["tyro"])
    import tyro

    from .recipes import RECIPES

    commands = []
    for name, text in COMMANDS.items():
        options = import_script(name).Options
        if name == "train":
            recipes = [
                Annotated[options, tyro.conf.subcommand(recipe, default=options(RECIPES[recipe]))]
                for recipe in RECIPES
            ]
            options = Union[tuple(recipes)]  # noqa: UP007, a union of unknown length
        commands.append(Annotated[options, tyro.conf.subcommand(name, description=text)])
    parse_with_tyro(Union[tuple(commands)], arguments, prog=PROGRAM)  # noqa: UP007


def import_script(name: str) -> ModuleType:
    """Return the module of a command's script."""
    path = script_of(name)
    return load_module(f"keras_arch.scripts.{path.stem}", path)


if __name__ == "__main__":
    main()
