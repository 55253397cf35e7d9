"""What the 1x1 convolutions of an Inception module save, counted and measured.

    python examples/inception_cost.py --output inception_cost.svg

The 5x5 branch of GoogLeNet's first module (3a) makes 32 maps out of 28x28x192. Straight that takes 120 million
multiplications; behind a 1x1 convolution to 16 channels, 12.4 million (Szegedy et al. 2014, arXiv:1409.4842). Then the
whole module, naive (figure 2a) and reduced (figure 2b). Counted by keras_arch.cost; times are of 28x28 images in a batch,
all four in turns, medians.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault(
    "TF_ENABLE_ONEDNN_OPTS", "1"
)  # its fastest kernels; both before TensorFlow is imported

import keras
import numpy as np
from keras import layers
from matplotlib.figure import Figure
from timing import side_by_side, times_of

import keras_arch
from keras_arch.cli import print_table

SHAPE = (28, 28, 192)  # what reaches module 3a in an image of 224 pixels
ROW = keras_arch.Inception("3a", 64, 96, 128, 16, 32, 32)
PAIRS = (("straight 5x5", "5x5 behind a 1x1"), ("naive module", "reduced module"))


def build_models():
    """{name: model} of the four that are compared."""

    def of(block):
        x = keras.Input(SHAPE)
        return keras.Model(x, block(x))

    def large(x):
        return layers.Conv2D(ROW.filters_5x5, 5, padding="same", use_bias=False)(x)

    return {
        "straight 5x5": of(large),
        "5x5 behind a 1x1": of(
            lambda x: large(layers.Conv2D(ROW.reduce_5x5, 1, use_bias=False)(x))
        ),
        "naive module": of(lambda x: keras_arch.naive_inception_module(x, ROW)),
        "reduced module": of(lambda x: keras_arch.inception_module(x, ROW)),
    }


def measure(batch, rounds):
    """A row for each model: its counts, the milliseconds of an image, and both as shares of the straight form's."""
    models = build_models()
    images = np.random.default_rng(0).standard_normal((batch, *SHAPE), "float32")
    times = side_by_side(models, images, rounds)
    counts = {name: keras_arch.cost(model).multiply_adds for name, model in models.items()}
    return [
        {
            "name": name,
            "channels": models[name].output_shape[-1],
            "multiply_adds": counts[name],
            "milliseconds": float(np.median(times[name])),
            "share_of_multiply_adds": counts[name] / counts[straight],
            "share_of_time": times_of(times[name], times[straight]),
        }
        for straight, reduced in PAIRS
        for name in (straight, reduced)
    ]


def as_text(row):
    return {
        "": row["name"],
        "channels": str(row["channels"]),
        "multiply-adds": f"{row['multiply_adds']:,}",
        "share": f"{row['share_of_multiply_adds']:.3f}",
        "ms": f"{row['milliseconds']:.2f}",
        "share of time": f"{row['share_of_time']:.3f}",
    }


def draw(path, rows):
    """Bars of both measures, straight above reduced."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names, colours = [row["name"] for row in rows], ["#c65d3b", "#3b7dc6"] * len(PAIRS)
    bars = left.barh(names, [row["multiply_adds"] / 1e6 for row in rows], color=colours)
    left.bar_label(bars, fmt="{:.1f}", padding=3)
    left.set_xlabel("million multiply-adds")
    bars = right.barh(names, [row["milliseconds"] for row in rows], color=colours)
    right.bar_label(bars, fmt="{:.2f}", padding=3)
    right.set_xlabel("milliseconds an image")
    left.invert_yaxis()  # which both share
    for axes in (left, right):
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16, help="images that are answered together")
    parser.add_argument("--rounds", type=int, default=60, help="turns of each model")
    parser.add_argument("--output", type=Path, help="where to draw the bars, .svg or .png")
    options = parser.parse_args(arguments)
    rows = measure(options.batch, options.rounds)
    print_table([as_text(row) for row in rows])
    if options.output:
        draw(options.output, rows)
    return rows


if __name__ == "__main__":
    main()
