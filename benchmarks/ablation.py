"""Measure what each method brings to a short training on Fashion-MNIST.

    python benchmarks/ablation.py --output trial.json
    python benchmarks/ablation.py "whitening filters first" --seeds 0 --output trial.json

Each row changes the base, ResNet-14 at width 2 for eight epochs. The last rows train longer. The
accuracy on validation images after the last epoch compares the rows. That on test images, of the
checkpoint with the best validation accuracy, is for the record. After each training, the results
are written to --output. By default this is results/ablation.json, which takes only rows of the same
machine and versions, an NVIDIA H200 with KERAS_BACKEND=jax. `make generate` writes that file into
docs/training.md.
"""

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

# Set before TensorFlow is imported. The second enables fast kernels.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"} | os.environ

import keras
import numpy as np
import tensorflow as tf

import keras_arch
from keras_arch.data import augment, order
from keras_arch.files import write_json
from keras_arch.machine import available_cores, cpu_name, git_commit
from keras_arch.training import devices, optimizers
from keras_arch.training.fast_copy import make_repeatable

OUTPUT = Path(__file__).parent / "results" / "ablation.json"
BASE = keras_arch.Recipe(
    "resnet14",
    "fashion_mnist",
    epochs=8,
    learning_rate=0.1,
    weight_decay=5e-3,
    width=2,
    augment="flip_shift",
    early_size=20,
    early_epochs=5,
    precision="mixed_bfloat16",
)


# --- methods that are not options of a recipe ---


def whiten(model, images):
    """Set the first convolution to whitening filters of image patches, and to their negatives."""
    conv = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    kernel = conv.get_weights()[0]
    size, channels, filters = kernel.shape[0], kernel.shape[2], kernel.shape[3]
    values = images[:2000].astype("float32") / 255
    windows = np.lib.stride_tricks.sliding_window_view(values, (size, size), axis=(1, 2))
    patches = np.moveaxis(windows, 3, -1).reshape(-1, size * size * channels)
    variances, directions = np.linalg.eigh(np.cov(patches.T))
    white = (directions / np.sqrt(variances + 1e-3))[:, ::-1]  # largest variance first
    both = np.concatenate([white, -white], axis=1)[:, :filters]
    kernel[..., : both.shape[1]] = both.reshape(size, size, channels, -1)
    conv.set_weights([kernel, *conv.get_weights()[1:]])
    return model


def without_scales(model, images):
    """Return a model whose batch norms have an offset and no scale."""

    def clone(layer):
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["scale"] = False
        return type(layer).from_config(config)

    return keras.models.clone_model(model, clone_function=clone)


class Trimmed(keras.losses.Loss):
    """Cross-entropy without the images of the largest losses of each batch."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def call(self, labels, probabilities):
        losses = keras.losses.categorical_crossentropy(labels, probabilities)
        limit = keras.ops.quantile(keras.ops.stop_gradient(losses), 1 - self.share)
        return losses * keras.ops.cast(losses <= limit, losses.dtype) / (1 - self.share)


def alternate_flips():
    """Mirror each image in every second epoch, instead of at random."""
    draw, column = order.random_numbers, augment.FLIP

    def numbers(count, seed, epoch):
        first = draw(count, seed, tf.constant(-1, tf.int64))[:, column]
        flip = (first + 0.5 * tf.cast(epoch % 2, tf.float32)) % 1
        drawn = draw(count, seed, epoch)
        return tf.concat([drawn[:, :column], flip[:, tf.newaxis], drawn[:, column + 1 :]], axis=1)

    order.random_numbers = numbers
    return lambda: setattr(order, "random_numbers", draw)


def raise_bias_rate(factor):
    """Multiply the learning rate of biases and of the offsets of batch norm."""
    plain = optimizers.OPTIMIZERS["sgd"]

    class Raised(plain):
        def update_step(self, gradient, variable, learning_rate):
            name = variable.name.split(":")[0].split("/")[-1]  # a path on TensorFlow
            raised = name in ("bias", "beta")
            super().update_step(gradient, variable, learning_rate * (factor if raised else 1))

    optimizers.OPTIMIZERS["sgd"] = Raised
    return lambda: optimizers.OPTIMIZERS.update(sgd=plain)


@dataclasses.dataclass(frozen=True)
class Row:
    """A change of the base."""

    changes: dict = dataclasses.field(default_factory=dict)
    """Fields of the recipe."""
    prepare: Callable | None = None
    """Function from the new model and the training images to a model."""
    patch: Callable | None = None
    """Function that changes the package and returns a function that undoes it."""
    loss: keras.losses.Loss | None = None


FULL_SIZE = {"early_size": None, "early_epochs": None, "epochs": 6}
LARGE_BATCH = {"batch_size": 256, "learning_rate": 0.4, "early_epochs": 4}
LONG = {"epochs": 33, "early_epochs": 20, "augment": "flip_crop"}

ROWS = {
    "base": Row(),
    "6 epochs at 28 pixels": Row(FULL_SIZE),
    "9 epochs, the first 6 at 16 pixels": Row({"early_size": 16, "early_epochs": 6, "epochs": 9}),
    "10 epochs, the first 6 at 14 pixels": Row({"early_size": 14, "early_epochs": 6, "epochs": 10}),
    "augment none": Row({"augment": "none"}),
    "augment flip": Row({"augment": "flip"}),
    "augment flip_crop": Row({"augment": "flip_crop"}),
    "augment random_erasing": Row({"augment": "random_erasing"}),
    "augment cutmix": Row({"augment": "cutmix"}),
    "augment mixup": Row({"augment": "mixup"}),
    "alternating flips": Row(patch=alternate_flips),
    "label smoothing 0.1": Row({"label_smoothing": 0.1}),
    "without the largest 10% of losses": Row(loss=Trimmed(0.1)),
    "learning rate 0.05": Row({"learning_rate": 0.05}),
    "learning rate 0.2": Row({"learning_rate": 0.2}),
    "learning rate 0.4": Row({"learning_rate": 0.4}),
    "EMA 0.99": Row({"ema": 0.99}),
    "learning rate 0.2, EMA 0.99": Row({"learning_rate": 0.2, "ema": 0.99}),
    "one cycle, 2 epochs of warm-up": Row({"schedule": "onecycle", "warmup_epochs": 2}),
    "batch 64, learning rate 0.05": Row({"batch_size": 64, "learning_rate": 0.05}),
    "batch 256, learning rate 0.2": Row({"batch_size": 256, "learning_rate": 0.2}),
    "weight decay 2.5e-3": Row({"weight_decay": 2.5e-3}),
    "weight decay 1e-2": Row({"weight_decay": 1e-2}),
    "8 times the learning rate for biases": Row(patch=lambda: raise_bias_rate(8)),
    "batch norm without scale": Row(prepare=without_scales),
    "whitening filters first": Row(prepare=whiten),
    "deeper: ResNet-20, 6 epochs": Row({"model": "resnet20", "epochs": 6, "early_epochs": 4}),
    "squeeze and excitation": Row({"model_options": ("squeeze_excitation_ratio=0.0625",)}),
    "projection shortcuts": Row({"model_options": ("shortcut=projection",)}),
    "zero_init_residual": Row({"model_options": ("zero_init_residual=true",)}),
    "learning rate 0.2, alternating flips": Row({"learning_rate": 0.2}, patch=alternate_flips),
    "learning rate 0.2, augment flip": Row({"learning_rate": 0.2, "augment": "flip"}),
    "learning rate 0.2, weight decay 1e-2": Row({"learning_rate": 0.2, "weight_decay": 1e-2}),
    "6 small of 9 epochs, batch 256, learning rate 0.4": Row(
        LARGE_BATCH | {"early_epochs": 6, "epochs": 9}
    ),
    "4 small epochs, batch 256, learning rate 0.2": Row(LARGE_BATCH | {"learning_rate": 0.2}),
    "4 small epochs, batch 256, learning rate 0.4": Row(LARGE_BATCH),
    "4 small epochs, batch 256, learning rate 0.6": Row(LARGE_BATCH | {"learning_rate": 0.6}),
    "4 small epochs, batch 256, learning rate 0.4, flip": Row(LARGE_BATCH | {"augment": "flip"}),
    "33 epochs: augment flip_crop": Row(LONG),
    "33 epochs: augment flip_shift": Row(LONG | {"augment": "flip_shift"}),
    "33 epochs: augment random_erasing": Row(LONG | {"augment": "random_erasing"}),
    "33 epochs: augment cutmix": Row(LONG | {"augment": "cutmix"}),
    "33 epochs: flip_crop, label smoothing 0.1": Row(LONG | {"label_smoothing": 0.1}),
    "33 epochs: flip_crop, learning rate 0.2": Row(LONG | {"learning_rate": 0.2}),
    "23 epochs: flip_crop, ResNet-20": Row(
        LONG | {"model": "resnet20", "epochs": 23, "early_epochs": 13}
    ),
    "19 epochs: flip_crop, width 3": Row(LONG | {"width": 3, "epochs": 19, "early_epochs": 11}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("rows", nargs="*", metavar="ROW", help=f"Rows to measure: {', '.join(ROWS)}. Default: all.")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="Seeds. Default: 0 1 2.")
    add("--data-dir", help="Directory of prepared TFDS data sets.")
    add("--images", type=int, help="First training images to use, for a trial. Default: all.")
    add("--output", type=Path, default=OUTPUT, help="JSON file to write or to extend.")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"unknown rows: {', '.join(unknown)}")
    if options.images and options.output == OUTPUT:
        parser.error("--images is for a trial. Pass --output, too.")
    with devices.join(devices.DeviceOptions()) as device:
        conditions = json.loads(json.dumps(describe_conditions(device)))
        rows = {}
        if options.output.exists():
            before = json.loads(options.output.read_text())
            rows = before.pop("rows")
            if before | {"commit": conditions["commit"]} != conditions:
                parser.error(f"{options.output} has other conditions. Pass another --output.")
        data = keras_arch.load_dataset(BASE.dataset, options.data_dir)
        if options.images:
            data = dataclasses.replace(data, train=data.train.slice(0, options.images))
        for name in options.rows or ROWS:
            for seed in options.seeds:
                found = measure(BASE, ROWS[name], data, seed)
                rows.setdefault(name, {})[str(seed)] = found
                print(f"{name}, seed {seed}: {found}", flush=True)
                ordered = {name: rows[name] for name in ROWS if name in rows}
                write_json(options.output, conditions | {"rows": ordered})


def describe_conditions(device):
    """Return the base, the machine, the versions and the commit."""
    backend = keras.backend.backend()
    return {
        "base": dataclasses.asdict(BASE),
        "backend": backend,
        "device": device.kind,
        "hardware": {"processor": cpu_name(), "cores": available_cores()},
        "versions": {
            name: version(name) for name in dict.fromkeys(("keras", "tensorflow", backend))
        },
        "commit": git_commit(),
    }


def measure(base, row, data, seed):
    """Train with a change of a recipe, and return the accuracies."""
    recipe = dataclasses.replace(base, seed=seed, **row.changes)
    undo = row.patch() if row.patch else lambda: None
    try:
        make_repeatable(seed)
        model = keras_arch.build(
            recipe.model,
            input_shape=data.image_shape,
            classes=len(data.class_names),
            **recipe.builder_options,
        )
        if row.prepare:
            model = row.prepare(model, data.train.images)
        with tempfile.TemporaryDirectory() as folder:
            history = keras_arch.fit(model, data, recipe, folder, loss=row.loss)
            artifact = keras_arch.open_artifact(Path(folder) / "model.keras")
            test = keras_arch.evaluate(artifact, data).top1
    finally:
        undo()
    return {
        "validation": history["val_accuracy"][-1],
        "test": test,
        "training": history["accuracy"][-1],
    }


if __name__ == "__main__":
    main()
