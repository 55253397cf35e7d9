"""Count and time the 1x1 convolutions of an Inception module.

    python examples/inception_cost.py --output inception_cost.svg

The 5x5 branch of GoogLeNet's first module (3a) computes 32 feature maps from 28x28x192. A direct
5x5 convolution needs 120 million multiplications. After a 1x1 convolution to 16 channels it needs
12.4 million (Szegedy et al. 2014, arXiv:1409.4842). The script also compares the naive module
(figure 2a) and the reduced module (figure 2b). All four run in turns, and times are medians.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # fast kernels, set before the import

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure
from timing import median_ratio, time_in_turns

import keras_arch
from keras_arch.cli import print_table

SHAPE = (28, 28, 192)  # input of module 3a for images of 224 pixels
ROW = keras_arch.Inception("3a", 64, 96, 128, 16, 32, 32)
PAIRS = (("direct 5x5", "5x5 after a 1x1"), ("naive module", "reduced module"))


def build_models():
    """Return the four compared models by name."""

    def build_model(block):
        x = keras.Input(SHAPE)
        return keras.Model(x, block(x))

    def large(x):
        return layers.Conv2D(ROW.filters_5x5, 5, padding="same", use_bias=False)(x)

    return {
        "direct 5x5": build_model(large),
        "5x5 after a 1x1": build_model(
            lambda x: large(layers.Conv2D(ROW.reduce_5x5, 1, use_bias=False)(x))
        ),
        "naive module": build_model(lambda x: keras_arch.naive_inception_module(x, ROW)),
        "reduced module": build_model(lambda x: keras_arch.inception_module(x, ROW)),
    }


def measure(batch, rounds):
    """Return a row per model: counts, milliseconds per image, and shares of the direct form."""
    models = build_models()
    images = np.random.default_rng(0).standard_normal((batch, *SHAPE), "float32")
    times = time_in_turns(models, images, rounds)
    counts = {name: keras_arch.cost(model).multiply_adds for name, model in models.items()}
    return [
        {
            "name": name,
            "channels": models[name].output_shape[-1],
            "multiply_adds": counts[name],
            "milliseconds": float(np.median(times[name])),
            "share_of_multiply_adds": counts[name] / counts[reference],
            "share_of_time": median_ratio(times[name], times[reference]),
        }
        for reference, reduced in PAIRS
        for name in (reference, reduced)
    ]


def format_row(row):
    return {
        "": row["name"],
        "channels": str(row["channels"]),
        "multiply-adds": f"{row['multiply_adds']:,}",
        "share": f"{row['share_of_multiply_adds']:.3f}",
        "ms": f"{row['milliseconds']:.2f}",
        "share of time": f"{row['share_of_time']:.3f}",
    }


def draw(path, rows):
    """Draw bars of multiply-adds and milliseconds."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names, colors = [row["name"] for row in rows], ["#c65d3b", "#3b7dc6"] * len(PAIRS)
    bars = left.barh(names, [row["multiply_adds"] / 1e6 for row in rows], color=colors)
    left.bar_label(bars, fmt="{:.1f}", padding=3)
    left.set_xlabel("million multiply-adds")
    bars = right.barh(names, [row["milliseconds"] for row in rows], color=colors)
    right.bar_label(bars, fmt="{:.2f}", padding=3)
    right.set_xlabel("milliseconds per image")
    left.invert_yaxis()  # shared by both axes
    for axes in (left, right):
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--batch", type=int, default=16, help="Feature maps per batch. Default: 16."
    )
    parser.add_argument("--rounds", type=int, default=60, help="Timed rounds. Default: 60.")
    parser.add_argument("--output", type=Path, help="Plot, .svg or .png.")
    options = parser.parse_args(arguments)
    rows = measure(options.batch, options.rounds)
    print_table([format_row(row) for row in rows])
    if options.output:
        draw(options.output, rows)
    return rows


if __name__ == "__main__":
    main()
