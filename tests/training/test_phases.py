"""Fine-tuning in two phases: first the head on a frozen backbone, then all layers."""

import dataclasses
import math
import re
from unittest import mock

import keras
import numpy as np
import pytest

import keras_arch
from keras_arch.data.dataset import Dataset
from keras_arch.data.pipeline import training_batches
from keras_arch.data.splits import InMemory
from keras_arch.export.model_card import training_lines
from keras_arch.reports.tables import describe_training
from keras_arch.runs.record import read_run
from keras_arch.training import callbacks
from keras_arch.training.callbacks import patience_is_over
from keras_arch.training.checks import check_memory

# 72 images: 4 batches of 16 per epoch, or 9 batches of 8.
IMAGES = np.random.default_rng(0).integers(0, 256, (72, 8, 8, 1)).astype("uint8")
LABELS = np.random.default_rng(1).integers(0, 3, 72)
STEPS = 4
TRAIN = InMemory(IMAGES, LABELS)
DATA = Dataset("noise", TRAIN, TRAIN, TRAIN, ("a", "b", "c"), (8, 8, 1))
RECIPE = keras_arch.Recipe(
    *("small", "noise"),
    epochs=5,
    learning_rate=0.1,
    batch_size=16,
    precision="float32",
    freeze="backbone",
    freeze_epochs=2,
)
HEAD = ["predictions"]
BACKBONE = ["conv", "bn"]


def network(dropout=0.0):
    """Build a network of one convolution, with the same weights at each call."""
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    x = keras.layers.Flatten()(keras.layers.ReLU()(x))
    x = keras.layers.Dropout(dropout, seed=1)(x)
    return keras.Model(image, keras.layers.Dense(3, "softmax", name="predictions")(x))


def train(folder, model=None, resume=False, callbacks=(), **changes):
    """Return (model, history) of a short training."""
    model = model or network()
    recipe = dataclasses.replace(RECIPE, **changes)
    return model, keras_arch.fit(model, DATA, recipe, folder, resume, callbacks=callbacks)


class Watch(keras.callbacks.Callback):
    """Record the weights of each layer after each epoch, first those before training."""

    def __init__(self):
        super().__init__()
        self.epochs, self.begun = [], 0

    def on_train_begin(self, logs=None):
        self.begun += 1
        if not self.epochs:
            self.record()

    def on_epoch_end(self, epoch, logs=None):
        self.record()

    def record(self):
        names = (*BACKBONE, *HEAD)
        self.epochs.append({name: self.model.get_layer(name).get_weights() for name in names})

    def changed(self, epoch):
        """Return the names of the arrays that an epoch, counted from 1, changed."""
        before, after = self.epochs[epoch - 1 : epoch + 1]
        return {
            f"{name}{number}"
            for name, arrays in after.items()
            for number, array in enumerate(arrays)
            if not np.array_equal(array, before[name][number])
        }


# --- the recipe ---


def test_a_recipe_has_one_phase_or_two():
    plain = dataclasses.replace(RECIPE, freeze_epochs=None)
    (phase,) = plain.phases
    assert (phase.first, phase.last, phase.recipe) == (0, 5, plain)
    first, second = RECIPE.phases
    assert (first.first, first.last, second.first, second.last) == (0, 2, 2, 5)
    assert first.recipe == dataclasses.replace(plain, epochs=2)
    assert second.recipe == dataclasses.replace(plain, epochs=3, freeze="none", learning_rate=0.01)
    _, second = dataclasses.replace(RECIPE, fine_tuning_rate=0.3).phases
    assert second.recipe.learning_rate == 0.3


def test_a_rate_may_be_the_lowest_that_is_allowed():
    recipe = dataclasses.replace(RECIPE, freeze="none", freeze_epochs=None, learning_rate=1e-12)
    (phase,) = recipe.phases
    assert phase.recipe.learning_rate == 1e-12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze_epochs": 5}, "must be below `epochs`.*freeze_epochs=5 with epochs=5.*--freeze-e"),
        ({"epochs": 1}, "`freeze_epochs` must be below `epochs`.*freeze_epochs=2 with epochs=1"),
        (
            {"freeze": "none"},
            "`freeze_epochs` needs .*freeze='backbone'.*freeze='none'.*--freeze b",
        ),
        ({"freeze_epochs": 0}, "`freeze_epochs` must be an integer from 1"),
        ({"freeze_epochs": 1.5}, "`freeze_epochs` must be an integer"),
        ({"fine_tuning_rate": 0}, "`fine_tuning_rate` must be a number from"),
        ({"freeze_epochs": None, "fine_tuning_rate": 0.1}, "`fine_tuning_rate` needs `freeze_e"),
    ],
)
def test_invalid_phases_are_refused(changes, message):
    with pytest.raises(keras_arch.InputError, match=message):
        dataclasses.replace(RECIPE, **changes)


def test_the_recipe_fine_tune_has_two_phases():
    """The second rate is at most a tenth of the first, and a user can change data and model."""
    recipe = keras_arch.RECIPES["fine-tune"]
    first, second = recipe.phases
    assert second.recipe.learning_rate <= first.recipe.learning_rate / 10
    assert recipe.weights == "cifar10"
    mine = dataclasses.replace(
        recipe, dataset="my_images", model="resnet50", weights="imagenet", image_size=224
    )
    assert len(mine.phases) == 2


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "2 epochs with a frozen backbone at 0.1, then 3 epochs at 0.01"),
        ({"freeze_epochs": 1}, "1 epoch with a frozen backbone at 0.1, then 4 epochs at 0.01"),
        ({"freeze_epochs": None}, "5 epochs with a frozen backbone at 0.1"),
        ({"freeze_epochs": None, "freeze": "none"}, "5 epochs at 0.1"),
    ],
)
def test_phases_as_text(changes, text):
    assert dataclasses.replace(RECIPE, **changes).outline == text


def test_the_first_line_and_the_model_card_have_the_phases():
    sizes = {"train": 72, "test": 72}
    line = describe_training(RECIPE, network(), sizes, "float32")
    assert line.endswith(f" in float32, {RECIPE.outline}")
    plain = dataclasses.replace(RECIPE, freeze="none", freeze_epochs=None)
    assert describe_training(plain, network(), sizes, "float32").endswith(" in float32")
    accuracy = {"top1": 0.5, "images": 72}
    metrics = {"best_epoch": 3, "validation": accuracy, "test": accuracy}
    record = {"recipe": RECIPE, "metrics": metrics, "images": {"train": 72, "validation": 72}}
    card = training_lines(record, {"calibration": {"images": 8}})
    assert card[0] == f"- Recipe: small, {RECIPE.outline}, sgd, seed 0"


@pytest.mark.slow
def test_the_command_fine_tunes_a_run(quickstart, script, tmp_path, data_dir, capfd):
    words = ["--dataset", "digits", "--image-size", "8", "--model", "resnet8", "--epochs", "2"]
    words += ["--weights", quickstart, "--freeze-epochs", "1", "--fine-tuning-rate", "0.02"]
    folder = tmp_path / "tuned"
    assert script("train.py", "fine-tune", *words, "--output", folder, "--data-dir", data_dir) == 0
    printed = capfd.readouterr().out
    assert "1 epoch with a frozen backbone at 0.1, then 1 epoch at 0.02\n" in printed
    recipe = read_run(folder)["recipe"]
    assert (recipe.freeze_epochs, recipe.fine_tuning_rate) == (1, 0.02)
    page = (folder / "report.html").read_text()
    for name, value in (("freeze_epochs", "1"), ("fine_tuning_rate", "0.02")):
        assert re.search(rf"{name}</t[hd]>\s*<td>{value}</td>", page), name


# --- training ---


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a complete training: recorded weights, history and the rates of the progress bar."""
    watch, shown = Watch(), []

    class Progress(callbacks.PrintProgress):
        """Pretend that a terminal shows the progress bar."""

        def on_train_batch_end(self, batch, logs=None):
            self.progress.disable = False
            self.progress.update = lambda task, rate, **others: shown.append(rate)
            super().on_train_batch_end(batch, logs)

    with mock.patch("keras_arch.training.fit.PrintProgress", Progress):
        model, history = train(tmp_path_factory.mktemp("run"), callbacks=[watch])
    assert all(layer.trainable for layer in model.layers)
    return watch, history, [float(rate.split()[-1]) for rate in shown]


def rates():
    """Return the learning rate of each step in NumPy: a warm-up of one epoch, then a cosine."""
    found = []
    for peak, epochs in ((0.1, 2), (0.01, 3)):
        fall = (epochs - 1) * STEPS
        found += [peak * (step + 1) / STEPS for step in range(STEPS)]
        found += [peak / 2 * (1 + math.cos(math.pi * step / fall)) for step in range(fall)]
    return found


def test_the_backbone_is_frozen_in_the_first_phase_only(run):
    """Weights and batch norm statistics."""
    watch, history, _ = run
    assert len(history["loss"]) == 5
    assert watch.begun == 2
    head = {"predictions0", "predictions1"}
    assert [watch.changed(epoch) for epoch in (1, 2)] == [head] * 2
    everything = {*head, "conv0", "bn0", "bn1", "bn2", "bn3"}
    assert [watch.changed(epoch) for epoch in (3, 4, 5)] == [everything] * 3


def test_each_phase_has_its_own_schedule(run):
    _, history, shown = run
    last = rates()[STEPS - 1 :: STEPS]
    np.testing.assert_allclose(history["learning_rate"], last, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(shown, rates(), rtol=0, atol=1e-5)


def test_two_phases_equal_two_trainings_in_keras(run):
    """Stock Keras trains the head, then all layers. The data go on from epoch to epoch."""
    watch, _, _ = run
    model = network()
    steps = list(zip(training_batches(DATA, RECIPE), rates(), strict=True))

    def learn(steps, trained):
        for layer in model.layers:
            layer.trainable = layer.name in trained
        optimizer = keras.optimizers.SGD(0.1, 0.9, nesterov=True, weight_decay=5e-4)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        model.compile(optimizer, "categorical_crossentropy")
        for (images, labels), rate in steps:
            optimizer.learning_rate = rate
            model.train_on_batch(images, labels)
        return {name: model.get_layer(name).get_weights() for name in BACKBONE + HEAD}

    halves = learn(steps[: 2 * STEPS], HEAD), learn(steps[2 * STEPS :], BACKBONE + HEAD)
    for found, expected in zip((watch.epochs[2], watch.epochs[5]), halves, strict=True):
        for name, arrays in expected.items():
            for mine, theirs in zip(found[name], arrays, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_accumulated_batches_have_the_same_schedule(run, tmp_path):
    _, history = train(tmp_path, batch_size=8, accumulate=2)
    np.testing.assert_allclose(history["learning_rate"], run[1]["learning_rate"], rtol=1e-6)


@pytest.mark.slow
def test_a_layer_that_the_caller_has_frozen_stays_frozen(tmp_path):
    watch, model = Watch(), network()
    model.get_layer("conv").trainable = False
    train(tmp_path, model, callbacks=[watch], freeze_epochs=1, epochs=2)
    assert {"bn0", "bn2", "predictions0"} <= watch.changed(2)
    assert "conv0" not in watch.changed(2)


RESUMED = {
    "ema": 0.9,
    "optimizer": "adamw",
    "batch_size": 8,
    "accumulate": 2,
    "learning_rate": 1e-3,
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    return folder, train(folder, network(dropout=0.2), **RESUMED)


@pytest.mark.parametrize(
    "epoch",
    [
        pytest.param(2, id="in the first phase", marks=pytest.mark.slow),
        pytest.param(3, id="between the phases"),
        pytest.param(4, id="in the second phase", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_is_bit_identical(epoch, uninterrupted, tmp_path):
    """Weights, optimizer, averages, random state of dropout and history."""
    expected_folder, (expected, expected_history) = uninterrupted

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == epoch and batch == 2:  # between the batches of an optimizer step
                raise KeyboardInterrupt

        def on_epoch_begin(self, index, logs=None):
            self.epoch = index + 1

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, network(dropout=0.2), callbacks=[Kill()], **RESUMED)
    resumed, history = train(tmp_path, network(dropout=0.2), resume=True, **RESUMED)
    for mine, theirs in zip(resumed.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with (
        np.load(tmp_path / "checkpoint.npz") as mine,
        np.load(expected_folder / "checkpoint.npz") as theirs,
    ):
        assert mine.files == theirs.files
        for name in set(mine.files) - {"history"}:
            np.testing.assert_array_equal(mine[name], theirs[name])
    for one in (history, expected_history):
        assert len(one["seconds"]) == 5
    assert {**history, "seconds": 0} == {**expected_history, "seconds": 0}


def test_a_finished_run_is_not_trained_again(uninterrupted):
    folder, (expected, expected_history) = uninterrupted
    before = (folder / "checkpoint.npz").read_bytes()
    model, history = train(folder, network(dropout=0.2), resume=True, **RESUMED)
    assert history == expected_history
    assert (folder / "checkpoint.npz").read_bytes() == before
    for mine, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_patience_counts_from_the_end_of_the_first_phase():
    recipe = dataclasses.replace(RECIPE, freeze_epochs=3, patience=2)

    def is_over(*accuracy):
        history = {"loss": accuracy, "val_accuracy": accuracy, "val_loss": [1.0] * len(accuracy)}
        return patience_is_over(history, recipe)

    assert not patience_is_over({}, recipe)
    assert [is_over(*[0.5] * epochs) for epochs in range(1, 6)] == [False] * 4 + [True]
    assert [is_over(*[0.5] * 4, 0.6, *[0.5] * more) for more in range(3)] == [False, False, True]


def test_a_callback_at_the_end_of_the_first_phase_can_end_the_training(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    _, history = train(tmp_path, callbacks=[Stop()])
    assert len(history["loss"]) == 2


@pytest.mark.slow
def test_a_diverging_second_phase_names_its_rate(tmp_path):
    with pytest.raises(
        keras_arch.InputError,
        match=r"in epoch 3 .*fine_tuning_rate below 1e\+20.*--fine-tuning-rate",
    ):
        train(tmp_path, fine_tuning_rate=1e20, warmup_epochs=0)


def test_the_memory_of_the_second_phase_is_checked_first(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_arch.training.checks.available_memory", lambda: 1)
    with pytest.raises(keras_arch.InputError, match="A batch of 16 images"):
        train(tmp_path)
    assert list(tmp_path.iterdir()) == []
    only_the_head = dataclasses.replace(RECIPE, freeze_epochs=None)
    check_memory("small", network(), DATA, only_the_head)
