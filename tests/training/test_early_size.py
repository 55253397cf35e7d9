"""Progressive resizing: the first epochs train on smaller images."""

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_arch
from keras_arch.data.dataset import Dataset
from keras_arch.data.pipeline import training_batches
from keras_arch.data.splits import InMemory
from keras_arch.training.callbacks import patience_is_over

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, 16, 12, 1)).astype("uint8")
LABELS = RNG.integers(0, 3, 64)
TRAIN = InMemory(IMAGES, LABELS)
DATA = Dataset("noise", TRAIN, TRAIN, TRAIN, ("a", "b", "c"), (16, 12, 1))
RECIPE = keras_arch.Recipe(
    *("resnet8", "noise"),
    epochs=4,
    learning_rate=0.01,
    batch_size=16,
    precision="float32",
    early_size=8,
)


def epochs_of(recipe, first=0):
    """Return the images and labels of each epoch."""
    batches = list(training_batches(DATA, recipe, first).as_numpy_iterator())
    return [batches[number : number + 4] for number in range(0, len(batches), 4)]


@pytest.mark.parametrize(("epochs", "chosen", "small"), [(4, None, 2), (5, None, 2), (4, 3, 3)])
def test_the_first_epochs_have_smaller_images(epochs, chosen, small):
    found = epochs_of(dataclasses.replace(RECIPE, epochs=epochs, early_epochs=chosen))
    heights = [{images.shape[1:] for images, _ in epoch} for epoch in found]
    # The aspect ratio stays: 8/16 of 12 pixels.
    assert heights == [{(8, 6, 1)}] * small + [{(16, 12, 1)}] * (epochs - small)


def test_all_else_is_as_without_it():
    """Small images are the same images in the same order, as Pillow resizes them."""
    recipe = dataclasses.replace(RECIPE, augment="flip_crop")
    without = epochs_of(dataclasses.replace(recipe, early_size=None))
    for number, (small, full) in enumerate(zip(epochs_of(recipe), without, strict=True)):
        for (images, labels), (expected, same_labels) in zip(small, full, strict=True):
            np.testing.assert_array_equal(labels, same_labels)
            if number < 2:
                expected = [
                    np.asarray(Image.fromarray(image[..., 0]).resize((6, 8), Image.BILINEAR))
                    for image in expected
                ]
                expected = np.stack(expected)[..., np.newaxis].astype(int)
            assert abs(images - expected).max() <= (number < 2)


def test_mixed_images_are_resized_too():
    ((images, _), *_), *_ = epochs_of(dataclasses.replace(RECIPE, augment="mixup"))
    assert images.shape == (16, 8, 6, 1)
    assert images.dtype == "float32"


def test_a_skipped_epoch_changes_no_other():
    complete = epochs_of(RECIPE)
    for first in (1, 2, 3):
        for found, expected in zip(epochs_of(RECIPE, first), complete[first:], strict=True):
            for (images, _), (same, _) in zip(found, expected, strict=True):
                np.testing.assert_array_equal(images, same)


class Interrupt(keras.callbacks.Callback):
    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            raise KeyboardInterrupt


def network():
    """Build a small network of any image size, with the same weights at each call."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((16, 12, 1), name="image")
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(image, keras.layers.Dense(3, "softmax", name="predictions")(x))


@pytest.mark.parametrize(
    "interrupted",
    [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)],
)
def test_a_resumed_run_is_bit_identical(interrupted, tmp_path):
    model = network()
    history = keras_arch.fit(model, DATA, RECIPE, tmp_path / "once")
    other = network()
    with pytest.raises(KeyboardInterrupt):
        keras_arch.fit(other, DATA, RECIPE, tmp_path / "run", callbacks=[Interrupt(interrupted)])
    resumed = keras_arch.fit(other, DATA, RECIPE, tmp_path / "run", resume=True)
    assert resumed["loss"] == history["loss"]
    for array, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_the_saved_model_takes_images_of_the_full_size(tmp_path):
    model = network()
    keras_arch.fit(model, DATA, RECIPE, tmp_path)
    saved = keras.models.load_model(tmp_path / "model.keras")
    assert saved.input_shape == (None, 16, 12, 1)
    np.testing.assert_array_equal(saved.predict(IMAGES), model.predict(IMAGES))


def test_int8_epochs_follow_at_the_full_size(tmp_path):
    recipe = dataclasses.replace(RECIPE, quantize_aware="int8", quantize_epochs=1)
    assert [phase.recipe.early_size for phase in recipe.phases] == [8, None]
    history = keras_arch.fit(network(), DATA, recipe, tmp_path)
    assert len(history["loss"]) == 4


def test_a_teacher_in_python_is_refused(tmp_path):
    with pytest.raises(keras_arch.InputError, match="`early_size` must be None with `teacher`"):
        keras_arch.fit(network(), DATA, RECIPE, tmp_path, teacher=network())
    assert not any(tmp_path.iterdir())


def test_patience_counts_from_the_last_small_epoch():
    recipe = dataclasses.replace(RECIPE, epochs=9, early_epochs=5, patience=2)
    accuracy = [0.5, *[0.1] * 8]
    ended = [
        patience_is_over(
            {
                "loss": accuracy[:epochs],
                "val_accuracy": accuracy[:epochs],
                "val_loss": [1] * epochs,
            },
            recipe,
        )
        for epochs in range(1, 10)
    ]
    assert ended == [False] * 6 + [True] * 3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_images_of_any_float_are_resized(dtype, tmp_path):
    images = tf.data.Dataset.from_tensor_slices((IMAGES.astype(dtype), LABELS)).batch(16)
    history = keras_arch.fit(network(), (images, images), RECIPE, tmp_path)
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_size": None, "early_epochs": 1}, "`early_epochs` needs `early_size`"),
        ({"early_epochs": 4}, "`early_epochs` must be below.*early_epochs=4 with 4 epochs"),
        ({"epochs": 1}, "early_epochs=1 with 1 epochs"),
        ({"quantize_aware": "int8", "quantize_epochs": 2}, "early_epochs=2 with 2 epochs"),
        ({"teacher": "run"}, "`early_size` must be None with `teacher`"),
        ({"freeze": "backbone", "freeze_epochs": 1}, "must be None with `freeze_epochs`"),
    ],
)
def test_invalid_recipes_raise(changes, message):
    with pytest.raises(keras_arch.InputError, match=message):
        dataclasses.replace(RECIPE, **changes)


def with_flatten():
    image = keras.Input((16, 12, 1))
    x = keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(image))
    return keras.Model(image, keras.layers.Dense(3, "softmax")(x))


@pytest.mark.parametrize(
    ("changes", "build", "message"),
    [
        ({"early_size": 16}, network, "`early_size` must be below 16 pixels"),
        ({}, with_flatten, "`early_size` must be a size that the model can take"),
    ],
)
def test_a_size_that_does_not_fit_is_one_line_before_training(changes, build, message, tmp_path):
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        keras_arch.fit(build(), DATA, dataclasses.replace(RECIPE, **changes), tmp_path / "run")
    assert not re.search("\n", str(refused.value))
    assert not list((tmp_path / "run").glob("*"))


def test_auxiliary_classifiers_are_refused(tmp_path):
    images = RNG.integers(0, 256, (16, 80, 80, 1)).astype("uint8")
    train = InMemory(images, LABELS[:16])
    data = Dataset("noise", train, train, train, ("a", "b", "c"), (80, 80, 1))
    model = keras_arch.GoogLeNet(
        input_shape=(80, 80, 1), classes=3, auxiliary_heads=True, width=0.05
    )
    with pytest.raises(keras_arch.InputError, match="without auxiliary classifiers"):
        keras_arch.fit(model, data, dataclasses.replace(RECIPE, early_size=40), tmp_path)
