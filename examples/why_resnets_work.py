"""Compare plain and residual networks of different depths.

    python examples/why_resnets_work.py --output why_resnets_work.svg

Three experiments with the networks of He et al. 2015 (arXiv:1512.03385):

1. A residual block is an identity mapping if the scale of its last batch norm is zero. A plain
   block then returns zero.
2. Plain and residual networks of 20 and 56 layers are trained with one recipe. The deep plain
   network has a much higher training loss, which cannot be overfitting. The deep residual network
   has about the loss of the shallow one, or a lower one if its blocks start as identity mappings.
3. The gradient norm of each 3x3 convolution is measured before training. In deep plain networks it
   grows towards the first layer.
"""

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # fast kernels, set before the import

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import keras_arch
from keras_arch.cli import print_table
from keras_arch.data.splits import InMemory

PLAIN, RESIDUAL = "#c65d3b", "#3b7dc6"
NETWORKS = {  # title: name, options, line style
    "plain 20": ("plain20", {}, {"color": PLAIN, "linestyle": "--"}),
    "plain 56": ("plain56", {}, {"color": PLAIN}),
    "residual 20": ("resnet20", {}, {"color": RESIDUAL, "linestyle": "--"}),
    "residual 56": ("resnet56", {}, {"color": RESIDUAL}),
    "residual 56, zero": (
        "resnet56",
        {"zero_init_residual": True},
        {"color": RESIDUAL, "linestyle": ":"},
    ),
}
# The learning rate of section 4.2 with Nesterov momentum, warm-up and cosine decay. Images are not
# flipped, because digits are not symmetric.
RECIPE = keras_arch.Recipe(
    *("resnet20", "digits"),
    epochs=20,
    learning_rate=0.1,
    batch_size=32,
    weight_decay=1e-3,
    augment="crop",
)
GRADIENT_IMAGES = 128  # per gradient measurement


def outputs_at_zero(block, maps):
    """Return the outputs of `block` for `maps` if the scale of its last batch norm is zero."""
    images = keras.Input(maps.shape[1:])
    model = keras.Model(images, block(images, maps.shape[-1], 1, keras_arch.Parts(), "block"))
    last = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)][-1]
    last.gamma.assign(np.zeros(last.gamma.shape))
    return model.predict(maps, verbose=0)


def subset(dataset, count):
    """Return the data set with `count` training and `count // 10` validation images."""
    train, validation = (
        dataset.train.sample(count, seed=0),
        dataset.validation.sample(count // 10, seed=0),
    )
    return replace(dataset, train=InMemory(*train), validation=InMemory(*validation))


def gradient_norms(model, dataset):
    """Return the gradient norm of each 3x3 kernel, from the first layer. Weights are restored."""
    images, labels = dataset.train.sample(GRADIENT_IMAGES, seed=1)
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, layers.Conv2D) and layer.kernel_size == (3, 3)
    ]
    kept = model.get_weights()
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True))
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [layer.kernel.value for layer in convolutions])
    model.set_weights(kept)  # restores the batch norm statistics
    return np.array([np.linalg.norm(gradient) for gradient in gradients])


def train(title, dataset, recipe):
    """Train one network. Return a row of the table."""
    name, options, _ = NETWORKS[title]
    keras.utils.set_random_seed(recipe.seed)
    model = keras_arch.build(
        name, input_shape=dataset.image_shape, classes=len(dataset.class_names), **options
    )
    norms = gradient_norms(model, dataset)
    print(f"{title}: {keras_arch.cost(model).parameters:,} parameters")
    with tempfile.TemporaryDirectory() as folder:
        history = keras_arch.fit(model, dataset, recipe, Path(folder))
    return {"network": title, "gradient_norms": norms, **history}


def print_identity(maps):
    """Print the difference between input and output of blocks with a last scale of zero."""
    residual, plain = (
        outputs_at_zero(block, maps) for block in (keras_arch.basic_block, keras_arch.plain_block)
    )
    print(f"Last batch norm scale of zero, feature maps of 0 to {maps.max():.1f}:")
    print(f"  residual block: maximum |output - input| is {np.abs(residual - maps).max():.1g}")
    print(f"  plain block: maximum |output| is {np.abs(plain).max():.1g}")


def print_networks(rows):
    print_table(
        [
            {
                "network": row["network"],
                "loss": f"{row['loss'][-1]:.4f}",
                "accuracy": f"{row['accuracy'][-1]:.2%}",
                "validation": f"{row['val_accuracy'][-1]:.2%}",
                "first": f"{row['gradient_norms'][0]:.3g}",
                "last": f"{row['gradient_norms'][-1]:.3g}",
                "time": f"{sum(row['seconds']):.0f} s",
            }
            for row in rows
        ]
    )
    print("loss, accuracy: training, last epoch. first, last: gradient norm of the first and last")
    print("3x3 convolution before training. zero: every block starts as an identity mapping.")


def draw(path, rows):
    """Plot the training loss by epoch, and the gradient norm by depth before training."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for row in rows:
        norms, (*_, line) = row["gradient_norms"], NETWORKS[row["network"]]
        left.plot(range(1, len(row["loss"]) + 1), row["loss"], label=row["network"], **line)
        right.plot(range(1, len(norms) + 1), norms, label=row["network"], **line)
    left.set(xlabel="epoch", ylabel="training loss", yscale="log")
    right.set(
        xlabel="3x3 convolution, from the image on", ylabel="norm of the gradient", yscale="log"
    )
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(
        *left.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(rows),
        frameon=False,
    )
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default=RECIPE.dataset, help="Data set. Default: digits.")
    parser.add_argument("--data-dir", type=Path, help="Directory of prepared TFDS data sets.")
    parser.add_argument("--images", type=int, help="Number of training images. Default: all.")
    parser.add_argument(
        "--epochs", type=int, default=RECIPE.epochs, help="Epochs per network. Default: 20."
    )
    parser.add_argument(
        "--batch-size", type=int, default=RECIPE.batch_size, help="Images per step. Default: 32."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of weights and image order.")
    parser.add_argument("--output", type=Path, help="Plot, .svg or .png.")
    options = parser.parse_args(arguments)
    # Feature maps are not negative, as after a ReLU.
    print_identity(np.random.default_rng(0).random((16, 8, 8, 16), "float32"))
    dataset = keras_arch.load_dataset(options.dataset, options.data_dir)
    if options.images:
        dataset = subset(dataset, options.images)
    recipe = replace(
        RECIPE, epochs=options.epochs, batch_size=options.batch_size, seed=options.seed
    )
    rows = [train(title, dataset, recipe) for title in NETWORKS]
    print_networks(rows)
    if options.output:
        draw(options.output, rows)
    return rows


if __name__ == "__main__":
    main()
