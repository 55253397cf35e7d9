"""Compare fine-tuning with a random start on few images of Fashion-MNIST.

    python benchmarks/fine_tuning.py --data-dir DIRECTORY

Both have the epochs of the recipe "fine-tune". The random start trains all layers in all of them.
The results are written to results/fine_tuning.json. The CIFAR-10 weights are downloaded once.
"""

import argparse
import dataclasses
import os
import tempfile
from pathlib import Path

# Set before TensorFlow is imported. The second enables fast kernels.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"} | os.environ

import numpy as np

import keras_arch
from keras_arch.data.splits import InMemory
from keras_arch.files import write_json
from keras_arch.machine import available_cores, cpu_name
from keras_arch.training.fast_copy import make_repeatable

OUTPUT = Path(__file__).parent / "results" / "fine_tuning.json"
TUNED = dataclasses.replace(keras_arch.RECIPES["fine-tune"], precision="float32")
RANDOM = dataclasses.replace(TUNED, weights=None, freeze="none", freeze_epochs=None)


def pick(split, count):
    """Return random images of a split. A tenth as many as for training choose the epoch."""
    some = np.random.default_rng(0).permutation(split.count)[:count]
    return InMemory(split.images[some], split.labels[some])


def measure(recipe, data, seed):
    """Return the accuracy on all test images after a training."""
    recipe = dataclasses.replace(recipe, seed=seed)
    make_repeatable(seed)
    model = keras_arch.build(recipe.model, input_shape=data.image_shape, classes=10)
    if recipe.weights:
        keras_arch.transfer_weights(model, recipe.weights, recipe.model, data.class_names)
    with tempfile.TemporaryDirectory() as folder:
        keras_arch.fit(model, data, recipe, folder)
        artifact = keras_arch.open_artifact(Path(folder) / "model.keras")
        return keras_arch.evaluate(artifact, data).top1


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="Directory of prepared TFDS data sets.")
    parser.add_argument(
        "--images", type=int, default=1000, help="Images for training. Default: 1000."
    )
    parser.add_argument("--seeds", type=int, default=3, help="Number of seeds. Default: 3.")
    options = parser.parse_args()
    complete = keras_arch.load_dataset("fashion_mnist", options.data_dir, TUNED.image_size)
    few, tenth = options.images, options.images // 10
    data = dataclasses.replace(
        complete, train=pick(complete.train, few), validation=pick(complete.validation, tenth)
    )
    starts = {"cifar10": TUNED, "random": RANDOM}
    accuracies = {
        name: [measure(recipe, data, seed) for seed in range(options.seeds)]
        for name, recipe in starts.items()
    }
    for name, values in accuracies.items():
        print(f"{name:8} {np.mean(values):.2%} mean of", *(f"{value:.2%}" for value in values))
    write_json(
        OUTPUT,
        {
            "images": options.images,
            "epochs": TUNED.epochs,
            "test_accuracy": accuracies,
            "hardware": {"processor": cpu_name(), "cores": available_cores()},
        },
    )


if __name__ == "__main__":
    main()
