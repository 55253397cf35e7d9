"""Training: options, schedules, saved files, transfer of weights, NaN and Ctrl-C."""

import dataclasses
import errno
import json
import math
import re
import shutil
import signal
import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import latin_1_folder
from sklearn.metrics import balanced_accuracy_score
from sklearn.utils.class_weight import compute_class_weight

import keras_arch
from keras_arch import files
from keras_arch.class_names import pack_labels, write_labels
from keras_arch.data.dataset import Dataset
from keras_arch.data.splits import InMemory
from keras_arch.errors import DataWarning
from keras_arch.evaluation.metrics import compute_balanced_accuracy
from keras_arch.reports.tables import comparison_row
from keras_arch.runs.history import best_epoch, read_history
from keras_arch.runs.record import read_run
from keras_arch.training import callbacks
from keras_arch.training.callbacks import patience_is_over
from keras_arch.training.fast_copy import fast_copy
from keras_arch.training.fit import compile_copy
from keras_arch.training.metrics import BalancedAccuracy
from keras_arch.training.optimizers import averaged_variables, build_optimizer, build_schedule

RECIPE = keras_arch.Recipe("resnet8", "digits", epochs=10, learning_rate=0.5)


def rates(steps_in_epoch, **changes):
    schedule = build_schedule(dataclasses.replace(RECIPE, **changes), steps_in_epoch)
    return np.array([float(schedule(step)) for step in range(10 * steps_in_epoch)])


def test_cosine_schedule():
    found = rates(10, warmup_epochs=2)
    climb = 0.5 * np.arange(1, 21) / 20
    fall = 0.25 * (1 + np.cos(np.pi * np.arange(80) / 80))
    np.testing.assert_allclose(found, np.concatenate([climb, fall]), rtol=1e-5, atol=1e-7)


def test_step_schedule():
    found = rates(8, schedule="step", warmup_epochs=0)
    np.testing.assert_allclose(
        found[[0, 39, 40, 59, 60, 79]], [0.5, 0.5, 0.05, 0.05, 0.005, 0.005], rtol=1e-5
    )


def test_constant_schedule():
    np.testing.assert_allclose(rates(4, schedule="constant", warmup_epochs=0), 0.5)


def test_weight_decay_excludes_biases_and_batch_norm():
    """A step with zero gradients shrinks only kernels, by learning rate times decay."""
    model = keras_arch.ResNet8(input_shape=(8, 8, 1))
    recipe = dataclasses.replace(RECIPE, weight_decay=0.1, schedule="constant", warmup_epochs=0)
    optimizer = build_optimizer(recipe, 1)
    before = [variable.numpy() for variable in model.trainable_variables]
    optimizer.apply(
        [keras.ops.zeros_like(variable) for variable in model.trainable_variables],
        model.trainable_variables,
    )
    shrunk = set()
    for variable, old in zip(model.trainable_variables, before, strict=True):
        factor = 1 - 0.5 * 0.1 if variable.name == "kernel" else 1
        np.testing.assert_allclose(variable.numpy(), factor * old, rtol=1e-5, atol=1e-8)
        shrunk.add((variable.name, factor < 1))
    assert shrunk == {("kernel", True), ("gamma", False), ("beta", False), ("bias", False)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "`epochs` must be an integer from 1 to 100000. Received: epochs=0."),
        ({"learning_rate": -1}, "`learning_rate` must be a number from 1e-12"),
        ({"label_smoothing": 1}, "`label_smoothing` must be a number from 0 to 0.999"),
        ({"warmup_epochs": -1}, "`warmup_epochs` must be a number from 0"),
        ({"ema": 1}, "`ema` must be a number from"),
        ({"clip_norm": 0}, "`clip_norm` must be a number from"),
        ({"patience": 0}, "`patience` must be an integer from 1"),
        (
            {"freeze": "backbone", "auxiliary_heads": True},
            "`auxiliary_heads` must be False with freeze='backbone'",
        ),
    ],
)
def test_recipe_rejects_invalid_values(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RECIPE, **change)


@pytest.mark.parametrize(
    "options", [RECIPE, keras_arch.ExportSettings()], ids=["Recipe", "ExportSettings"]
)
def test_every_option_is_checked_against_its_annotation(options):
    """Each field rejects values outside its annotation and accepts each value of a Literal."""
    wrong = {
        str: [3, None],
        bool: [1, None, "no"],
        int: [1.5, "1", True],
        float: ["0.1", True, math.nan, math.inf, 10**400],
    }
    for name, annotation in typing.get_type_hints(type(options)).items():
        kinds = (
            typing.get_args(annotation)
            if type(None) in typing.get_args(annotation)
            else (annotation,)
        )
        kind = kinds[0]
        if typing.get_origin(kind) is typing.Literal:
            words = typing.get_args(kind)
            for word in words:
                assert getattr(dataclasses.replace(options, **{name: word}), name) == word
            values = [words[0] * 2, None, ["none"], 2.0, np.zeros(3)]
        elif typing.get_origin(kind) is tuple:
            values = ["int8", 3, None, (3,)]
        elif typing.get_origin(kind) is typing.Union:  # Literal | tuple
            values = ["nonenone", 3, None, (3,), (), ("none", "balanced")]
        else:
            values = wrong[kind]
        for value in values:
            if value is None and len(kinds) == 2:
                continue
            with pytest.raises(keras_arch.InputError, match=name) as refused:
                dataclasses.replace(options, **{name: value})
            assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"optimizer": "adam"},
            "`optimizer` must be one of sgd, adamw, lamb. Received: optimizer='adam'. Did you mean adamw?",
        ),
        (
            {"class_weights": "balance"},
            "`class_weights` must be one of none, balanced. Received: class_weights='balance'. Did",
        ),
        ({"freeze": "all"}, "`freeze` must be one of none, backbone. Received: freeze='all'."),
        ({"augment": "cut_mix"}, "Received: augment='cut_mix'. Did you mean cutmix"),
        ({"kernel_5x5": 4}, "`kernel_5x5` must be one of 3, 5. Received: kernel_5x5=4."),
        ({"model": ""}, "`model` must be a name or a path. Received: an empty text, model=''."),
        (
            {"dataset": " "},
            "`dataset` must be a name or a path. Received: an empty text, dataset=' '.",
        ),
        (
            {"weights": ""},
            "`weights` must be a name or a path. Received: an empty text, weights=''.",
        ),
        ({"epochs": "3"}, "`epochs` must be an integer. Received: epochs='3'."),
        (
            {"learning_rate": math.nan},
            "`learning_rate` must be a finite number. Received: learning_rate=nan.",
        ),
    ],
)
def test_error_names_the_wrong_value(change, message):
    with pytest.raises(keras_arch.InputError, match=re.escape(message)):
        dataclasses.replace(RECIPE, **change)


def test_numpy_numbers_become_python_numbers(tmp_path):
    """JSON cannot hold NumPy numbers."""
    recipe = dataclasses.replace(
        RECIPE,
        **{
            "epochs": np.int64(3),
            "learning_rate": np.float32(0.5),
            "auxiliary_heads": np.bool_(True),
        },
        **{"kernel_5x5": np.int32(3), "weights": tmp_path / "run"},
    )
    found = json.loads(json.dumps(dataclasses.asdict(recipe)))
    assert found["epochs"] == 3
    assert found["learning_rate"] == 0.5
    assert found["auxiliary_heads"] is True
    assert found["kernel_5x5"] == 3
    assert found["weights"] == str(tmp_path / "run")
    assert keras_arch.ExportSettings(formats=["int8"], keep_float=["a"]).formats == ("int8",)


def test_one_cycle_schedule():
    found = rates(10, schedule="onecycle", warmup_epochs=3)
    climb = 0.02 + 0.48 * np.arange(1, 31) / 30
    fall = 0.25 * (1 + np.cos(np.pi * np.arange(70) / 70))
    np.testing.assert_allclose(found, np.concatenate([climb, fall]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_gradients_are_clipped_by_their_global_norm(optimizer):
    """Gradients with a global norm of 100 give the same step as with a norm of 1."""
    steps = []
    for length, clip_norm in ((1, None), (100, 1)):
        recipe = dataclasses.replace(
            RECIPE,
            optimizer=optimizer,
            clip_norm=clip_norm,
            schedule="constant",
            warmup_epochs=0,
            weight_decay=0,
        )
        variables = [keras.Variable([1.0, 2.0]), keras.Variable([[3.0]])]
        gradients = [keras.ops.array([0.6, 0.0]) * length, keras.ops.array([[0.8]]) * length]
        build_optimizer(recipe, 1).apply(gradients, variables)
        steps.append([variable.numpy() for variable in variables])
    for mine, theirs in zip(*steps, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    assert steps[0][0][0] != 1


@pytest.mark.parametrize(
    ("batch_size", "where"), [("32", "in epoch 1 at step"), ("1293", "in validation after epoch 1")]
)
def test_nan_loss_is_a_one_line_error_without_files(
    script, tmp_path, data_dir, capfd, batch_size, where
):
    status = script(
        *(
            "train.py",
            "quickstart",
            "--learning-rate",
            "1e30",
            "--warmup-epochs",
            "0",
            "--batch-size",
            batch_size,
        ),
        *("--epochs", "1", "--output", tmp_path / "run", "--data-dir", data_dir),
    )
    lines = capfd.readouterr().err.splitlines()
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: The loss must be finite")
    assert "Pass a learning_rate below 1e+30, more warmup_epochs or a clip_norm of 1" in lines[0]
    assert where in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_the_test_split_is_not_touched(small_digits, tmp_path):
    blind = dataclasses.replace(small_digits, test=None)
    model = keras_arch.ResNet8(input_shape=(8, 8, 1))
    history = keras_arch.fit(
        model, blind, dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=2), tmp_path
    )
    assert list(history) == [
        "accuracy",
        "loss",
        "val_accuracy",
        "val_loss",
        "learning_rate",
        "seconds",
    ]
    assert len(history["val_loss"]) == 2
    assert history["learning_rate"][0] == pytest.approx(0.1)  # at the last step of the warm-up


HEADS = ("predictions", "auxiliary_4a")


def small_model(activations):
    """Build a small model with one head per activation."""
    image = keras.Input((8, 8, 1), name="image")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    heads = [
        keras.layers.Dense(10, kind, name=name)(flat)
        for kind, name in zip(activations, HEADS, strict=False)
    ]
    return keras.Model(image, heads, name="small")


@pytest.mark.parametrize(
    ("activations", "message"),
    [
        ([None], '`predictions`.*classifier_activation="softmax"'),
        (["sigmoid"], "`predictions`.*Replace it by a softmax"),
        (["log_softmax"], '`predictions`.*classifier_activation="softmax"'),
        (["softmax", "linear"], '`auxiliary_4a`.*classifier_activation="softmax"'),
    ],
)
def test_outputs_must_be_probabilities(few, tmp_path, activations, message):
    """The loss would treat logits as probabilities."""
    model = small_model(activations)
    before = model.get_weights()
    recipe = dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=1)
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        keras_arch.fit(model, few, recipe, tmp_path)
    assert len(str(refused.value)) < 300
    assert list(tmp_path.iterdir()) == []
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_outputs_other_than_auxiliary_classifiers_are_rejected(few, tmp_path):
    """They would be trained on the class labels."""
    model = small_model(["softmax", "softmax"])
    other = keras.Model(
        model.input,
        [model.outputs[0], keras.layers.Dense(10, "softmax", name="b")(model.outputs[1])],
    )
    recipe = dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=1)
    with pytest.raises(keras_arch.InputError, match="predictions, b"):
        keras_arch.fit(other, few, recipe, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_auxiliary_heads_learn_and_the_main_head_is_measured(tmp_path):
    """A small network with the heads of GoogLeNet."""
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")
    split = InMemory(images, np.arange(16) % 2)
    data = Dataset("x", split, split, split, ("a", "b"), (8, 8, 1))
    x = pixels = keras.Input((8, 8, 1), name="image")
    outputs = []
    for name in ("auxiliary_4a", "auxiliary_4d", "predictions"):
        x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        flat = keras.layers.GlobalAveragePooling2D()(x)
        outputs.append(keras.layers.Dense(2, activation="softmax", name=name)(flat))
    model = keras.Model(pixels, [outputs[2], outputs[0], outputs[1]])
    recipe = keras_arch.Recipe(
        "googlenet", "x", 1, learning_rate=0.01, batch_size=8, class_weights="balanced"
    )
    history = keras_arch.fit(model, data, recipe, tmp_path)
    assert history["accuracy"] == history["predictions_accuracy"]
    assert history["val_balanced_accuracy"] == history["val_predictions_balanced_accuracy"]
    heads = [history[f"{name}_loss"][0] for name in ("predictions", "auxiliary_4a", "auxiliary_4d")]
    assert history["loss"][0] == pytest.approx(heads[0] + 0.3 * heads[1] + 0.3 * heads[2], rel=1e-3)
    assert (
        keras_arch.evaluate(keras_arch.open_artifact(tmp_path / "model.keras"), data).images == 16
    )


# --- options of a recipe ---


def train(data, folder, model=None, **changes):
    """Train for a short time and return (model, history)."""
    keras.utils.set_random_seed(0)
    recipe = dataclasses.replace(
        keras_arch.RECIPES["quickstart"], **{"epochs": 2, "precision": "float32", **changes}
    )
    model = model or keras_arch.ResNet8(input_shape=data.image_shape, classes=len(data.class_names))
    folder.mkdir(exist_ok=True)
    return model, keras_arch.fit(model, data, recipe, folder)


@pytest.fixture(scope="module")
def few(digits):
    """Digits with four training batches."""
    return dataclasses.replace(
        digits, train=InMemory(digits.train.images[:128], digits.train.labels[:128])
    )


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_ema_weights_are_saved(few, tmp_path, monkeypatch, precision):
    """Compare with an average in NumPy over the weights of all steps, with TensorFlow's decay."""
    steps, decay = [], 0.4  # reached at the sixth of eight steps

    class Watch(callbacks.PrintProgress):
        def on_train_batch_end(self, batch, logs=None):
            steps.append([variable.numpy() for variable in self.model.trainable_variables])

    monkeypatch.setattr("keras_arch.training.fit.PrintProgress", Watch)
    model, history = train(few, tmp_path / "a", ema=decay, precision=precision)
    assert len(steps) == 8
    epochs, average = [], steps[0]
    for number, step in enumerate(steps[1:], start=1):
        kept = min(decay, (1 + number) / (10 + number))
        average = [kept * old + (1 - kept) * new for old, new in zip(average, step, strict=True)]
        if number % 4 == 3:
            epochs.append(average)
    best = epochs[best_epoch(history)]
    for mine, theirs in zip(model.trainable_variables, best, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lamb"])
def test_ema_warm_up_discards_the_initial_weights(optimizer):
    """After thirty steps, the initial value has at most a tenth of the average."""
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, ema=0.999, weight_decay=0)
    weight = keras.Variable([100.0])
    built = build_optimizer(recipe, 100)
    built.apply([keras.ops.zeros(1)], [weight])
    weight.assign([0.0])
    for _ in range(30):
        built.apply([keras.ops.zeros(1)], [weight])
        weight.assign([0.0])
    ((_, average),) = averaged_variables(built)
    assert 0 <= float(average[0]) < 0.1


@pytest.mark.slow
def test_balanced_class_weights(few, tmp_path):
    """The first loss equals a loss in NumPy with the weights of scikit-learn."""
    labels = np.repeat([0, 1, 2], [80, 40, 8])
    data = dataclasses.replace(
        few, train=InMemory(few.train.images, labels), class_names=tuple("abc")
    )
    data = dataclasses.replace(data, validation=data.train)
    model = keras_arch.ResNet8(input_shape=(8, 8, 1), classes=3)
    probabilities = fast_copy(model, "float32")(few.train.images, training=True).numpy()
    weights = compute_class_weight("balanced", classes=np.arange(3), y=labels)[labels]
    expected = np.mean(weights * -np.log(probabilities[np.arange(128), labels]))
    changes = {
        "epochs": 1,
        "batch_size": 128,
        "class_weights": "balanced",
        "augment": "none",
        "precision": "float32",
    }
    _, history = train(data, tmp_path / "a", model, **changes)
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_balanced_accuracy_equals_scikit_learn():
    """Batches have different sizes, one class has no images, and labels may be soft."""
    random = np.random.default_rng(0)
    labels, outputs = (
        random.choice(5, 500, p=[0.7, 0.2, 0.08, 0.02, 0]),
        random.random((500, 5)).astype("float32"),
    )
    metric = BalancedAccuracy(5)
    for part in np.split(np.arange(500), [256, 300, 301]):
        metric.update_state(0.9 * np.eye(5)[labels[part]] + 0.02, outputs[part])
    assert float(metric.result()) == pytest.approx(
        balanced_accuracy_score(labels, outputs.argmax(axis=1)), rel=1e-6
    )
    metric.reset_state()
    metric.update_state(np.eye(5)[[0, 0, 1]], np.eye(5)[[0, 1, 2]])
    assert float(metric.result()) == pytest.approx(0.25)
    assert compute_balanced_accuracy(outputs, labels) == pytest.approx(
        balanced_accuracy_score(labels, outputs.argmax(axis=1))
    )


def test_class_weights_select_the_epoch_by_balanced_accuracy():
    plain = {
        "loss": [1.0] * 4,
        "val_accuracy": [0.95, 0.90, 0.90, 0.90],
        "val_loss": [0.2, 0.4, 0.3, 0.5],
    }
    balanced = {**plain, "val_balanced_accuracy": [0.60, 0.80, 0.80, 0.70]}
    assert best_epoch(plain) == 0  # without the column val_balanced_accuracy
    assert best_epoch(balanced) == 2
    patient = dataclasses.replace(RECIPE, patience=2)
    assert patience_is_over(plain, patient)
    assert not patience_is_over(balanced, patient)


def test_class_weights_save_the_epoch_of_best_balanced_accuracy(few, tmp_path):
    """The validation split has a rare class. The saved model has the best value by scikit-learn."""
    labels = few.train.labels % 2 * (np.arange(128) % 5 == 0)  # about 6% in class 1
    rare = InMemory(few.train.images, labels)
    data = dataclasses.replace(few, train=rare, validation=rare, class_names=("often", "rarely"))
    changes = {"epochs": 3, "class_weights": "balanced", "augment": "none", "precision": "float32"}
    model, history = train(data, tmp_path / "a", **changes)
    scores = history["val_balanced_accuracy"]
    predicted = np.asarray(model(rare.images)).argmax(axis=1)
    assert scores[best_epoch(history)] == max(scores)
    assert max(scores) == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-6)
    assert read_history(tmp_path / "a") == {
        name: pytest.approx(column) for name, column in history.items()
    }
    assert list(history)[-2:] == ["learning_rate", "seconds"]


@pytest.mark.slow
def test_class_weights_report_balanced_accuracy(script, digits, data_dir, tmp_path, capfd):
    """On the screen, in run.json, in the report, and compared with runs without class weights."""
    run, command = (
        tmp_path / "run",
        ("train.py", "quickstart", "--epochs", "1", "--data-dir", data_dir),
    )
    assert script(*command, "--output", run, "--class-weights", "balanced") == 0
    printed = capfd.readouterr().out
    metrics = json.loads((run / "run.json").read_text())["metrics"]
    model, page = keras.models.load_model(run / "model.keras"), (run / "report.html").read_text()
    for split in ("validation", "test"):
        part = getattr(digits, split)
        expected = balanced_accuracy_score(
            part.labels, np.asarray(model(part.images)).argmax(axis=1)
        )
        assert metrics[split]["balanced_accuracy"] == pytest.approx(expected)
        assert f"{expected:.2%}" in printed
        assert f"<dd>{expected:.2%}</dd>" in page
    assert "val_balanced" in printed
    history = read_history(run)
    found = comparison_row(run, read_run(run), history, keras_arch.cost(model))
    assert found["balanced test accuracy"] == f"{metrics['test']['balanced_accuracy']:.2%}"
    unweighted = dataclasses.replace(read_run(run)["recipe"], class_weights="none")
    other = comparison_row(
        run, {**read_run(run), "recipe": unweighted}, history, keras_arch.cost(model)
    )
    assert set(found) - set(other) == {"balanced validation accuracy", "balanced test accuracy"}


def test_divergence_of_one_step_raises_but_a_large_validation_loss_does_not():
    """Keras reports the mean of the epoch, which hides a single step with a loss of 300."""
    stop = callbacks.StopAtNaN(RECIPE.phases[0], guessing=2.3)
    stop.on_epoch_begin(0)
    for batch in range(99):
        stop.on_train_batch_end(batch, {"loss": 2.0})
    with pytest.raises(
        keras_arch.InputError, match=r"finite and below 230\. Received: 300 in epoch 1 at step 100"
    ):
        stop.on_train_batch_end(99, {"loss": (99 * 2.0 + 300) / 100})
    stop.on_epoch_end(0, {"val_loss": 1e6})
    with pytest.raises(
        keras_arch.InputError, match=r"must be finite\. Received: nan in validation after epoch 1"
    ):
        stop.on_epoch_end(0, {"val_loss": float("nan")})


@pytest.mark.parametrize(
    ("changes", "rate", "others"),
    [
        ({}, "learning_rate", r", more warmup_epochs or .*--warmup-epochs, --clip-norm"),
        ({"freeze": "backbone", "freeze_epochs": 1}, "fine_tuning_rate", "--warmup-epochs"),
        (
            {"quantize_aware": "int8"},
            "quantize_rate",
            r"or a clip_norm of 1 \(--quantize-rate, --c",
        ),
    ],
)
def test_divergence_names_the_options_of_the_phase(changes, rate, others):
    recipe = dataclasses.replace(RECIPE, epochs=5, **changes)
    stop = callbacks.StopAtNaN(recipe.phases[-1], guessing=2.3)
    with pytest.raises(keras_arch.InputError, match=f"Pass a {rate} below .*{others}"):
        stop.check(float("nan"), 1, "in epoch 5")


def test_patience_ends_training(few, tmp_path):
    _, history = train(
        few, tmp_path / "a", epochs=9, patience=2, learning_rate=1e-9, weight_decay=0
    )
    assert len(history["loss"]) == best_epoch(history) + 3 < 9


@pytest.mark.slow
def test_loss_is_scaled_in_float16(few, tmp_path):
    """Small gradients do not underflow: the result equals that of float32 up to rounding."""
    found = [
        train(few, tmp_path / precision, precision=precision)
        for precision in ("float32", "mixed_float16")
    ]
    losses = [history["loss"] for _, history in found]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
    recipe = keras_arch.RECIPES["quickstart"]
    optimizer = build_optimizer(dataclasses.replace(recipe, precision="mixed_float16"), 1)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    saved = keras.models.load_model(tmp_path / "mixed_float16" / "model.keras")
    assert {layer.dtype_policy.name for layer in saved.layers} == {
        "float32"
    }  # the saved layers are float32
    assert {type(layer).__module__.split(".")[0] for layer in saved.layers} == {"keras"}


@pytest.mark.slow
def test_tensorboard_logs_are_written(few, tmp_path):
    recipe = dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=1)
    folder = latin_1_folder(tmp_path, "Köln")
    keras_arch.fit(keras_arch.ResNet8(input_shape=(8, 8, 1)), few, recipe, folder, tensorboard=True)
    (log,) = (folder / "tensorboard" / "validation").glob("events.*")
    copy = str(shutil.copy(log, tmp_path / "log"))  # TensorFlow needs UTF-8 paths
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(copy)
        for value in event.summary.value
    }
    assert "epoch_accuracy" in tags


# --- initial weights from another run ---


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Return a run directory with a ResNet-8."""
    folder = tmp_path_factory.mktemp("run")
    keras_arch.ResNet8(input_shape=(8, 8, 1)).save(folder / "model.keras")
    return folder


def classifier_inside():
    image = keras.Input((8, 8, 1))
    return keras.Model(image, keras_arch.ResNet8(input_shape=(8, 8, 1))(image))


def head_inside():
    backbone = keras_arch.ResNet8(include_top=False, pooling="avg", input_shape=(8, 8, 1))
    head = [
        keras.layers.Dropout(0.1),
        keras.layers.Dense(10, name="predictions"),
        keras.layers.Softmax(),
    ]
    return keras.Model(backbone.input, keras.Sequential(head)(backbone.output))


def softmax_inside():
    logits = keras_arch.ResNet8(input_shape=(8, 8, 1), classifier_activation=None)
    scores = keras.Input((10,))
    return keras.Model(
        logits.input, keras.Model(scores, keras.layers.Softmax()(scores))(logits.output)
    )


@pytest.mark.parametrize("build", [classifier_inside, head_inside, softmax_inside])
def test_a_frozen_backbone_may_be_a_nested_model(build):
    recipe = dataclasses.replace(RECIPE, freeze="backbone")
    trained = compile_copy(build(), dataclasses.replace(recipe, precision="float32"), 1)
    assert [variable.path.split("/")[-2:] for variable in trained.trainable_variables] == [
        ["predictions", "kernel"],
        ["predictions", "bias"],
    ]


def test_fine_tuning_a_new_head_on_a_frozen_backbone(other, few, tmp_path):
    data = dataclasses.replace(few, class_names=tuple("abcdefghijk"))  # one class more than the run
    model = keras_arch.ResNet8(input_shape=(8, 8, 1), classes=11)
    with pytest.warns(DataWarning, match="layers from scratch: predictions"):
        assert keras_arch.transfer_weights(model, other, "resnet8") == {"predictions"}
    before = {layer.name: layer.get_weights() for layer in model.layers}
    train(data, tmp_path / "a", model, freeze="backbone")
    changed = {
        layer.name
        for layer in model.layers
        if not all(
            np.array_equal(*pair)
            for pair in zip(layer.get_weights(), before[layer.name], strict=True)
        )
    }
    assert changed == {"predictions"}
    assert all(layer.trainable for layer in model.layers)  # the saved model is not frozen


def test_transfer_of_all_weights_for_the_same_classes(other):
    model = keras_arch.ResNet8(input_shape=(8, 8, 1))
    assert keras_arch.transfer_weights(model, other / "model.keras", "resnet8") == set()
    trained = keras.models.load_model(other / "model.keras")
    for mine, theirs in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


CLASSES = tuple("abcdefghij")
OTHER_CLASSES = {  # same number of classes -> (class names, warning)
    "of another task": (("a", *"BCDEFGHIJ"), "Class 1 of .* is 'b' and not 'B'"),
    "in another order": (tuple("bacdefghij"), "Class 0 of .* is 'a' and not 'b'"),
}


@pytest.mark.parametrize("kind", OTHER_CLASSES)
@pytest.mark.parametrize("file", [".", "model.keras", "model.weights.h5"])
def test_the_head_of_other_classes_starts_from_scratch(kind, file, tmp_path):
    names, told = OTHER_CLASSES[kind]
    source, model = (
        keras_arch.ResNet8(input_shape=(8, 8, 1)),
        keras_arch.ResNet8(input_shape=(8, 8, 1)),
    )
    source.save(tmp_path / "model.keras")
    source.save_weights(tmp_path / "model.weights.h5")
    write_labels(tmp_path / "labels.txt", CLASSES)
    before = model.get_layer("predictions").get_weights()
    with pytest.warns(DataWarning, match=rf"{told}\. The head starts from scratch: predictions$"):
        assert keras_arch.transfer_weights(model, tmp_path / file, "resnet8", names) == {
            "predictions"
        }
    for layer in model.layers:
        expected = (
            before if layer.name == "predictions" else source.get_layer(layer.name).get_weights()
        )
        for mine, theirs in zip(layer.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert keras_arch.transfer_weights(model, tmp_path / file, "resnet8", CLASSES) == set()
    for mine, theirs in zip(model.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_class_names_in_the_file_precede_those_of_the_run(tmp_path):
    path, model = tmp_path / "model.keras", keras_arch.ResNet8(input_shape=(8, 8, 1))
    keras_arch.ResNet8(input_shape=(8, 8, 1)).save(path)
    pack_labels(path, CLASSES)
    names = OTHER_CLASSES["in another order"][0]
    write_labels(tmp_path / "labels.txt", names)
    with pytest.warns(DataWarning, match="Class 0 of .*model.keras is 'a' and not 'b'"):
        assert keras_arch.transfer_weights(model, path, "resnet8", names) == {"predictions"}
    assert keras_arch.transfer_weights(model, path, "resnet8", CLASSES) == set()


def test_head_without_class_names_is_used(other):
    """A .keras file that Keras wrote has no class names."""
    model = keras_arch.ResNet8(input_shape=(8, 8, 1))
    assert keras_arch.transfer_weights(model, other, "resnet8", CLASSES) == set()


def test_train_starts_the_head_of_other_classes_from_scratch(script, tmp_path, capfd, monkeypatch):
    def stop(*arguments, **options):
        raise keras_arch.InputError("enough")

    monkeypatch.setattr(keras_arch, "fit", stop)
    labels = np.arange(80) % 10
    images = np.arange(80 * 64, dtype=">u2").view("uint8").reshape(80, 2, 8, 8)[:, 0]
    data = {"x_train": images[:60], "y_train": np.array(CLASSES)[labels[:60]]}
    np.savez(tmp_path / "a.npz", **data, x_test=images[60:], y_test=np.array(CLASSES)[labels[60:]])
    (tmp_path / "digits").mkdir()
    keras_arch.ResNet8(input_shape=(8, 8, 1)).save(tmp_path / "digits" / "model.keras")
    write_labels(tmp_path / "digits" / "labels.txt", range(10))
    words = f"quickstart --dataset {tmp_path}/a.npz --weights {tmp_path}/digits --output {tmp_path}/run --epochs 1"
    assert script("train.py", *words.split(), "--batch-size", 20, "--precision", "float32") == 2
    told = capfd.readouterr()
    warning, error = told.err.splitlines()
    assert error == "error: enough"
    assert "is '0' and not 'a'. The head starts from scratch: predictions" in warning


def test_transfer_from_another_network_raises_and_keeps_the_model(other, tmp_path):
    model = keras_arch.ResNet20(input_shape=(8, 8, 1))
    before = model.get_weights()
    with pytest.raises(keras_arch.InputError, match="missing: stage1_block2_conv1"):
        keras_arch.transfer_weights(model, other, "resnet20")
    model.save(tmp_path / "resnet20.keras")
    for name, problem in (
        ("resnet8", "unexpected: stage1_block2_conv1"),
        ("plain20", "unexpected: stage1_block1_add"),
    ):
        with pytest.raises(keras_arch.InputError, match=problem):
            keras_arch.transfer_weights(
                keras_arch.build(name, input_shape=(8, 8, 1)), tmp_path / "resnet20.keras", name
            )
    with pytest.raises(keras_arch.InputError, match="does not exist"):
        keras_arch.transfer_weights(model, tmp_path, "resnet20")
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_auxiliary_heads_are_initialized_from_scratch(tmp_path):
    """GoogLeNet with auxiliary heads gets the weights of one without."""
    keras_arch.GoogLeNet(input_shape=(20, 20, 1), classes=3, stem="cifar", width=0.1).save(
        tmp_path / "plain.keras"
    )
    model = keras_arch.GoogLeNet(
        input_shape=(20, 20, 1), classes=2, stem="cifar", width=0.1, auxiliary_heads=True
    )
    with pytest.warns(
        DataWarning, match="scratch: predictions, auxiliary_4a, auxiliary_4a_conv and 6 more"
    ):
        skipped = keras_arch.transfer_weights(model, tmp_path / "plain.keras", "googlenet")
    assert {name for name in skipped if not name.startswith("auxiliary_")} == {"predictions"}
    assert {"auxiliary_4a", "auxiliary_4a_dense", "auxiliary_4d_conv"} < skipped


# --- atomic directories ---


def test_atomic_folder_keeps_existing_files(tmp_path):
    folder = tmp_path / "run"
    for content in ("old", "new"):
        with files.atomic_folder(folder, "run.json") as partial:
            (partial / "run.json").write_text(content)
    assert (folder / "run.json").read_text() == "new"
    with (
        pytest.raises(keras_arch.InputError, match=r"No space left .*/model\.keras\. Add --resume"),
        files.atomic_folder(folder, "run.json") as partial,
    ):
        (partial / "model.keras").touch()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (folder / "run.json").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run",
        "run.partial",
    ]  # the checkpoint is kept
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    with (
        pytest.raises(keras_arch.InputError, match=r"has no run\.json, so it is not replaced"),
        files.atomic_folder(tmp_path / "thesis", "run.json"),
    ):
        pass
    assert (tmp_path / "thesis" / "thesis.tex").exists()


def test_ctrl_c_keeps_the_checkpoint_and_the_old_run(
    script, tmp_path, data_dir, capfd, monkeypatch
):
    folder, print_epoch = tmp_path / "run", callbacks.PrintProgress.on_epoch_end
    folder.mkdir()
    (folder / "run.json").write_text("precious")

    def interrupt(callback, epoch, logs=None):
        print_epoch(callback, epoch, logs)
        if epoch == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(callbacks.PrintProgress, "on_epoch_end", interrupt)
    # Tests that a shell has sent to the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    words = ("train.py", "quickstart", "--epochs", "1000", "--overwrite")
    try:
        status = script(*words, "--output", folder, "--data-dir", data_dir)
    finally:
        signal.signal(signal.SIGINT, before)
    printed, errors = capfd.readouterr()
    checkpoint = tmp_path / "run.partial" / "model.keras"
    assert status == 130
    assert "\n  3/1000" in printed
    kept = (
        f"Stopped. The best checkpoint is kept in {checkpoint}. "
        "Add --resume to the command to continue."
    )
    assert errors.split() == kept.split()
    assert keras.models.load_model(checkpoint).output_shape == (None, 10)
    assert (folder / "run.json").read_text() == "precious"
