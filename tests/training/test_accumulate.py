"""Gradient accumulation: N batches of size B give the optimizer steps of one batch of size N * B."""

import dataclasses
import itertools

import keras
import numpy as np
import pytest

import keras_arch
from keras_arch.data.dataset import Dataset
from keras_arch.data.pipeline import training_batches
from keras_arch.data.splits import InMemory, InStream
from keras_arch.training import callbacks

# 72 images: 9 batches of 8, so the last one does not fill a step of two batches.
IMAGES = np.random.default_rng(0).integers(0, 256, (72, 4, 4, 1)).astype("uint8")
LABELS = np.random.default_rng(1).integers(0, 3, 72)
TRAIN = InMemory(IMAGES, LABELS)
DATA = Dataset("noise", TRAIN, TRAIN, TRAIN, ("a", "b", "c"), (4, 4, 1))
RECIPE = keras_arch.Recipe(
    "dense", "noise", epochs=3, learning_rate=0.1, batch_size=16, precision="float32"
)


def network(dropout=0.0):
    keras.utils.set_random_seed(0)
    image = keras.Input((4, 4, 1), name="image")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.Dense(8, "relu", name="hidden")(x)
    x = keras.layers.Dropout(dropout, seed=1)(x)
    return keras.Model(image, keras.layers.Dense(3, "softmax", name="predictions")(x))


def train(folder, resume=False, dropout=0.0, **changes):
    """Return (model, history) of a short training."""
    folder.mkdir(exist_ok=True)
    model = network(dropout)
    return model, keras_arch.fit(
        model, DATA, dataclasses.replace(RECIPE, **changes), folder, resume
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "onecycle", "warmup_epochs": 1, "ema": 0.5, "clip_norm": 0.01},
        pytest.param({"schedule": "step", "warmup_epochs": 0}, marks=pytest.mark.slow),
        pytest.param(
            {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.1},
            marks=pytest.mark.slow,
        ),
        pytest.param({"class_weights": "balanced"}, marks=pytest.mark.slow),
        pytest.param({"precision": "mixed_float16"}, marks=pytest.mark.slow),
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "sgd",
)
def test_accumulated_batches_equal_one_large_batch(changes, tmp_path):
    large, history = train(tmp_path / "large", **changes)
    small, found = train(tmp_path / "small", batch_size=8, accumulate=2, **changes)
    half = changes.get("precision") == "mixed_float16"
    for mine, theirs, start in zip(
        small.get_weights(), large.get_weights(), network().get_weights(), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-3 if half else 1e-5)
        assert not np.allclose(theirs, start, atol=1e-3)
    for column in ("loss", "val_loss", "learning_rate"):
        np.testing.assert_allclose(found[column], history[column], rtol=1e-2 if half else 1e-4)


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_a_resumed_run_is_bit_identical(tmp_path, monkeypatch, precision):
    """The run is killed between the two batches of an optimizer step."""
    options = {
        "batch_size": 8,
        "accumulate": 2,
        "ema": 0.9,
        "optimizer": "adamw",
        "dropout": 0.2,
        "precision": precision,
    }
    batches = itertools.count(1)

    def die_in_the_third_epoch(callback, batch, logs=None):
        if next(batches) == 2 * 8 + 3:
            raise KeyboardInterrupt

    expected, _ = train(tmp_path / "complete", **options)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(callbacks.SwapAverages, "on_train_batch_end", die_in_the_third_epoch)
        train(tmp_path / "killed", **options)
    resumed, history = train(tmp_path / "killed", resume=True, **options)
    assert len(history["loss"]) == 3
    for mine, theirs in zip(resumed.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with (
        np.load(tmp_path / "killed" / "checkpoint.npz") as mine,
        np.load(tmp_path / "complete" / "checkpoint.npz") as theirs,
    ):
        assert mine.files == theirs.files
        for name in set(mine.files) - {"history"}:
            np.testing.assert_array_equal(mine[name], theirs[name])


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_an_epoch_has_complete_optimizer_steps(kind):
    """Of 9 batches, accumulate=4 uses the first 8, also after resuming."""
    import tensorflow as tf

    stream = InStream(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)), 72, (4, 4, 1))
    data = dataclasses.replace(DATA, train=TRAIN if kind == "memory" else stream)

    def batches(first_epoch=0, **changes):
        recipe = dataclasses.replace(RECIPE, batch_size=8, augment="crop", **changes)
        return list(training_batches(data, recipe, first_epoch).as_numpy_iterator())

    everything = batches()
    expected = [batch for number, batch in enumerate(everything) if number % 9 != 8]
    found = batches(accumulate=4)
    assert len(everything) == 27
    assert len(found) == 24
    for numbered in (
        zip(found, expected, strict=True),
        zip(batches(1, accumulate=4), found[8:], strict=True),
    ):
        for mine, theirs in numbered:
            np.testing.assert_array_equal(mine[0], theirs[0])
            np.testing.assert_array_equal(mine[1], theirs[1])


def test_a_step_of_more_images_than_the_data_have_raises(tmp_path):
    with pytest.raises(
        keras_arch.InputError,
        match=r"`accumulate` times `batch_size` must be at most 72.*Received: 5 times 16\. Pass a smaller accumulate",
    ):
        train(tmp_path / "run", accumulate=5)
    with pytest.raises(keras_arch.InputError, match="`batch_size` must be at most 72"):
        train(tmp_path / "run", accumulate=5, batch_size=73)
    assert list((tmp_path / "run").iterdir()) == []
