"""Evaluation on other data than the training data, with classes matched by name."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

import keras_arch
from keras_arch.data.classes import with_classes
from keras_arch.data.splits import InFiles, InMemory, InStream
from keras_arch.recipes import Recipe

LABELS = ("bright", "dark", "middle")
LEVELS = {"dark": 25, "middle": 128, "bright": 230}


def save(folder, count, level, seed=0):
    """Save different grayscale images of nearly equal brightness."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng([seed, level, number]).integers(-9, 9, (8, 8))
        Image.fromarray((level + noise).astype("uint8")).save(folder / f"{level}_{number}.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory with its training data `pictures`. The model classifies by brightness."""
    folder = tmp_path_factory.mktemp("run")
    image = keras.Input((8, 8, 1))
    level = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, keras.layers.Dense(3, "softmax", name="head")(level))
    centers = np.array([LEVELS[name] for name in LABELS]) / 255
    model.get_layer("head").set_weights([(100 * centers / 255)[None], -50 * centers**2])
    model.save(folder / "model.keras")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    pictures = folder / "pictures"
    for name in LABELS:
        save(pictures / name, 20, LEVELS[name])
    data = keras_arch.load_dataset(pictures)
    recipe = dataclasses.asdict(Recipe("resnet8", str(pictures), epochs=1, learning_rate=1))
    about = {"recipe": recipe, "data_dir": None, "precision": "float32", "images": data.sizes}
    (folder / "run.json").write_text(json.dumps({**about, "data_fingerprint": data.fingerprint}))
    return folder


@pytest.fixture
def evaluate(run, script, tmp_path, capfd):
    """Function from an image folder to metrics.json, printed text and exit status."""

    def evaluate(dataset, *options):
        status = script(
            "evaluate.py", run, "--dataset", dataset, "--output", tmp_path / "evaluation", *options
        )
        printed = capfd.readouterr()
        path = tmp_path / "evaluation" / "metrics.json"
        return json.loads(path.read_text()) if path.exists() else None, printed, status

    return evaluate


def test_all_images_of_a_folder_are_evaluated_with_the_classes_of_the_model(evaluate, tmp_path):
    """Class "dark" is absent, class "middle" has one image."""
    save(tmp_path / "held/bright", 9, LEVELS["bright"], seed=1)
    save(tmp_path / "held/bright", 2, LEVELS["dark"], seed=1)  # two mistakes
    save(tmp_path / "held/middle", 1, LEVELS["middle"], seed=1)
    metrics, printed, status = evaluate(tmp_path / "held")
    assert (status, metrics["split"]) == (0, "all")
    (row,) = (one["metrics"] for one in metrics["artifacts"])
    assert (row["images"], row["top1"]) == (12, 10 / 12)
    assert {name: one["support"] for name, one in row["classes"].items()} == {
        "bright": 11,
        "dark": 0,
        "middle": 1,
    }
    assert row["most_confused"] == [{"true": "bright", "predicted": "dark", "images": 2}]
    assert "held, all splits, 12 images" in printed.out
    assert "Classes without images: dark." in printed.out
    assert printed.err == ""


def test_a_folder_of_one_class(evaluate, tmp_path):
    save(tmp_path / "held/middle", 2, LEVELS["middle"], seed=1)
    metrics, _, status = evaluate(tmp_path / "held")
    assert (
        status,
        metrics["artifacts"][0]["metrics"]["images"],
        metrics["artifacts"][0]["metrics"]["top1"],
    ) == (0, 2, 1)


def test_a_split_can_lack_a_class(evaluate, tmp_path):
    for name in LABELS:
        save(tmp_path / "held/train" / name, 4, LEVELS[name], seed=1)
    save(tmp_path / "held/test/bright", 5, LEVELS["bright"], seed=2)
    metrics, _, status = evaluate(tmp_path / "held")
    assert (status, metrics["split"], metrics["artifacts"][0]["metrics"]["images"]) == (
        0,
        "test",
        5,
    )
    metrics, _, status = evaluate(tmp_path / "held", "--split", "all")
    assert (status, metrics["split"], metrics["artifacts"][0]["metrics"]["images"]) == (
        0,
        "all",
        17,
    )


def test_unknown_classes_are_an_error(evaluate, tmp_path):
    save(tmp_path / "held/bright", 2, LEVELS["bright"], seed=1)
    save(tmp_path / "held/brigth", 2, LEVELS["bright"], seed=2)
    metrics, printed, status = evaluate(tmp_path / "held")
    assert (status, metrics) == (2, None)
    (line,) = printed.err.splitlines()
    assert "'held' has classes that the model does not have. Received: brigth." in line


def test_evaluate_in_python_matches_classes_by_name(run):
    artifact = keras_arch.open_artifact(run)
    data = keras_arch.load_dataset(run / "pictures")
    assert keras_arch.evaluate(artifact, data, "all").top1 == 1
    reordered = with_classes(data, ("dark", "middle", "bright"))
    assert keras_arch.evaluate(artifact, reordered, "all").top1 == 1
    other = dataclasses.replace(data, class_names=("cat", "dog", "rabbit"))
    with pytest.raises(keras_arch.InputError, match=r"classes that the model does not have.*cat"):
        keras_arch.evaluate(artifact, other)
    shown = np.flatnonzero(data.train.labels < 2)
    some = InMemory(data.train.images[shown], data.train.labels[shown])
    few = dataclasses.replace(data, train=some, validation=some, test=some, class_names=LABELS[:2])
    assert keras_arch.evaluate(artifact, few, "train").top1 == 1
    empty = dataclasses.replace(data, test=data.test.slice(0, 0))
    with pytest.raises(keras_arch.InputError, match="must have images in its test split"):
        keras_arch.evaluate(artifact, empty)


@pytest.mark.parametrize("missing", ["evaluate", "fit"])
def test_an_image_that_disappears_is_one_line(missing, run, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", 0)
    shutil.copytree(run / "pictures", tmp_path / "pictures")
    data = keras_arch.load_dataset(tmp_path / "pictures", image_size=8)
    assert isinstance(data.train, InFiles)
    shutil.rmtree(tmp_path / "pictures" / "dark")
    with pytest.raises(keras_arch.InputError, match=r"^[^\n]*pictures/dark[^\n]*$"):
        if missing == "evaluate":
            keras_arch.evaluate(keras_arch.open_artifact(run), data, "train")
        else:
            model = keras_arch.ResNet8(input_shape=(8, 8, 1), classes=3)
            recipe = Recipe("resnet8", "pictures", epochs=1, learning_rate=0.1, batch_size=8)
            keras_arch.fit(model, data, recipe, tmp_path / "new")


def test_a_photograph_that_disappears_is_one_line(tmp_path, monkeypatch):
    """TensorFlow reads JPEG files for random crops."""
    monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", 0)
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng([ord(name), number]).integers(0, 256, (8, 8, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.jpg")
    data = keras_arch.load_dataset(tmp_path / "photos", image_size=8)
    shutil.rmtree(tmp_path / "photos" / "b")
    model = keras_arch.ResNet8(input_shape=(8, 8, 3), classes=2)
    recipe = Recipe("resnet8", "photos", epochs=1, learning_rate=0.1, batch_size=8)
    recipe = dataclasses.replace(recipe, augment="inception_crop")
    with pytest.raises(
        keras_arch.InputError, match=r"stay where they are.*photos/b/\d+\.jpg, which"
    ):
        keras_arch.fit(model, data, recipe, tmp_path / "new")


def test_an_empty_split_is_an_error(evaluate, tmp_path):
    save(tmp_path / "held/bright", 2, LEVELS["bright"], seed=1)
    metrics, printed, status = evaluate(tmp_path / "held", "--split", "test")
    assert (status, metrics) == (2, None)
    (line,) = printed.err.splitlines()
    assert "must have images in its test split. Received: none" in line
    assert "(--split)" in line


def test_only_the_test_split_of_training_data_is_evaluated(run, evaluate, tmp_path, monkeypatch):
    test_images = keras_arch.load_dataset(run / "pictures").sizes["test"]
    monkeypatch.chdir(run)
    for name in ("pictures", run / "pictures"):
        metrics, printed, status = evaluate(name)
        assert (status, printed.err, metrics["split"]) == (0, "", "test")
        assert metrics["artifacts"][0]["metrics"]["images"] == test_images
    copy = shutil.copytree(run / "pictures", tmp_path / "copy")
    metrics, printed, _ = evaluate(copy)
    assert metrics["artifacts"][0]["metrics"]["images"] == 60
    (warning,) = printed.err.splitlines()
    assert "was trained on the same data" in warning
    assert "--split test" in warning


@pytest.mark.parametrize("kind", [InMemory, InFiles, InStream])
def test_classes_are_matched_by_name_in_every_kind_of_split(run, tmp_path, monkeypatch, kind):
    path = run / "pictures"
    if kind is InStream:
        every = keras_arch.load_dataset(path)
        images, labels = (
            np.concatenate([getattr(split, what) for split in (every.train, every.test)])
            for what in ("images", "labels")
        )
        data = dataclasses.replace(
            every, train=stream(images[:50], labels[:50]), test=stream(images[50:], labels[50:])
        )
        data = dataclasses.replace(
            data, validation=stream(every.validation.images, every.validation.labels)
        )
    else:
        monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", 0 if kind is InFiles else 1)
        data = keras_arch.load_dataset(path)
    mapped = with_classes(data, ("night", *LABELS))
    assert type(data.train) is type(mapped.all) is kind
    assert mapped.class_names == ("night", *LABELS)
    assert mapped.all.count == 60
    numbers = [1, 25, 59]
    some, some_labels = mapped.all.at(numbers)
    pairs = list(mapped.all.examples.as_numpy_iterator())
    for number, image, label in zip(numbers, some, some_labels, strict=True):
        np.testing.assert_array_equal(image, pairs[number][0])
        assert label == pairs[number][1]
    assert len({image.tobytes() for image, _ in pairs}) == 60
    levels = np.array([0, *(LEVELS[name] for name in LABELS)])
    assert max(abs(image.mean() - levels[label]) for image, label in pairs) < 10


def test_classes_with_equal_names_are_an_error():
    split = InMemory(np.zeros((2, 4, 4, 1), "uint8"), np.arange(2))
    data = keras_arch.data.dataset.Dataset(
        "birds", split, split, split, ("crane", "heron"), (4, 4, 1)
    )
    with pytest.raises(keras_arch.InputError, match="Received: crane, the name of 2 classes"):
        with_classes(data, ("crane", "heron", "crane"))
    assert with_classes(data, ("heron", "tern", "tern", "crane")).test.labels.tolist() == [3, 0]


def stream(images, labels):
    import tensorflow as tf

    return InStream(
        tf.data.Dataset.from_tensor_slices((images, labels)), len(labels), images.shape[1:]
    )


def test_a_single_class_is_an_error_for_training(tmp_path):
    save(tmp_path / "one/bright", 9, 230)
    with pytest.raises(keras_arch.InputError, match="two classes or more"):
        keras_arch.load_dataset(tmp_path / "one")
    assert keras_arch.load_dataset(tmp_path / "one", allow_absent_classes=True).all.count == 9
