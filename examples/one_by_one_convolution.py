"""What a 1x1 convolution is, what it saves and what it adds.

    python examples/one_by_one_convolution.py --output one_by_one_convolution.svg

Three experiments. A 1x1 convolution is a dense layer at every pixel: with the same weights both answer the same. A 1x1 that
shrinks the channels in front of a 5x5 cuts its cost, the more the fewer channels it leaves. And Network in Network (Lin et
al. 2013, arXiv:1312.4400) beside the same network without its 1x1 convolutions, trained alike on 1,293 scans of digits.
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

SHAPE = (28, 28, 192)  # a feature map of GoogLeNet's
FILTERS = 32  # of the 5x5 convolution
REDUCED = (16, 32, 64, 128)  # channels that a 1x1 leaves in front of it


def difference_from_dense(maps, filters):
    """The largest difference between a 1x1 convolution of `maps` and a dense layer of the same weights; the largest value."""
    convolution, dense = layers.Conv2D(filters, 1), layers.Dense(filters)
    convolved = convolution(maps)
    dense.build(maps.shape)
    kernel, bias = convolution.get_weights()
    dense.set_weights([kernel[0, 0], bias])  # (1, 1, channels, filters) becomes (channels, filters)
    return float(np.abs(convolved - dense(maps)).max()), float(np.abs(convolved).max())


def shrunk(channels=None):
    """A 5x5 convolution, behind a 1x1 to so many `channels` if given."""
    x = images = keras.Input(SHAPE)
    if channels is not None:
        x = layers.Conv2D(channels, 1, use_bias=False)(x)
    return keras.Model(images, layers.Conv2D(FILTERS, 5, padding="same", use_bias=False)(x))


def shrinking(maps, rounds):
    """A row for each width of the bottleneck, the straight 5x5 first: multiply-adds, and time as a share of the first's."""
    models = {channels: shrunk(channels) for channels in (None, *REDUCED)}
    times = side_by_side(models, maps, rounds)
    counts = {channels: keras_arch.cost(model).multiply_adds for channels, model in models.items()}
    return [
        {
            "channels": channels,
            "multiply_adds": counts[channels],
            "share_of_multiply_adds": counts[channels] / counts[None],
            "milliseconds": float(np.median(times[channels])),
            "share_of_time": times_of(times[channels], times[None]),
        }
        for channels in models
    ]


def plain_cnn(input_shape, classes):
    """NetworkInNetwork without its 1x1 convolutions: the same three large ones, pools, dropout and average.

    The dense layer behind the average is NetworkInNetwork's last 1x1, since nothing bends between that and its average.
    """

    def conv(x, kernel_size):
        return layers.Conv2D(
            192, kernel_size, padding="same", activation="relu", kernel_initializer="he_normal"
        )(x)

    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 57.6, -1.99)(images)  # as NetworkInNetwork normalises grey images
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
    """Train with stock Keras; returns the model and its accuracy on test after each epoch, in percent."""
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
    """A row for each network: what it costs, and the test accuracy after each epoch, (seeds, epochs)."""
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


def print_shrinking(rows):
    print_table(
        [
            {
                "in front of 32 filters of 5x5": f"1x1 to {row['channels']}"
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


def draw(path, shrunk_rows, networks):
    """Left what a 1x1 saves, right how the two networks learn."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    behind = shrunk_rows[1:]
    channels = [row["channels"] for row in behind]
    left.plot(
        channels,
        [row["share_of_multiply_adds"] for row in behind],
        "o-",
        color="#3b7dc6",
        label="multiply-adds",
    )
    left.plot(
        channels, [row["share_of_time"] for row in behind], "s--", color="#c65d3b", label="time"
    )
    left.set(
        xlabel="channels between 1x1 and 5x5",
        ylabel="share of the 5x5 alone",
        xticks=channels,
        ylim=(0, None),
    )
    for row, colour in zip(networks, ("#3b7dc6", "#c65d3b"), strict=True):
        for seed, accuracies in enumerate(row["accuracies"]):
            label = row["network"] if seed == 0 else None
            right.plot(range(1, len(accuracies) + 1), accuracies, ".-", color=colour, label=label)
    right.set(xlabel="epoch", ylabel="test accuracy, %")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--batch", type=int, default=16, help="feature maps that are convolved together"
    )
    parser.add_argument(
        "--rounds", type=int, default=30, help="turns of each of the convolutions that are timed"
    )
    parser.add_argument("--epochs", type=int, default=6, help="that both networks are trained")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each network")
    parser.add_argument("--output", type=Path, help="where to draw the plot, .svg or .png")
    options = parser.parse_args(arguments)
    maps = np.random.default_rng(0).standard_normal((options.batch, *SHAPE), "float32")
    difference, largest = difference_from_dense(maps, FILTERS)
    print(
        f"1x1 convolution and dense layer of the same weights: {difference:.1g} apart at most, in values to {largest:.1f}"
    )
    shrunk_rows = shrinking(maps, options.rounds)
    print_shrinking(shrunk_rows)
    networks = compare_networks(keras_arch.load_dataset("digits"), options.epochs, options.seeds)
    print_networks(networks)
    if options.output:
        draw(options.output, shrunk_rows, networks)
    return difference, shrunk_rows, networks


if __name__ == "__main__":
    main()
