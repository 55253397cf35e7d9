"""The last epochs of a training simulate int8, and the export uses the ranges that they learned."""

import dataclasses
import json
import re
import zipfile

import keras
import numpy as np
import pytest

import keras_arch
from keras_arch.data.dataset import Dataset
from keras_arch.data.splits import InMemory
from keras_arch.export.classifier import debug_quantization
from keras_arch.export.model import simulate_int8
from keras_arch.export.source import ImageSet, source_of_model
from keras_arch.models import load_keras, plain_model, strip_auxiliary_heads
from keras_arch.quantization.copy import plain_weights, quantized_copy
from keras_arch.quantization.equalize import equalize_channels
from keras_arch.recipes import check_start
from keras_arch.runs.history import best_epoch
from keras_arch.training import callbacks

# Squares at three places: easy to learn.
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 3, 96)
IMAGES = RANDOM.integers(0, 100, (96, 8, 8, 1)).astype("uint8")
for _image, _label in zip(IMAGES, LABELS, strict=True):
    _image[2 * _label : 2 * _label + 3, 2:6] += 100
TRAIN = InMemory(IMAGES, LABELS)
NAMES = ("top", "middle", "bottom")
DATA = Dataset("squares", TRAIN, TRAIN, TRAIN, NAMES, (8, 8, 1))
RECIPE = keras_arch.Recipe(
    *("small", "squares"),
    epochs=4,
    learning_rate=0.1,
    batch_size=16,
    precision="float32",
    quantize_aware="int8",
    quantize_epochs=2,
)
ONLY_INT8 = keras_arch.ExportSettings(formats=("int8",), max_drop=100.0)


def network():
    keras.utils.set_random_seed(0)
    x = image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Rescaling(1 / 255, name="normalize")(x)
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="conv1")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="conv2")(x)
    x = keras.layers.Dropout(0.1, seed=1)(keras.layers.Flatten()(x))
    return keras.Model(image, keras.layers.Dense(3, "softmax", name="predictions")(x))


class StopAfter(keras.callbacks.Callback):
    """End a training as a signal does."""

    def __init__(self, epoch):
        super().__init__()
        self.last = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.last:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return (directory, model, history) of a complete training."""
    folder = tmp_path_factory.mktemp("run")
    model = network()
    return folder, model, keras_arch.fit(model, DATA, RECIPE, folder)


# --- the recipe ---


def test_the_last_epochs_simulate_int8():
    first, second = RECIPE.phases
    assert (first.first, first.last, second.first, second.last) == (0, 2, 2, 4)
    assert (first.recipe.quantize_aware, second.recipe.quantize_aware) == ("none", "int8")
    assert (first.recipe.learning_rate, second.recipe.learning_rate) == (0.1, 0.01)
    assert RECIPE.outline == "2 epochs at 0.1, then 2 epochs with simulated int8 at 0.01"
    assert second.recipe.precision == "float32"  # also in mixed precision
    fifth = dataclasses.replace(RECIPE, quantize_epochs=None, epochs=22, quantize_rate=0.5)
    assert [phase.first for phase in fifth.phases] == [0, 18]
    assert fifth.phases[1].recipe.learning_rate == 0.5


def test_three_phases():
    three = dataclasses.replace(RECIPE, freeze="backbone", freeze_epochs=1)
    assert [phase.first for phase in three.phases] == [0, 1, 2]
    rates = [phase.recipe.learning_rate for phase in three.phases]
    np.testing.assert_allclose(rates, [0.1, 0.01, 0.001])
    assert [phase.recipe.freeze for phase in three.phases] == ["backbone", "none", "none"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantize_aware": "int4"}, "'int4'"),
        ({"quantize_aware": "none"}, "`quantize_epochs` needs `quantize_aware`"),
        (
            {"quantize_aware": "none", "quantize_epochs": None, "quantize_rate": 0.1},
            "`quantize_rate` needs `quantize_aware`",
        ),
        ({"quantize_epochs": 5}, "quantize_epochs=5 with epochs=4"),
        ({"quantize_epochs": 0}, "must be an integer from 1"),
        ({"quantize_rate": 0}, "must be a number from"),
        ({"freeze": "backbone"}, "trains all layers.*--freeze-epochs"),
        ({"freeze": "backbone", "freeze_epochs": 3}, "quantize_epochs=2 with .*freeze_epochs=3"),
    ],
)
def test_invalid_recipes_are_refused(changes, message):
    with pytest.raises(keras_arch.InputError, match=message):
        dataclasses.replace(RECIPE, **changes)


def test_random_weights_are_refused():
    only = dataclasses.replace(RECIPE, quantize_epochs=4)
    with pytest.raises(keras_arch.InputError, match="begins with a trained model"):
        check_start(only)
    check_start(dataclasses.replace(only, weights="my_run"))


# --- training ---


def test_the_saved_model_is_plain_keras_with_ranges(run):
    folder, model, history = run
    assert len(history["loss"]) == 4
    saved = keras.models.load_model(folder / "model.keras")
    assert [type(layer) for layer in saved.layers] == [type(layer) for layer in model.layers]
    ranges = keras_arch.read_int8_ranges(folder / "model.keras")
    after = ("normalize", "relu", "conv2", "predictions_sum")
    assert set(ranges) == {f"{name}_range" for name in after}
    assert all(low <= 0 < high for low, high in ranges.values())


def test_only_epochs_with_int8_are_saved(run):
    """Another epoch may be better, but has no ranges."""
    _, _, history = run
    assert best_epoch(history, RECIPE.first_candidate) >= 2
    better_before = {"val_accuracy": [1, 0.9, 0.8, 0.85], "val_loss": [1, 1, 1, 1]}
    assert best_epoch(better_before, 2) == 3
    assert best_epoch({name: values[:1] for name, values in better_before.items()}, 2) == 0


def test_the_validation_is_that_of_the_int8_simulation(run):
    folder, model, history = run
    copy = quantized_copy(plain_model(model), keras_arch.read_int8_ranges(folder / "model.keras"))
    right = copy.predict(IMAGES.astype("float32"), verbose=0).argmax(1) == LABELS
    best = best_epoch(history, RECIPE.first_candidate)
    np.testing.assert_allclose(right.mean(), history["val_accuracy"][best], atol=1e-6)
    assert right.mean() > 0.9


@pytest.mark.parametrize("epoch", [2, 3], ids=["between the phases", "within int8"])
def test_a_resumed_training_is_bit_identical(epoch, run, tmp_path):
    folder, complete, history = run
    with pytest.raises(KeyboardInterrupt):
        keras_arch.fit(network(), DATA, RECIPE, tmp_path, callbacks=[StopAfter(epoch)])
    model = network()
    resumed = keras_arch.fit(model, DATA, RECIPE, tmp_path, resume=True)
    for found, expected in zip(model.get_weights(), complete.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    for name in ("loss", "val_loss", "val_accuracy"):
        assert resumed[name] == history[name]
    paths = tmp_path / "model.keras", folder / "model.keras"
    assert keras_arch.read_int8_ranges(paths[0]) == keras_arch.read_int8_ranges(paths[1])


def test_a_layer_without_int8_is_refused_before_the_training(tmp_path):
    model = network()
    output = keras.layers.Softmax()(keras.layers.LayerNormalization(name="it")(model.output))
    with pytest.raises(keras_arch.InputError, match="Received: it, LayerNormalization"):
        keras_arch.fit(keras.Model(model.input, output), DATA, RECIPE, tmp_path)
    assert not list(tmp_path.iterdir())


def test_patience_counts_from_the_first_epoch_with_int8():
    history = {"loss": [1] * 3, "val_loss": [1] * 3, "val_accuracy": [0.9, 0.5, 0.5]}
    patient = dataclasses.replace(RECIPE, patience=1)
    assert not callbacks.patience_is_over(history, patient)
    history = {name: [*values, 0.4] for name, values in history.items()}
    assert callbacks.patience_is_over(history, patient)


def test_a_teacher_is_followed_in_all_epochs(run, tmp_path):
    """Its weight 0 trains as no teacher does."""
    teacher = keras.models.clone_model(run[1])
    teacher.set_weights(run[1].get_weights())
    taught = {}
    for weight in (0.0, 0.9):
        model = network()
        recipe = dataclasses.replace(RECIPE, teacher_weight=weight)
        keras_arch.fit(model, DATA, recipe, tmp_path / str(weight), teacher=teacher)
        taught[weight] = model.get_weights()
    for found, expected in zip(taught[0.0], run[1].get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert not np.allclose(taught[0.9][0], taught[0.0][0])
    assert keras_arch.read_int8_ranges(tmp_path / "0.9" / "model.keras")


class TwoHeads:
    """A training of a network with an auxiliary classifier."""

    @staticmethod
    def network():
        model = network()
        features = keras.layers.GlobalAveragePooling2D()(model.get_layer("relu").output)
        auxiliary = keras.layers.Dense(3, "softmax", name="auxiliary_4a")(features)
        return keras.Model(model.input, [model.output, auxiliary])


@pytest.mark.parametrize("teaches", [False, True])
def test_auxiliary_heads_keep_their_names_in_the_history(teaches, run, tmp_path):
    model = TwoHeads.network()
    recipe = dataclasses.replace(RECIPE, epochs=2, quantize_epochs=1)
    history = keras_arch.fit(model, DATA, recipe, tmp_path, teacher=run[1] if teaches else None)
    assert len(history["auxiliary_4a_loss"]) == 2
    assert len(history["val_predictions_accuracy"]) == 2
    main = strip_auxiliary_heads(model)
    quantized_copy(plain_model(main), keras_arch.read_int8_ranges(tmp_path / "model.keras"))


# --- outliers ---


def add_outlier(model, factor=100):
    """Scale one output channel of a convolution, and divide it out in the next one."""
    norm, conv2 = model.get_layer("bn"), model.get_layer("conv2")
    gamma, beta, mean, variance = norm.get_weights()
    channel = (np.abs(gamma) + np.abs(beta)).argmax()
    gamma[channel] *= factor
    beta[channel] *= factor
    norm.set_weights([gamma, beta, mean, variance])
    kernel, bias = conv2.get_weights()
    kernel[:, :, channel] /= factor
    conv2.set_weights([kernel, bias])


def test_an_outlier_is_rescaled_and_other_channels_are_not(run):
    model = keras.models.clone_model(run[1])
    model.set_weights(run[1].get_weights())
    copy = quantized_copy(plain_model(model))
    equalize_channels(copy, plain_model(model))
    for layer in ("bn", "conv2"):
        for found, weight in zip(
            copy.get_layer(layer).weights, model.get_layer(layer).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(found, weight)
    usual = model.get_weights()
    add_outlier(model)
    copy = quantized_copy(plain_model(model))
    equalize_channels(copy, plain_model(model))
    assert not np.allclose(model.get_layer("bn").gamma, usual[1])
    ratio = np.array(copy.get_layer("bn").gamma) / usual[1]
    assert ratio.max() < 8  # it was 100
    model.set_weights(plain_weights(copy))
    np.testing.assert_allclose(model(IMAGES), run[1](IMAGES), atol=1e-4)  # outputs stay the same


def test_training_repairs_an_outlier_that_calibration_does_not(run, tmp_path):
    """In int8, the other channels have one level. 100 is too little to break such a network."""
    model = keras.models.clone_model(run[1])
    model.set_weights(run[1].get_weights())
    add_outlier(model, 1000)

    def top1(folder, ranges):
        specs, _ = keras_arch.export_model(model, folder, NAMES, IMAGES, ONLY_INT8, ranges)
        artifact = keras_arch.open_artifact(folder / specs["int8"].file)
        return np.mean(artifact.predict(np.repeat(IMAGES, 3, axis=3)).argmax(1) == LABELS)

    for name in ("calibrated", "run", "learned"):
        (tmp_path / name).mkdir()
    float32 = np.mean(model.predict(IMAGES.astype("float32"), verbose=0).argmax(1) == LABELS)
    assert top1(tmp_path / "calibrated", None) < float32 - 0.1
    aware = dataclasses.replace(RECIPE, epochs=2, quantize_epochs=2)
    keras_arch.fit(model, DATA, aware, tmp_path / "run")
    ranges = keras_arch.read_int8_ranges(tmp_path / "run" / "model.keras")
    assert top1(tmp_path / "learned", ranges) >= float32 - 0.005


# --- export ---


def test_the_int8_file_has_the_learned_ranges(run, tmp_path):
    folder, model, _ = run
    ranges = keras_arch.read_int8_ranges(folder / "model.keras")
    black = np.zeros((1, 8, 8, 1), "uint8")  # no image for a calibration
    with pytest.raises(keras_arch.InputError, match="an image with contrast"):
        keras_arch.export_and_verify(
            model, tmp_path / "a", NAMES, black, (IMAGES, LABELS), ONLY_INT8
        )
    report = keras_arch.export_and_verify(
        model, tmp_path / "b", NAMES, black, (IMAGES, LABELS), ONLY_INT8, ranges
    )
    assert report["int8_ranges"] == "learned"
    row = report["artifacts"]["int8"]
    assert not row["problems"]
    assert row["metrics"]["simulated"] >= 0.99
    assert row["inputs"][0]["scale"] == 1
    artifact = keras_arch.open_artifact(tmp_path / "b" / "model_int8.tflite")
    copy = quantized_copy(plain_model(model), ranges)
    gray = np.repeat(IMAGES, 3, axis=3)
    found = artifact.predict(gray)
    np.testing.assert_allclose(found, copy.predict(IMAGES.astype("float32"), verbose=0), atol=0.01)


def test_contradicting_options_are_refused(run, tmp_path):
    folder, model, _ = run
    ranges = keras_arch.read_int8_ranges(folder / "model.keras")
    kept = dataclasses.replace(ONLY_INT8, keep_float=("conv1",))
    with pytest.raises(keras_arch.InputError, match="`keep_float` needs calibrated ranges"):
        keras_arch.export_and_verify(model, tmp_path, NAMES, IMAGES, None, kept, ranges)
    source = source_of_model(model, NAMES, ImageSet(IMAGES), None, ONLY_INT8)
    with pytest.raises(keras_arch.InputError, match="--debug-quantization measures calibrated"):
        debug_quantization(dataclasses.replace(source, ranges=ranges), ONLY_INT8)
    with pytest.raises(keras_arch.InputError, match="Received: none for"):
        keras_arch.export_and_verify(model, tmp_path, NAMES, IMAGES, None, ONLY_INT8, {})
    for settings in (
        dataclasses.replace(kept, int8_ranges="calibrated"),
        dataclasses.replace(kept, height=8, width=8),  # the ranges are of the original size
    ):
        assert simulate_int8(plain_model(model), settings, ranges) is None
    assert not list(tmp_path.iterdir())


def test_damaged_ranges_are_refused(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("int8_ranges.json", "{]")
    with pytest.raises(keras_arch.InputError, match=r"The ranges of int8 in .* cannot be read"):
        keras_arch.read_int8_ranges(path)


@pytest.mark.slow
def test_the_commands_train_and_export_int8(script, tmp_path, data_dir, capfd):
    words = ["--epochs", "6", "--quantize-aware", "int8", "--quantize-epochs", "2"]
    folder = tmp_path / "run"
    assert script("train.py", "quickstart", *words, "--output", folder, "--data-dir", data_dir) == 0
    assert "then 2 epochs with simulated int8 at 0.01" in capfd.readouterr().out
    assert json.loads((folder / "run.json").read_text())["metrics"]["best_epoch"] > 4
    assert script("export.py", folder, "--formats", "int8", "float32") == 0
    assert "learned" in (folder / "export" / "MODEL_CARD.md").read_text()
    assert re.search(r"learned", (folder / "report.html").read_text())
    assert script("export.py", folder, "--debug-quantization") == 2
    assert "measures calibrated ranges" in capfd.readouterr().err
    # A .keras file has the ranges, too.
    words = ["--calibration", "digits", "--formats", "int8", "--data-dir", data_dir]
    words += ["--output", tmp_path / "export"]
    assert script("export.py", folder / "model.keras", *words) == 0
    report = json.loads((tmp_path / "export" / "export.json").read_text())
    assert report["int8_ranges"] == "learned"
    assert load_keras(folder / "model.keras")
