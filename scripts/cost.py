"""What models cost: python scripts/cost.py MODEL [MODEL...]."""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from keras_arch.cli import parse, print_table, quiet, run
from keras_arch.errors import InputError, choose
from keras_arch.options import PIXELS

NUMBERS = ("parameters", "multiply_adds", "activations")


@dataclass
class Options:
    """Parameters, multiply-adds and activations for one image: a row a layer, or several models side by side."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Names of architectures, such as resnet50; of two or more, only the totals."""
    image_size: Annotated[int, PIXELS] | None = None
    """Height and width in pixels; the size that the architecture was published with if not given."""
    by_stage: bool = False
    """Add up the layers of each stage."""
    sort: Literal["network", "parameters", "multiply_adds", "activations"] = "network"
    """Order of the rows: as in the network, or the greatest first."""


def main():
    options = parse(Options, sys.argv[1:], prog="cost.py")
    if not options.models:
        raise InputError("expected one MODEL or more, got none; resnet50 would work")
    with quiet():
        from keras_arch import available, build, cost
    for name in options.models:
        choose("the name of a model", name.lower(), available())
    size = (
        {}
        if options.image_size is None
        else {"input_shape": (options.image_size, options.image_size, 3)}
    )
    costs = [cost(build(name, **size)) for name in options.models]
    if len(costs) > 1:
        rows = [{"model": model.name, **numbers(model)} for model in costs]
    else:
        layers = list((costs[0].by_stage() if options.by_stage else costs[0]).layers)
        if options.sort != "network":
            layers.sort(key=lambda layer: getattr(layer, options.sort), reverse=True)
        rows = [
            {
                "layer": layer.name,
                "output": "x".join(map(str, layer.output_shape)),
                **numbers(layer),
            }
            for layer in layers
        ]
        rows.append({"layer": "total", "output": "", **numbers(costs[0])})
    print_table(rows)


def numbers(cost):
    """The three numbers of a layer or a model as a person reads them."""
    return {name.replace("_", "-"): f"{getattr(cost, name):,}" for name in NUMBERS}


if __name__ == "__main__":
    run(main)
