"""Predictions of predict.py and Grad-CAM heat maps."""

import csv
import io
import json
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from conftest import ROOT
from keras import layers
from PIL import Image

import keras_arch
from keras_arch.artifacts.artifact import Artifact
from keras_arch.class_names import class_names_or_numbers
from keras_arch.evaluation.grad_cam import grad_cam
from keras_arch.evaluation.metrics import compute_accuracy
from keras_arch.evaluation.predictions import classify, predict_files
from keras_arch.images.read import read_image

DIGIT = ROOT / "examples" / "digit.png"  # a 7 of the test split


def test_folders_and_formats(quickstart, script, tmp_path, capfd):
    """A .tflite file outside its run has class names. Images are sorted by name, one per line."""
    file = shutil.copy(quickstart / "export/model_int8.tflite", tmp_path)
    (tmp_path / "pictures/deeper").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "deeper/c.png"):
        shutil.copy(DIGIT, tmp_path / "pictures" / name)
    (tmp_path / "pictures/notes.txt").write_text("no picture")
    told = {}
    for form in ("table", "json", "csv"):
        assert (
            script("predict.py", file, tmp_path / "pictures", DIGIT, "--format", form, "--top", "2")
            == 0
        )
        told[form] = capfd.readouterr().out
    lines = [json.loads(line) for line in told["json"].splitlines()]
    names = [str(tmp_path / "pictures" / name) for name in ("a.PNG", "b.png", "deeper/c.png")] + [
        str(DIGIT)
    ]
    assert [line["image"] for line in lines] == names
    assert {line["classes"][0]["label"] for line in lines} == {"7"}
    assert all(len(line["classes"]) == 2 for line in lines)
    rows = list(csv.DictReader(io.StringIO(told["csv"])))
    assert list(rows[0]) == ["image", "label_1", "probability_1", "label_2", "probability_2"]
    assert [float(row["probability_1"]) for row in rows] == [
        line["classes"][0]["probability"] for line in lines
    ]
    assert [line.rpartition(": ")[0] for line in told["table"].splitlines()] == names


def test_hidden_and_damaged_images_are_skipped(quickstart, script, tmp_path, capfd):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("a.png", "c.png"):
        shutil.copy(DIGIT, pictures / name)
    (pictures / "._a.png").write_bytes(b"what a Mac leaves")
    (pictures / "b.png").write_bytes(DIGIT.read_bytes()[:90])
    assert script("predict.py", quickstart, pictures, "--explain", tmp_path / "why") == 2
    assert len(list((tmp_path / "why").iterdir())) == 2
    told = capfd.readouterr()
    assert [line.partition(":")[0][-5:] for line in told.out.splitlines()] == ["a.png", "c.png"]
    *_, left_out, error = told.err.splitlines()
    assert "b.png cannot be decoded as an image" in left_out
    assert error == "error: 1 of 3 images cannot be read."


def test_closed_pipe_is_not_an_error(quickstart):
    command = [
        sys.executable,
        ROOT / "scripts/predict.py",
        quickstart / "export/model_int8.tflite",
        *[DIGIT] * 2000,
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert "7 " in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


def test_labels_of_foreign_files(quickstart, tmp_path):
    """A zip archive with other class names may follow a .tflite file."""
    file = tmp_path / "other.tflite"
    file.write_bytes(model_alone((quickstart / "export/model_int8.tflite").read_bytes()))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("labelmap.txt", "a\nb\n")
    artifact = keras_arch.open_artifact(file)
    assert class_names_or_numbers(artifact) == tuple(f"class {number}" for number in range(10))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
    with pytest.raises(keras_arch.InputError, match=r"must have 10 class names.* Received: 2"):
        keras_arch.open_artifact(file)


def model_alone(content):
    """Return the bytes of a .tflite file without its archive of labels."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return content[: archive.infolist()[0].header_offset]


def test_heat_maps_are_written(quickstart, script, tmp_path, capfd):
    assert script("predict.py", quickstart, DIGIT, "--explain", tmp_path / "why") == 0
    with Image.open(tmp_path / "why/0000_digit.png") as picture:
        assert picture.size == (256, 256)
        assert picture.mode == "RGB"
        assert len(picture.getcolors(maxcolors=2**16)) > 4


@pytest.mark.parametrize("weight", [0.1, 0.6])
def test_grad_cam_finds_the_relevant_pixels(weight):
    """The model sums the brightness of the left half into class 0, at any confidence."""
    image = keras.Input((8, 8, 1))
    maps = layers.Conv2D(2, 1, use_bias=False, name="maps")(image)
    position = np.zeros((8, 8, 2), "float32")
    position[:, :4, 0] = 1
    masked = layers.Rescaling(position)(maps)
    pooled = layers.GlobalAveragePooling2D()(masked)
    model = keras.Model(image, layers.Softmax()(pooled))
    model.get_layer("maps").set_weights([np.array([weight, 0.0]).reshape(1, 1, 1, 2)])
    images = np.full((2, 8, 8, 1), 200, "uint8")
    assert (model(images).numpy()[:, 0] == 1).all() == (weight > 0.1)
    heat = grad_cam(model, images)
    assert heat.shape == (2, 8, 8)
    np.testing.assert_allclose(heat[:, :, :4], 1, atol=1e-6)
    np.testing.assert_allclose(heat[:, :, 4:], 0, atol=1e-6)


def test_first_of_equally_probable_classes_comes_first(tmp_path):
    """Integer files give many classes the same probability. `evaluate` also counts the first."""
    Image.new("L", (2, 2)).save(tmp_path / "black.png")
    shares = np.array([0, 64, 0, 128, 64, 0, 0], "float32") / 256
    artifact = Artifact(
        None, "tflite", (2, 2, 1), 7, 0, lambda images: np.tile(shares, (len(images), 1))
    )
    (row,) = classify(artifact, [tmp_path / "black.png"], "abcdefg", 6)
    assert [one.label for one in row.classes] == ["d", "b", "e", "a", "c", "f"]
    told = [compute_accuracy(shares[None], np.array([label])) for label in range(7)]
    assert [one.top1 for one in told] == [0, 0, 0, 1, 0, 0, 0]
    top5 = {one.label for one in row.classes[:5]}
    assert [one.top5 for one in told] == [name in top5 for name in "abcdefg"]


@pytest.mark.parametrize(("side", "batches"), [(2, [64, 63, 21]), (None, [1] * 148)])
def test_batches_keep_the_order_of_the_images(side, batches, tmp_path):
    """150 images of one color each. Two cannot be read. A model of any size takes one at a time."""
    paths = [tmp_path / f"{number}.png" for number in range(150)]
    for number, path in enumerate(paths):
        Image.new("L", (2 + number % 3, 2), number).save(path)
    for number in (70, 149):
        paths[number].write_text("no image")
    sizes = []

    def predict(images):
        sizes.append(len(images))
        share = images.mean(axis=(1, 2, 3)) / 255
        return np.stack([share, 1 - share], axis=1)

    artifact = Artifact(None, "keras", (side, side, 1), 2, 0, predict)
    rows = list(predict_files(artifact, paths, "ab", 2))
    assert [row.image for row in rows] == list(map(str, paths))
    assert sizes == batches
    for number, row in enumerate(rows):
        assert bool(row.error) == (number in (70, 149))
        assert bool(row.classes) != bool(row.error)
        if row.classes:
            assert dict(row.classes)["a"] == number / 255


@pytest.mark.parametrize("file", ["model.keras", "export/model_float32.tflite"])
def test_batches_have_the_predictions_of_single_images(file, quickstart, digits, tmp_path):
    """Integer files are equal to the bit: tests/reports/test_prediction_file.py."""
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for path, image in zip(paths, digits.test.images, strict=False):
        Image.fromarray(image[..., 0]).save(path)
    artifact = keras_arch.open_artifact(quickstart / file)
    names = artifact.class_names
    for path, row in zip(paths, predict_files(artifact, paths, names, 10), strict=True):
        found = dict(row.classes)
        (expected,) = artifact.predict(read_image(path, artifact.image_shape)[np.newaxis])
        np.testing.assert_allclose([found[name] for name in names], expected, atol=1e-6)


# --- feature maps of Grad-CAM ---


def gray():
    return keras.Input((8, 8, 1))


def sequential(image):
    return [image, layers.Conv2D(4, 3, name="maps"), layers.ReLU(), layers.GlobalAveragePooling2D()]


def nested(image):
    inside = keras.Input((8, 8, 1))
    backbone = keras.Model(inside, layers.ReLU()(layers.Conv2D(4, 3)(layers.Conv2D(4, 3)(inside))))
    return [image, backbone, layers.GlobalAveragePooling2D()]


def preprocessing_inside(image):
    before = keras.Sequential([layers.Rescaling(1 / 255), layers.ZeroPadding2D(1)])
    return [image, before, layers.Conv2D(4, 5), layers.Flatten()]


def one_pixel_at_the_end(image):
    return [image, layers.Conv2D(4, 3, strides=2), layers.Conv2D(4, 3, strides=2), layers.Flatten()]


def convolution_as_classifier(image):
    pooled = layers.GlobalAveragePooling2D(keepdims=True)
    return [image, layers.Conv2D(4, 3), pooled, layers.Conv2D(4, 1), layers.Flatten()]


MODELS = [sequential, nested, preprocessing_inside, one_pixel_at_the_end, convolution_as_classifier]


@pytest.fixture
def build(tmp_path):
    """Return a function that builds a classifier and optionally saves and loads it."""

    def build(parts, loaded, functional):
        image, *parts = [*parts, layers.Dense(3, "softmax")]
        if functional:
            outputs = image
            for part in parts:
                outputs = part(outputs)
            model = keras.Model(image, outputs)
        else:
            model = keras.Sequential([image, *parts])
        for weight in model.trainable_weights:
            if weight.ndim > 1:  # positive kernels, so that no ReLU is dead
                weight.assign(np.random.default_rng(0).uniform(0, 0.01, weight.shape))
        if not loaded:
            return model
        model.save(tmp_path / "model.keras")
        return keras.models.load_model(tmp_path / "model.keras")

    return build


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("parts", MODELS)
def test_grad_cam_uses_the_last_maps_larger_than_a_pixel(build, parts, loaded, functional):
    """Compare with a model that is split by hand at its last layer of several pixels."""
    model = build(parts(gray()), loaded, functional)
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 1)).astype("uint8")
    heat = grad_cam(model, images)
    np.testing.assert_allclose(heat, by_hand(model, images), atol=1e-4)
    assert np.ptp(heat, axis=(1, 2)).max() > 0.1


def by_hand(model, images):
    import tensorflow as tf

    stages = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    features, cut = images.astype("float32"), 0
    outputs = features
    for number, stage in enumerate(stages, start=1):
        outputs = stage(outputs)
        if len(outputs.shape) == 4 and max(outputs.shape[1:3]) > 1:
            features, cut = outputs, number
    with tf.GradientTape() as tape:
        tape.watch(features)
        outputs = features
        for stage in stages[cut:]:
            outputs = stage(outputs)
        best = tf.reduce_max(outputs, axis=1)
        score = tf.math.log(best) - tf.math.log(1 - best)
    weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
    heat = tf.image.resize(
        tf.nn.relu(tf.reduce_sum(weights * features, axis=-1, keepdims=True)), (8, 8)
    )[..., 0].numpy()
    return heat / np.maximum(heat.max(axis=(1, 2), keepdims=True), 1e-12)


def flat():
    return [
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
    ]


def in_sequential(shape, parts):
    return keras.Sequential([keras.Input(shape), *parts])


def in_functional(shape, parts):
    row = in_sequential(shape, parts)
    return keras.Model(row.inputs[0], row.outputs[0])


GRAY, MAPS = (8, 8, 1), (6, 6, 4)
NESTED = {  # distribution of the layers among nested models
    "classifier": lambda parts: [parts[0], in_functional(GRAY, parts[1:])],
    "classifier in a Sequential": lambda parts: [parts[0], in_sequential(GRAY, parts[1:])],
    "backbone with pooling": lambda parts: [in_functional(GRAY, parts[:-1]), parts[-1]],
    "head": lambda parts: [*parts[:3], in_functional(MAPS, parts[3:])],
    "model in a model": lambda parts: [
        in_sequential(GRAY, [parts[0], in_functional(GRAY, parts[1:-1])]),
        in_sequential((4,), parts[-1:]),
    ],
}


@pytest.mark.parametrize("name", NESTED)
def test_grad_cam_of_nested_models(build, name, tmp_path):
    """The heat map equals that of the same layers without nesting."""
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 1)).astype("uint8")
    plain = build([gray(), *flat()], False, True)
    expected = grad_cam(plain, images)
    assert np.ptp(expected, axis=(1, 2)).max() > 0.1
    parts = NESTED[name]([*flat(), layers.Dense(3, "softmax")])
    for model in (in_functional(GRAY, parts), in_sequential(GRAY, parts)):
        model.set_weights(plain.get_weights())
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(grad_cam(loaded, images), expected, atol=1e-5)
        np.testing.assert_allclose(grad_cam(model, images), expected, atol=1e-5)


def test_grad_cam_of_nested_models_with_several_outputs():
    """Each nested model takes a dict and also outputs maps. Their layer names are equal."""
    rng = np.random.default_rng(0)

    def pooled(image, name):
        x = layers.Conv2D(4, 3, activation="relu", name=name)(image)
        return x, layers.GlobalAveragePooling2D()(x)

    def nested(image, name):
        inside = keras.Input((8, 8, 1), name="pixels")
        return keras.Model({"pixels": inside}, pooled(inside, "maps"), name=name)({"pixels": image})

    def classify(left, right):
        return layers.Dense(3, activation="softmax")(layers.Concatenate()([left, right]))

    image, other = gray(), gray()
    model = keras.Model(image, classify(nested(image, "left")[1], nested(image, "right")[1]))
    plain = keras.Model(other, classify(pooled(other, "left")[1], pooled(other, "right")[1]))
    plain.set_weights([rng.uniform(0, 0.01, weights.shape) for weights in plain.get_weights()])
    model.set_weights(plain.get_weights())
    images = rng.integers(0, 256, (2, 8, 8, 1)).astype("uint8")
    heat = grad_cam(model, images)
    np.testing.assert_allclose(heat, grad_cam(plain, images), atol=1e-5)
    assert np.ptp(heat, axis=(1, 2)).max() > 0.1


def dense_alone(image):
    return [image, layers.Flatten()]


def pixels_alone(image):
    return [image, layers.Conv2D(4, 8), layers.Conv2D(4, 1), layers.Flatten()]


@keras.saving.register_keras_serializable()
class Subclassed(keras.Model):
    """A classifier without a graph of layers."""

    def __init__(self, **options):
        super().__init__(**options)
        self.parts = [layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()]

    def build(self, shape):
        for part in self.parts:
            part.build(shape)
            shape = part.compute_output_shape(shape)

    def call(self, image):
        for part in self.parts:
            image = part(image)
        return image


def subclassed(image):
    return [image, layers.Rescaling(1 / 255), Subclassed()]


@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("parts", [dense_alone, pixels_alone, subclassed])
def test_models_without_feature_maps_are_a_one_line_error(
    build, parts, functional, script, tmp_path, capfd
):
    build(parts(gray()), True, functional)
    assert script("predict.py", tmp_path / "model.keras", DIGIT, "--explain", tmp_path / "why") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "needs feature maps larger than one pixel" in line
    assert not (tmp_path / "why").exists()
