"""Compare the augmentation layers of Keras in tf.data with keras_arch: 32x32x3, batches of 128.

python benchmarks/keras_layers_speed.py
"""

import keras
import numpy as np
import tensorflow as tf
from data_speed import images_per_second, noise_set, recipe

from keras_arch.data.pipeline import training_batches

CROP, FLIP = keras.layers.RandomCrop(32, 32), keras.layers.RandomFlip("horizontal")


def crop_and_flip(images, labels):
    return FLIP(
        CROP(tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]]), training=True), training=True
    ), labels


def on_images(layer):
    return lambda images, labels: (layer(tf.cast(images, tf.float32), training=True), labels)


def on_pairs(layer):
    def mixed(images, labels):
        pair = layer({"images": tf.cast(images, tf.float32), "labels": labels}, training=True)
        return pair["images"], pair["labels"]

    return mixed


# Unlike the Keras layers, the policies of keras_arch start with flip_crop.
PAIRS = {
    "flip_crop": crop_and_flip,
    "mixup": on_pairs(keras.layers.MixUp(0.2)),
    "cutmix": on_pairs(keras.layers.CutMix(1.0)),
    "random_erasing": on_images(keras.layers.RandomErasing()),
    "trivial_augment": on_images(keras.layers.RandAugment((0, 255))),
}


def main():
    data = noise_set(32, 3)
    print("policy            Keras's layer, img/s   ours, img/s")
    for policy, layer in PAIRS.items():
        theirs, ours = [], []
        for _ in range(3):
            plain = training_batches(data, recipe("none"))
            theirs.append(
                images_per_second(
                    plain.map(layer, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator(), 1.5
                )
            )
            ours.append(
                images_per_second(training_batches(data, recipe(policy)).as_numpy_iterator(), 1.5)
            )
        print(f"{policy:16} {np.median(theirs):20,.0f} {np.median(ours):14,.0f}", flush=True)


if __name__ == "__main__":
    main()
