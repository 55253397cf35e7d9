"""Knowledge distillation: the loss of a student, its teacher, resumed runs and invalid teachers."""

import dataclasses
import functools
import json
import shutil
from typing import ClassVar

import keras
import numpy as np
import pytest
import test_phases
from scipy.special import log_softmax, softmax
from test_backends import few_digits, with_auxiliary_head

import keras_arch
from keras_arch.class_names import pack_labels
from keras_arch.reports.tables import describe_training
from keras_arch.runs.record import find_recipe
from keras_arch.training.fit import compile_copy
from keras_arch.training.hooks import Hooks
from keras_arch.training.teacher import SoftLoss, check_teacher, open_teacher

DATA = test_phases.DATA  # 72 images of 8x8 pixels in the classes a, b and c
RECIPE = dataclasses.replace(
    test_phases.RECIPE,
    epochs=2,
    freeze="none",
    freeze_epochs=None,
    learning_rate=0.01,
    temperature=3,
    teacher_weight=0.7,
)


def network(seed=0, units=3, shape=(8, 8, 1), activation="softmax", **options):
    """Build a small network with dropout and batch normalization. Its weights depend on `seed`."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input(shape, name="image")
    x = keras.layers.Rescaling(1 / 255)(x)
    x = keras.layers.Conv2D(4, 3, use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    x = keras.layers.Dropout(0.2, seed=1, name="dropout")(x)
    init = keras.initializers.RandomNormal(stddev=2, seed=seed)
    head = keras.layers.Dense(units, activation, kernel_initializer=init, name="predictions")
    return keras.Model(image, head(x), **options)


def train(folder, teacher=None, resume=False, callbacks=(), loss=None, model=None, **changes):
    """Return (model, history) of a short training."""
    model = model or network(1)
    recipe = dataclasses.replace(RECIPE, **changes)
    if teacher is None:
        recipe = dataclasses.replace(recipe, temperature=None, teacher_weight=None)
    options = {"callbacks": callbacks, "loss": loss, "teacher": teacher}
    return model, keras_arch.fit(model, DATA, recipe, folder, resume, **options)


@pytest.fixture
def eagerly(monkeypatch):
    """Train eagerly, which is faster for few steps."""
    compile_model = functools.partialmethod(keras.Model.compile, run_eagerly=True)
    monkeypatch.setattr(keras.Model, "compile", compile_model)


@pytest.fixture
def digits_of_command(eagerly, monkeypatch):
    """Replace the data of keras-arch train by 64 digits."""
    monkeypatch.setattr(keras_arch, "load_dataset", lambda *_, **__: few_digits(), raising=False)


def assert_same(one, other):
    for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


# --- the loss ---


@pytest.mark.parametrize("temperature", [0.5, 1, 4, 100])
def test_the_soft_loss_is_that_of_softened_logits(temperature):
    """SciPy computes it from the logits, `SoftLoss` from the probabilities."""
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(0, 5, (2, 40, 10))
    weights = rng.uniform(0, 3, 40)
    p, log_p = (f(teacher / temperature, axis=1) for f in (softmax, log_softmax))
    divergence = (p * (log_p - log_softmax(student / temperature, axis=1))).sum(axis=1)
    found = SoftLoss(temperature)(
        softmax(teacher, axis=1).astype("float32"),
        softmax(student, axis=1).astype("float32"),
        weights,
    )
    expected = temperature**2 * np.mean(weights * divergence)
    assert float(found) == pytest.approx(expected, rel=2e-3 if temperature > 4 else 1e-4)


def test_the_soft_loss_of_probabilities_of_zero_is_finite():
    certain = np.eye(3, dtype="float32")
    assert float(SoftLoss(4)(certain, certain)) == 0
    assert 0 < float(SoftLoss(4)(certain, certain[::-1])) < 1e3


def mixed_loss(student, teacher, labels, weights=1.0, temperature=3, share=0.7):
    """Return the loss of a batch from the probabilities of both networks, in NumPy."""
    student, teacher = np.float64(student), np.float64(teacher)
    hard = -np.log(student[np.arange(len(labels)), labels])
    soft = [p ** (1 / temperature) for p in (teacher, student)]
    p, q = (one / one.sum(axis=1, keepdims=True) for one in soft)
    soft = temperature**2 * (p * np.log(p / q)).sum(axis=1)
    return np.mean(weights * ((1 - share) * hard + share * soft))


def compiled(teacher, loss=None, model=None, **changes):
    """Return a compiled student."""
    recipe = dataclasses.replace(RECIPE, **changes)
    return compile_copy(model or network(1), recipe, 1, Hooks(teacher=teacher, loss=loss))


class NumPyLoss:
    """Cross-entropy as a function and not a Keras loss."""

    def __call__(self, labels, outputs):
        return -keras.ops.sum(labels * keras.ops.log(outputs), axis=-1)


@pytest.mark.parametrize("loss", [None, NumPyLoss()], ids=["default", "function"])
def test_a_step_has_the_mixed_loss_and_a_validation_that_of_the_labels(loss, eagerly):
    teacher = network(2)
    trained = compiled(teacher, loss)
    images, labels = test_phases.IMAGES[:16].astype("float32"), test_phases.LABELS[:16]
    onehot, weights = np.eye(3, dtype="float32")[labels], np.linspace(0.5, 2, 16)
    expected = -np.log(np.asarray(trained(images))[np.arange(16), labels]).mean()
    assert float(trained.test_on_batch(images, onehot)[0]) == pytest.approx(expected, rel=1e-5)
    trained.get_layer("dropout").rate = 0
    step = np.asarray(trained(images, training=True))
    before = [np.array(one) for one in trained.lesson.teacher.get_weights()]
    weight = trained.get_layer("predictions").kernel
    start = np.array(weight)
    found = trained.train_on_batch(images, onehot, sample_weight=weights)[0]
    wanted = mixed_loss(step, teacher(images, training=False), labels, weights)
    assert float(found) == pytest.approx(wanted, rel=1e-4)
    assert not np.array_equal(start, weight)
    for one, other in zip(before, trained.lesson.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_gradients_are_those_of_the_mixed_loss():
    """A finite difference along the gradient step of SGD without momentum of the first step."""
    import tensorflow as tf

    teacher, images = network(2), test_phases.IMAGES[:16].astype("float32")
    labels = test_phases.LABELS[:16]
    trained, onehot = compiled(teacher), np.eye(3, dtype="float32")[labels]
    bias = trained.get_layer("predictions").bias
    targets = teacher(images, training=False)

    def loss_at(offset):
        start = np.array(bias)
        bias.assign(start + offset)
        found = mixed_loss(trained(images, training=False), targets, labels)
        bias.assign(start)
        return found

    with tf.GradientTape() as tape:
        loss = trained.compute_loss(images, onehot, trained(images, training=False), None, True)
    gradient = np.array(tape.gradient(loss, bias.value))
    step = 1e-3
    numeric = [(loss_at(step * one) - loss_at(-step * one)) / (2 * step) for one in np.eye(3)]
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-4)


def test_the_loss_of_auxiliary_classifiers_stays(eagerly):
    """Without their share, the loss is that of the main head."""
    keras.utils.set_random_seed(0)
    model, teacher = with_auxiliary_head(), with_auxiliary_head()
    labels = np.arange(10)
    images = test_phases.IMAGES[:10].astype("float32")
    onehot = (np.eye(10, dtype="float32")[labels],) * 2
    recipe = dataclasses.replace(RECIPE)
    noise = dataclasses.replace(DATA, class_names=tuple("abcdefghij"))
    hooks = Hooks(teacher=check_teacher(teacher, model, recipe, noise))
    trained = compile_copy(model, recipe, 1, hooks)
    main, auxiliary = (np.asarray(one) for one in trained(images, training=True))
    expected = mixed_loss(main, teacher(images)[0], labels)
    expected -= 0.3 * np.log(auxiliary[np.arange(10), labels]).mean()
    loss, *_ = trained.train_on_batch(images, onehot)
    assert float(loss) == pytest.approx(expected, rel=1e-4)


# --- training ---


def test_a_weight_of_zero_trains_as_without_a_teacher(tmp_path):
    alone, history = train(tmp_path / "alone", epochs=1)
    same, taught = train(tmp_path / "same", network(2), epochs=1, teacher_weight=0)
    assert_same(alone, same)
    for column in set(history) - {"seconds"}:
        assert history[column] == taught[column], column


@keras.saving.register_keras_serializable("tests")
class Record(keras.layers.Layer):
    """A layer that passes images on and records them with the phase."""

    seen: ClassVar[list] = []

    def call(self, inputs, training=None):
        if hasattr(inputs, "numpy"):  # not a symbolic tensor
            self.seen.append((self.name, bool(training), np.array(inputs)))
        return inputs


def recording(seed, name):
    """Return a network that records its images."""
    inside = network(seed)
    image = keras.Input((8, 8, 1))
    return keras.Model(image, inside(Record(name=name)(image)))


@pytest.mark.parametrize("augment", [pytest.param("crop", marks=pytest.mark.slow), "mixup"])
def test_both_see_the_same_augmented_images(augment, tmp_path, eagerly):
    Record.seen.clear()
    teacher = recording(2, "teacher")
    train(tmp_path, teacher, model=recording(1, "student"), augment=augment, epochs=1)
    teacher_seen = [(phase, images) for name, phase, images in Record.seen if name == "teacher"]
    taught = [images for phase, images in teacher_seen if len(images) == 16]  # not those of checks
    student = [images for name, phase, images in Record.seen if name == "student" and phase]
    assert {phase for phase, _ in teacher_seen} == {False}
    assert len(taught) == len(student) == 4
    for one, other in zip(taught, student, strict=True):
        np.testing.assert_array_equal(one, other)
    originals = {image.tobytes() for image in test_phases.IMAGES.astype("float32")}
    assert any(image.tobytes() not in originals for image in np.concatenate(taught))


def test_the_files_of_a_run_have_no_teacher(tmp_path, eagerly):
    teacher = network(2)
    before = teacher.get_weights()
    alone, taught = tmp_path / "alone", tmp_path / "taught"
    train(alone, epochs=1)
    model, _ = train(taught, teacher, epochs=1)
    for one, other in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with np.load(alone / "checkpoint.npz") as one, np.load(taught / "checkpoint.npz") as other:
        assert one.files == other.files
        assert [one[name].shape for name in one.files if name != "history"] == [
            other[name].shape for name in other.files if name != "history"
        ]
    assert_same(keras.models.load_model(taught / "model.keras"), model)
    assert type(model) is type(network())


class Kill(keras.callbacks.Callback):
    """Stop a training in its second epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


OPTIONS = {
    "plain": {},
    "everything": {
        **{"ema": 0.9, "accumulate": 2, "batch_size": 8, "class_weights": ("a=2",)},
        **{"label_smoothing": 0.1, "augment": "cutmix", "optimizer": "adamw"},
    },
    "two phases": {"freeze": "backbone", "freeze_epochs": 1},
    "mixed_float16": {"precision": "mixed_float16"},
    "mixed_bfloat16": {"precision": "mixed_bfloat16"},
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "plain")) for name in OPTIONS]
)
def test_a_resumed_run_is_bit_identical(name, tmp_path, request):
    if name == "plain":
        request.getfixturevalue("eagerly")
    teacher, changes = network(2), OPTIONS[name]
    expected, history = train(tmp_path / "one", teacher, **changes)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "two", teacher, callbacks=[Kill()], **changes)
    resumed, found = train(tmp_path / "two", teacher, resume=True, **changes)
    assert_same(resumed, expected)
    assert {**found, "seconds": 0} == {**history, "seconds": 0}
    assert np.isfinite(found["loss"]).all()


# --- invalid teachers ---


def two_outputs():
    model = network(2)
    return keras.Model(model.input, [model.output, model.output])


def sharing(model):
    return keras.Model(model.input, model.output)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("saved_models/a", r"`teacher` must be a .*Received: 'saved_models/a'\. Pass keras"),
        (lambda: network(2, units=4, name="big"), "the 3 classes of noise.*big with 4 classes"),
        (lambda: network(2, shape=(9, 8, 1)), r"of shape \(8, 8, 1\).*for \(9, 8, 1\).*--image-s"),
        (lambda: network(2, shape=(8, 8, 3)), r"of shape \(8, 8, 1\).*for \(8, 8, 3\)"),
        (lambda: network(2, activation=None), "must be class probabilities.*Softmax layer to the"),
        (lambda: network(2, activation="sigmoid"), "class probabilities.*Replace it by a softmax"),
        (two_outputs, "must have one output"),
        (None, "`temperature` needs a teacher. Received: temperature=3 alone"),
    ],
)
def test_an_invalid_teacher_is_refused_before_training(teacher, message, tmp_path):
    teacher = teacher() if callable(teacher) else teacher
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        keras_arch.fit(network(1), DATA, RECIPE, tmp_path / "run", teacher=teacher)
    assert len(str(refused.value)) < 290
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": "saved_models/a"}, "needs the model of the recipe's teacher.*teacher=keras"),
        ({"temperature": None}, "`teacher_weight` needs a teacher. Received: teacher_weight=0.7"),
    ],
)
def test_a_recipe_needs_its_teacher(changes, message, tmp_path):
    recipe = dataclasses.replace(RECIPE, **changes)
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.fit(network(1), DATA, recipe, tmp_path / "run")


def test_a_teacher_that_shares_weights_is_refused(tmp_path):
    model = network(1)
    for teacher in (model, sharing(model)):
        with pytest.raises(keras_arch.InputError, match="must not share weights with `model`"):
            keras_arch.fit(model, DATA, RECIPE, tmp_path / "run", teacher=teacher)


def test_a_teacher_for_any_image_size_is_accepted(tmp_path):
    teacher = network(2, shape=(None, None, 1))
    assert check_teacher(teacher, network(1), RECIPE, DATA).input_shape == (None, None, None, 1)


@pytest.mark.parametrize("temperature", [0, -1, 0.01, 101])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(keras_arch.InputError, match="`temperature` must be a number from"):
        dataclasses.replace(RECIPE, temperature=temperature)


# --- the command ---


@pytest.fixture(scope="module")
def teacher_run(tmp_path_factory):
    """The directory of a small teacher for digits."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    folder.mkdir()
    keras_arch.ResNet8(input_shape=(8, 8, 1), classes=10).save(folder / "model.keras")
    (folder / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    return folder


STOP = """
import pathlib

import keras


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1 and not pathlib.Path("go").exists():
            raise KeyboardInterrupt
"""


def test_a_run_records_its_teacher_and_needs_it_to_resume(
    teacher_run, digits_of_command, script, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stop.py").write_text(STOP)
    shutil.copytree(teacher_run, "teacher")
    words = ["quickstart", "--epochs", "2", "--precision", "float32", "--output", "run"]
    words += ["--teacher", "teacher", "--temperature", "2", "--callback", "stop.py:Stop"]
    assert script("train.py", *words) == 130
    assert f", taught by {tmp_path / 'teacher'}) on digits" in capfd.readouterr().out
    model = keras.models.load_model("teacher/model.keras")
    expected = keras_arch.files.hash_of(model.get_weights())
    model.set_weights([2 * one for one in model.get_weights()])
    model.save("teacher/model.keras")
    assert script("train.py", *words, "--resume") == 2
    assert "Received: other weights of the teacher. Use the" in capfd.readouterr().err
    assert (tmp_path / "run.partial" / "checkpoint.npz").exists()
    shutil.copy(teacher_run / "model.keras", "teacher")
    (tmp_path / "go").touch()
    assert script("train.py", *words, "--resume") == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["teacher_sha256"] == expected == open_teacher("teacher").sha256
    recipe = record["recipe"]
    assert recipe["teacher"] == str(tmp_path / "teacher")
    assert (recipe["temperature"], recipe["teacher_weight"]) == (2, None)
    assert str(tmp_path / "teacher") in (tmp_path / "run" / "report.html").read_text()
    repeated, _ = find_recipe("run")
    assert (repeated.teacher, repeated.temperature) == (str(tmp_path / "teacher"), 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--temperature", "2"], "--temperature needs a teacher"),
        (["--teacher-weight", "0.5"], "--teacher-weight needs a teacher"),
        (["--teacher", "nowhere"], "`teacher` must be a run directory or a .keras file"),
        (["--teacher", "empty"], "which has no model.keras"),
        (["--teacher", "other.keras"], "The data must have the 10 classes of"),
        (["--teacher", "three.keras"], "the 10 classes of digits. Received: "),
        (["--teacher", "cifar10_jpeg"], "The data must have the 10 classes of"),
        (["--teacher", "run", "--output", "run", "--overwrite"], "run holds the teacher"),
        (["--teacher", "run/model.keras", "--output", "run", "--overwrite"], "holds the teacher"),
        (["--teacher", "new.partial", "--output", "new", "--overwrite"], "holds the teacher"),
    ],
)
def test_bad_teachers_are_refused_in_one_line(
    words, message, teacher_run, digits_of_command, script, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("run", "new.partial"):
        shutil.copytree(teacher_run, tmp_path / name)
        (tmp_path / name / "run.json").write_text("{}")
    for name, classes in (("other", 10), ("three", 3)):
        network(0, units=classes).save(f"{name}.keras")
    pack_labels("other.keras", [*"abcdefghij"])
    before = sorted(tmp_path.rglob("*"))
    assert script("train.py", "quickstart", *words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert len(line) < 300
    assert sorted(tmp_path.rglob("*")) == before


def test_the_first_line_names_the_teacher():
    recipe = dataclasses.replace(RECIPE, teacher="/runs/r20")
    line = describe_training(recipe, network(), {"train": 72}, "float32")
    assert "trainable parameters, taught by /runs/r20) on noise" in line
