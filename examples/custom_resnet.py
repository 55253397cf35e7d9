"""Build and train a custom residual network from the blocks of keras_arch.

    python examples/custom_resnet.py

A block is a function from tensor to tensor, like a Keras layer. `Parts` holds the options that all
blocks share. Here each block starts as an identity mapping, and dropout ends each branch.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # fast kernels, set before the import

import keras
from keras import layers

import keras_arch


def drop_channels(y, name):
    """Drop channels at the end of a branch in training."""
    return layers.SpatialDropout2D(0.1, name=f"{name}_drop")(y)


def build_model(input_shape, classes):
    """Build a stem, two basic blocks and two bottleneck blocks (4 * filters channels)."""
    parts = keras_arch.Parts(last_gamma="zeros", branch_end=(drop_channels,))
    images = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1 / 127.5, -1)(images)  # the model takes raw images
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="stem")(x)
    x = keras_arch.basic_block(x, 32, 1, parts, "stage1_block1")  # same shape: identity skip
    x = keras_arch.basic_block(x, 32, 1, parts, "stage1_block2")
    # The size is halved, so the shortcut is a 1x1 convolution.
    x = keras_arch.bottleneck_block(x, 16, 2, parts, "stage2_block1")
    x = keras_arch.bottleneck_block(x, 16, 1, parts, "stage2_block2")
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(classes, activation="softmax")(x), name="custom_resnet")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15, help="Epochs. Default: 15.")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    dataset = keras_arch.load_dataset("digits")
    model = build_model(dataset.image_shape, len(dataset.class_names))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        dataset.train.images, dataset.train.labels, batch_size=32, epochs=options.epochs, verbose=0
    )
    accuracy = model.evaluate(dataset.test.images, dataset.test.labels, verbose=0)[1]
    cost = keras_arch.cost(model)
    print(
        f"{cost.parameters:,} parameters, {cost.multiply_adds:,} multiply-adds; "
        f"test accuracy {accuracy:.1%}"
    )
    return model, accuracy


if __name__ == "__main__":
    main()
