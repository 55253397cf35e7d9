"""Why ResNets work: what depth does to a network with and without skip connections.

    python examples/why_resnets_work.py --output why_resnets_work.svg

After He et al. 2015 (arXiv:1512.03385), three experiments. A residual block whose last batch norm begins at zero is the
identity, where a plain block is nothing at all. Plain and residual networks of 20 and of 56 layers are trained by one
recipe: without skips the deeper one has by far the higher training loss, so that it cannot be overfitting; with them it
keeps up or nearly so, and better where its blocks begin as the identity. And the norm of the gradient of each 3x3 convolution before
training, which depth blows up towards the first layer where nothing skips.
"""

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault(
    "TF_ENABLE_ONEDNN_OPTS", "1"
)  # its fastest kernels; both before TensorFlow is imported

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
NETWORKS = {  # title: name, options, and the line in the plot
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
# Section 4.2's rate, decay and depths, in 20 epochs with a warm-up and a cosine, in batches of 32, with Nesterov momentum;
# images are moved by a pixel or so and not mirrored, for digits' sake.
RECIPE = keras_arch.Recipe(
    *("resnet20", "digits"),
    epochs=20,
    learning_rate=0.1,
    batch_size=32,
    weight_decay=1e-3,
    augment="crop",
)
GRADIENT_IMAGES = 128  # in the batch by which gradients are measured


def answers_at_zero(block, maps):
    """What `block` makes of `maps` (batch, height, width, channels) while the scale of its last batch norm is zero."""
    images = keras.Input(maps.shape[1:])
    model = keras.Model(images, block(images, maps.shape[-1], 1, keras_arch.Parts(), "block"))
    last = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)][-1]
    last.gamma.assign(np.zeros(last.gamma.shape))
    return model.predict(maps, verbose=0)


def subset(dataset, count):
    """The same data set with so many training images, and a tenth as many that validate, drawn once for all networks."""
    train, validation = (
        dataset.train.sample(count, seed=0),
        dataset.validation.sample(count // 10, seed=0),
    )
    return replace(dataset, train=InMemory(*train), validation=InMemory(*validation))


def gradient_norms(model, dataset):
    """The norm of the loss's gradient in the kernel of each 3x3 convolution, from the image on; the model stays as it is."""
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
    model.set_weights(kept)  # its batch norms have seen the batch
    return np.array([np.linalg.norm(gradient) for gradient in gradients])


def train(title, dataset, recipe):
    """Train one network; returns what it shows, a row of the table."""
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
    """What a block does at its beginning: the residual one passes its input on, the plain one nothing."""
    residual, plain = (
        answers_at_zero(block, maps) for block in (keras_arch.basic_block, keras_arch.plain_block)
    )
    print(f"A block whose last batch norm is zero, for maps of 0 to {maps.max():.1f}:")
    print(
        f"  the residual one's answer is at most {np.abs(residual - maps).max():.1g} away from its input"
    )
    print(f"  the plain one's answer is at most {np.abs(plain).max():.1g}, whatever comes in")


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
    print(
        "loss and accuracy: of training, in the last epoch. first, last: the norm of the gradient at the first and at"
    )
    print("the last 3x3 convolution, before training. zero: every block begins as the identity.")


def draw(path, rows):
    """Left the training loss by epoch, right the gradient by depth before training."""
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
    parser.add_argument(
        "--dataset", default=RECIPE.dataset, help="digits, or what scripts/train.py takes"
    )
    parser.add_argument("--data-dir", type=Path, help="folder of prepared TFDS data sets")
    parser.add_argument(
        "--images", type=int, help="so many of the training images; all if not given"
    )
    parser.add_argument(
        "--epochs", type=int, default=RECIPE.epochs, help="that each network is trained"
    )
    parser.add_argument(
        "--batch-size", type=int, default=RECIPE.batch_size, help="images in a step"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the weights and the order of the images"
    )
    parser.add_argument("--output", type=Path, help="where to draw the plot, .svg or .png")
    options = parser.parse_args(arguments)
    print_identity(
        np.random.default_rng(0).random((16, 8, 8, 16), "float32")
    )  # not negative, as behind a ReLU
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
