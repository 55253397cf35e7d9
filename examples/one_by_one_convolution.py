"""Compare 1x1 convolutions with dense layers, and networks with and without them.

    python examples/one_by_one_convolution.py --output one_by_one_convolution.svg

Three experiments:

1. A 1x1 convolution is a dense layer at every pixel. With the same weights both have the same
   outputs.
2. A 1x1 convolution before a 5x5 convolution reduces channels and cost.
3. Network in Network (Lin et al. 2013, arXiv:1312.4400) is trained with and without its 1x1
   convolutions on the 1,293 training images of digits.
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

SHAPE = (28, 28, 192)  # input of GoogLeNet's module 3a
FILTERS = 32  # of the 5x5 convolution
REDUCED = (16, 32, 64, 128)  # output channels of the 1x1 before it


def difference_from_dense(maps, filters):
    """Compare a 1x1 convolution and a dense layer with the same weights.

    Returns:
        The maximum absolute difference of their outputs, and the maximum absolute output.
    """
    convolution, dense = layers.Conv2D(filters, 1), layers.Dense(filters)
    convolved = convolution(maps)
    dense.build(maps.shape)
    kernel, bias = convolution.get_weights()
    dense.set_weights([kernel[0, 0], bias])  # (1, 1, channels, filters) becomes (channels, filters)
    return float(np.abs(convolved - dense(maps)).max()), float(np.abs(convolved).max())


def build_5x5(channels=None):
    """Build a 5x5 convolution, after a 1x1 convolution to `channels` if given."""
    x = images = keras.Input(SHAPE)
    if channels is not None:
        x = layers.Conv2D(channels, 1, use_bias=False)(x)
    return keras.Model(images, layers.Conv2D(FILTERS, 5, padding="same", use_bias=False)(x))


def measure_reductions(maps, rounds):
    """Return a row per 5x5 convolution, first without 1x1: multiply-adds, time and shares."""
    models = {channels: build_5x5(channels) for channels in (None, *REDUCED)}
    times = time_in_turns(models, maps, rounds)
    counts = {channels: keras_arch.cost(model).multiply_adds for channels, model in models.items()}
    return [
        {
            "channels": channels,
            "multiply_adds": counts[channels],
            "share_of_multiply_adds": counts[channels] / counts[None],
            "milliseconds": float(np.median(times[channels])),
            "share_of_time": median_ratio(times[channels], times[None]),
        }
        for channels in models
    ]


def plain_cnn(input_shape, classes):
    """Build NetworkInNetwork without 1x1 convolutions.

    The dense layer after the average replaces the last 1x1 convolution, which has no ReLU.
    """

    def conv(x, kernel_size):
        return layers.Conv2D(
            192, kernel_size, padding="same", activation="relu", kernel_initializer="he_normal"
        )(x)

    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 57.6, -1.99)(images)  # as NetworkInNetwork for grayscale
    x = conv(x, 5)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = layers.Dropout(0.5)(x)
    x = conv(x, 5)
    x = layers.AveragePooling2D(3, 2, padding="same")(x)
    x = layers.Dropout(0.5)(x)
    x = conv(x, 3)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(classes, activation="softmax")(x), name="plain_cnn")


def train(build, dataset, epochs, seed):
    """Train with stock Keras. Return the model and its test accuracy in percent per epoch."""
    keras.utils.set_random_seed(seed)
    model = build(input_shape=dataset.image_shape, classes=len(dataset.class_names))
    steps = -(-dataset.train.count // 32)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * steps)
    model.compile(
        keras.optimizers.AdamW(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    test = (dataset.test.images, dataset.test.labels)
    history = model.fit(
        dataset.train.images,
        dataset.train.labels,
        32,
        epochs,
        verbose=0,
        validation_data=test,
        validation_batch_size=360,
    )
    return model, 100 * np.array(history.history["val_accuracy"])


def compare_networks(dataset, epochs, seeds):
    """Return a row per network: cost, and test accuracies (seeds, epochs)."""
    rows = []
    for name, build in (
        ("Network in Network", keras_arch.NetworkInNetwork),
        ("without 1x1", plain_cnn),
    ):
        trained = [train(build, dataset, epochs, seed) for seed in range(seeds)]
        cost = keras_arch.cost(trained[0][0])
        rows.append(
            {
                "network": name,
                "parameters": cost.parameters,
                "multiply_adds": cost.multiply_adds,
                "accuracies": np.array([accuracies for _, accuracies in trained]),
            }
        )
    return rows


def print_reductions(rows):
    print_table(
        [
            {
                "before 32 filters of 5x5": f"1x1 to {row['channels']}"
                if row["channels"]
                else "nothing",
                "multiply-adds": f"{row['multiply_adds']:,}",
                "share": f"{row['share_of_multiply_adds']:.3f}",
                "ms": f"{row['milliseconds']:.2f}",
                "share of time": f"{row['share_of_time']:.3f}",
            }
            for row in rows
        ]
    )


def print_networks(rows):
    print_table(
        [
            {
                "network": row["network"],
                "parameters": f"{row['parameters']:,}",
                "multiply-adds": f"{row['multiply_adds']:,}",
                "test accuracy, each seed": ", ".join(
                    f"{accuracy:.1f}%" for accuracy in row["accuracies"][:, -1]
                ),
            }
            for row in rows
        ]
    )


def draw(path, reductions, networks):
    """Plot the savings of 1x1 convolutions, and the learning curves of both networks."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    reduced = reductions[1:]
    channels = [row["channels"] for row in reduced]
    left.plot(
        channels,
        [row["share_of_multiply_adds"] for row in reduced],
        "o-",
        color="#3b7dc6",
        label="multiply-adds",
    )
    left.plot(
        channels, [row["share_of_time"] for row in reduced], "s--", color="#c65d3b", label="time"
    )
    left.set(
        xlabel="channels between 1x1 and 5x5",
        ylabel="share of the 5x5 alone",
        xticks=channels,
        ylim=(0, None),
    )
    for row, color in zip(networks, ("#3b7dc6", "#c65d3b"), strict=True):
        for seed, accuracies in enumerate(row["accuracies"]):
            label = row["network"] if seed == 0 else None
            right.plot(range(1, len(accuracies) + 1), accuracies, ".-", color=color, label=label)
    right.set(xlabel="epoch", ylabel="test accuracy, %")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16, help="Feature maps. Default: 16.")
    parser.add_argument("--rounds", type=int, default=30, help="Timed rounds. Default: 30.")
    parser.add_argument("--epochs", type=int, default=6, help="Epochs per training. Default: 6.")
    parser.add_argument("--seeds", type=int, default=2, help="Trainings per network. Default: 2.")
    parser.add_argument("--output", type=Path, help="Plot, .svg or .png.")
    options = parser.parse_args(arguments)
    maps = np.random.default_rng(0).standard_normal((options.batch, *SHAPE), "float32")
    difference, largest = difference_from_dense(maps, FILTERS)
    print(
        f"Maximum absolute difference of a 1x1 convolution and a dense layer: {difference:.1g}, "
        f"with values up to {largest:.1f}"
    )
    reductions = measure_reductions(maps, options.rounds)
    print_reductions(reductions)
    networks = compare_networks(keras_arch.load_dataset("digits"), options.epochs, options.seeds)
    print_networks(networks)
    if options.output:
        draw(options.output, reductions, networks)
    return difference, reductions, networks


if __name__ == "__main__":
    main()
