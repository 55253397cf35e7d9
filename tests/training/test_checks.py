"""Arguments of `fit`: wrong ones raise one error before any work, unusual ones are accepted."""

import dataclasses
import os

import keras
import numpy as np
import pytest
from keras import layers

import keras_arch
from keras_arch.class_names import read_packed_labels
from keras_arch.data.dataset import Dataset
from keras_arch.data.splits import InMemory

RECIPE = keras_arch.Recipe(
    "resnet8", "x", epochs=1, learning_rate=0.1, batch_size=4, precision="float32"
)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1)).astype("uint8")
LABELS = np.arange(12) % 3
SPLIT = InMemory(IMAGES, LABELS)
DATA = Dataset("dots", SPLIT, SPLIT, SPLIT, ("a", "b", "c"), (8, 8, 1))


def small(shape=(8, 8, 1), classes=3):
    image = keras.Input(shape, name="image")
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image))
    return keras.Model(
        image, layers.Dense(classes, activation="softmax", name="predictions")(x), name="small"
    )


def two_images():
    images = [keras.Input((8, 8, 1), name=name) for name in ("image", "second")]
    x = layers.Flatten()(layers.Rescaling(1 / 255)(layers.Add()(images)))
    return keras.Model(images, layers.Dense(3, activation="softmax")(x), name="both")


def untraceable():
    image = keras.Input((8, 8, 1), name="image")
    return keras.Model(
        image, layers.Dense(3, activation="softmax", name="my classes")(layers.Flatten()(image))
    )


class Subclassed(keras.Model):
    def call(self, images):
        return images[:, 0, :3, 0]


MISTAKES = {  # case -> (changed arguments, message)
    "a tuple": (
        {"data": (IMAGES, LABELS)},
        r"`data` must be a keras_arch.Dataset, .*Received: tuple of ndarray, ndarray\.",
    ),
    "a name": (
        {"data": "digits"},
        r"`data` must be .*Received: str\. Load files with keras_arch.load_dataset",
    ),
    "a subclass": (
        {"model": Subclassed},
        r"`model` must be a functional or Sequential `keras.Model`\. Received: <Subclassed",
    ),
    "no model": ({"model": lambda: "resnet8"}, r"`model` must be .*Received: 'resnet8'\."),
    "other classes": (
        {"model": lambda: small(classes=7)},
        r"3 classes, as dots has\. Received: a model with 7 classes",
    ),
    "another size": (
        {"model": lambda: small((9, 8, 1))},
        r"\(8, 8, 1\), as dots has\. Received: a model for \(9, 8, 1\)",
    ),
    "color": (
        {"model": lambda: small((8, 8, 3))},
        r"\(8, 8, 1\), as dots has\. Received: a model for \(8, 8, 3\)",
    ),
    "a layer's name": (
        {"model": untraceable},
        "Names of layers must be .*Received: 'my classes'",
    ),
    "two images": (
        {"model": two_images},
        r"both must have one input, the image\. Received: 2 inputs: image, second",
    ),
    "a class name of two lines": (
        {"data": dataclasses.replace(DATA, class_names=("a", "b\nc", "d"))},
        r"Class names must be .*Received: 'b\\nc'\. Rename the class",
    ),
    "a large batch": (
        {"recipe": dataclasses.replace(RECIPE, batch_size=13)},
        "at most 12, the number",
    ),
}


@pytest.fixture
def no_work(monkeypatch):
    """Fail on the first work of `fit`: choosing the precision and reading images."""

    def work(*arguments):
        raise AssertionError("work began")

    monkeypatch.setattr("keras_arch.training.fit.choose_precision", work)
    monkeypatch.setattr(InMemory, "sample", work)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_argument_raises_before_any_work(mistake, no_work, tmp_path):
    change, message = MISTAKES[mistake]
    arguments = {"model": small, "data": DATA, "recipe": RECIPE, **change}
    arguments["model"] = arguments["model"]()
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        keras_arch.fit(**arguments, folder=tmp_path)
    assert len(str(refused.value)) < 300
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a file", "a file/below"])
def test_a_file_as_directory_raises_before_any_work(name, no_work, tmp_path):
    (tmp_path / "a file").touch()
    for folder in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(
            keras_arch.InputError, match=f"{name} (must be a directory|cannot be written)"
        ):
            keras_arch.fit(small(), DATA, RECIPE, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]


def test_any_model_name_and_wrapped_input_and_output(tmp_path):
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    scores = layers.Dense(3, activation="softmax", name="predictions")(x)
    model = keras.Model({"image": image}, {"scores": scores}, name="modèle 1")
    before = model.get_weights()
    keras_arch.fit(model, DATA, RECIPE, tmp_path)
    saved = keras.models.load_model(tmp_path / "model.keras")
    assert saved.name == "modèle 1"
    assert list(saved.output) == ["scores"]
    assert any(
        (mine != theirs).any() for mine, theirs in zip(saved.get_weights(), before, strict=True)
    )
    for mine, theirs in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_every_saved_model_has_the_class_names(tmp_path, monkeypatch):
    """The names are in a file before it is moved into place."""
    replace, found, names = os.replace, [], ("pizza margherita", "猫", '"c"')

    def watch(source, target):
        if target.name == "model.keras":
            found.append(read_packed_labels(source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watch)
    data = dataclasses.replace(DATA, class_names=names)
    history = keras_arch.fit(small(), data, dataclasses.replace(RECIPE, epochs=3), tmp_path)
    scores = list(
        zip(history["val_accuracy"], (-loss for loss in history["val_loss"]), strict=True)
    )
    better = [epoch for epoch in range(3) if scores[epoch] > max(scores[:epoch], default=())]
    assert found == [names] * len(better)
    assert keras_arch.open_artifact(tmp_path / "model.keras").class_names == names


def test_directory_as_string_and_open_image_size(tmp_path):
    history = keras_arch.fit(small((None, None, 1)), DATA, RECIPE, str(tmp_path))
    assert len(history["loss"]) == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "model.keras",
        "history.csv",
        "checkpoint.npz",
    }
