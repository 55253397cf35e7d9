"""Fine-tune a trained network to other classes: the new head alone, then everything at a small learning rate.

    python examples/fine_tune.py
    python examples/fine_tune.py --weights saved_models/quickstart --model resnet8

A network that has learned the digits 0 to 5, or the run that --weights names, learns 6 to 9. The scans are so easy
that a network also learns them from scratch: this shows how, not how much it pays.
"""

import argparse
import os
import tempfile

# Both before TensorFlow is imported; the second chooses its fastest kernels.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"} | os.environ

import keras
import numpy as np

import keras_arch


def pick(split, digits):
    """The images of some `digits`, and their labels from 0."""
    chosen = np.isin(split.labels, digits)
    return split.images[chosen], split.labels[chosen] - min(digits)


def learn(model, dataset, digits, epochs, learning_rate, trained):
    """Train the layers `trained`, and return the accuracy on test."""
    for layer in model.layers:
        layer.trainable = layer in trained  # where not, batch norm keeps its statistics, too
    model.compile(
        keras.optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(*pick(dataset.train, digits), batch_size=32, epochs=epochs, verbose=0)
    return model.evaluate(*pick(dataset.test, digits), verbose=0)[1]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", default="resnet8", help="architecture, that of --weights if given"
    )
    parser.add_argument(
        "--weights", help="run folder or file to begin with, instead of training on 0 to 5"
    )
    parser.add_argument("--epochs", type=int, default=10, help="of each training")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    dataset, old, new = keras_arch.load_dataset("digits"), [0, 1, 2, 3, 4, 5], [6, 7, 8, 9]
    first, second = (
        keras_arch.build(options.model, input_shape=(8, 8, 1), classes=len(some))
        for some in (old, new)
    )
    with tempfile.TemporaryDirectory() as folder:
        source = options.weights or f"{folder}/model.keras"
        if not options.weights:
            print(
                f"0 to 5, from nothing: {learn(first, dataset, old, options.epochs, 0.01, first.layers):.1%}"
            )
            first.save(source)
        keras_arch.transfer_weights(
            second, source, options.model, dataset.class_names[6:]
        )  # all but the head of other classes
    head = [layer for layer in second.layers if layer.weights][-1]
    print(f"6 to 9, the head:     {learn(second, dataset, new, options.epochs, 0.01, [head]):.1%}")
    print(
        f"6 to 9, all of it:    {learn(second, dataset, new, options.epochs, 0.001, second.layers):.1%}"
    )


if __name__ == "__main__":
    main()
