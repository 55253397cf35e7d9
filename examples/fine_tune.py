"""Fine-tune a trained network to other classes: first the new head, then all layers.

    python examples/fine_tune.py
    python examples/fine_tune.py --weights saved_models/quickstart --model resnet8

A network that was trained on the digits 0 to 5, or the run in --weights, learns 6 to 9. These
images are easy, so a network also learns them from scratch. The example shows the steps only.
"""

import argparse
import os
import tempfile

# Set before TensorFlow is imported. The second enables fast kernels.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"} | os.environ

import keras
import numpy as np

import keras_arch


def pick(split, digits):
    """Return the images of some `digits` and their labels from 0."""
    chosen = np.isin(split.labels, digits)
    return split.images[chosen], split.labels[chosen] - min(digits)


def learn(model, dataset, digits, epochs, learning_rate, trained):
    """Train the layers in `trained` and return the test accuracy."""
    for layer in model.layers:
        layer.trainable = layer in trained  # frozen batch norm keeps its statistics
    adam = keras.optimizers.Adam(learning_rate)
    model.compile(adam, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*pick(dataset.train, digits), batch_size=32, epochs=epochs, verbose=0)
    return model.evaluate(*pick(dataset.test, digits), verbose=0)[1]


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet8", help="Architecture. Default: resnet8.")
    parser.add_argument("--weights", help="Run directory or file. Default: train on 0 to 5.")
    parser.add_argument("--epochs", type=int, default=10, help="Epochs per training. Default: 10.")
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
            accuracy = learn(first, dataset, old, options.epochs, 0.01, first.layers)
            print(f"0 to 5, from scratch: {accuracy:.1%}")
            first.save(source)
        # The head is not loaded, because the classes differ.
        keras_arch.transfer_weights(second, source, options.model, dataset.class_names[6:])
    head = [layer for layer in second.layers if layer.weights][-1]
    accuracy = learn(second, dataset, new, options.epochs, 0.01, [head])
    print(f"6 to 9, head only:    {accuracy:.1%}")
    accuracy = learn(second, dataset, new, options.epochs, 0.001, second.layers)
    print(f"6 to 9, all layers:   {accuracy:.1%}")


if __name__ == "__main__":
    main()
