"""Count the cost of architectures: keras-arch cost MODEL [MODEL...]."""

import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from keras_arch.cli import parse, print_table, quiet, run
from keras_arch.errors import InputError, choose
from keras_arch.options import PIXELS, Positional

NUMBERS = ("parameters", "multiply_adds", "activations")


@dataclass
class Options:
    """Count parameters, multiply-adds and activations for one image."""

    models: Annotated[tuple[str, ...], Positional("MODEL")]
    """Architectures, such as resnet50. Two or more are compared by their totals."""
    image_size: Annotated[int, PIXELS] | None = None
    """Image height and width in pixels. Default: size of the paper."""
    by_stage: bool = False
    """Sums per stage instead of rows per layer."""
    sort: Literal["network", "parameters", "multiply_adds", "activations"] = "network"
    """Order of the rows. All but network are in descending order."""


def main():
    options = parse(Options, sys.argv[1:])
    if not options.models:
        raise InputError(
            "At least one MODEL is needed. Received: none. Pass, for example, resnet50."
        )
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
        rows = [{"model": model.name, **format_cost(model)} for model in costs]
    else:
        layers = list((costs[0].by_stage() if options.by_stage else costs[0]).layers)
        if options.sort != "network":
            layers.sort(key=lambda layer: getattr(layer, options.sort), reverse=True)
        rows = [
            {
                "layer": layer.name,
                "output": "x".join(map(str, layer.output_shape)),
                **format_cost(layer),
            }
            for layer in layers
        ]
        rows.append({"layer": "total", "output": "", **format_cost(costs[0])})
    print_table(rows)


def format_cost(cost):
    """Return the cost of a layer or a model as table cells."""
    return {name.replace("_", "-"): f"{getattr(cost, name):,}" for name in NUMBERS}


if __name__ == "__main__":
    run(main)
