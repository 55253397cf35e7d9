"""Exports of models of any origin, checked by Keras' own exporter and by MediaPipe."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from keras_arch.export.model import export_model
from keras_arch.export.verification.verify import Reference, verify
from keras_arch.formats import FORMATS, ExportSettings
from keras_arch.models import all_layers

NAMES = tuple("0123456789")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr("keras_arch.export.verification.verify.THREADS", (1,))


# --- models ---


def own_sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ],
        name="my-net",
    )


def nested_with_augmentation():
    """A functional model of augmentation, a backbone in a model of its own, and a head."""
    image = keras.Input((8, 8, 3))
    augment = keras.Sequential([layers.RandomTranslation(0.05, 0.05), layers.RandomRotation(0.02)])
    backbone = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.SeparableConv2D(32, 3, padding="same", activation="relu"),
            layers.SeparableConv2D(32, 3, strides=2, activation="hard_swish"),
        ],
        name="backbone-2",
    )
    x = backbone(layers.Rescaling(1 / 127.5, -1)(augment(image)))
    return keras.Model(image, layers.Dense(10, activation="softmax")(layers.Flatten()(x)))


def with_new_head(builder, classes, size, rescale=False):
    """Return a model of keras.applications with preprocessing inside and a head of a few classes.

    Args:
        builder: name of a function of keras.applications.
        classes: number of classes.
        size: image size in pixels.
        rescale: whether the model takes images of -1 to 1 and needs a layer for it.
    """
    backbone = getattr(keras.applications, builder)(
        include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg"
    )
    image = keras.Input((size, size, 3), name="photo")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image) if rescale else image
    x = layers.Dropout(0.2)(backbone(x))
    return keras.Model(image, layers.Dense(classes, activation="softmax")(x), name=backbone.name)


# --- other parties ---


def run_file(path, images):
    """Return the probabilities of a .tflite file by LiteRT alone."""
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for one in images:
        interpreter.set_tensor(image["index"], one[np.newaxis].astype(image["dtype"]))
        interpreter.invoke()
        rows.append(interpreter.get_tensor(output["index"])[0])
    return np.array(rows)


def run_keras_export(model, folder, images):
    """Return the probabilities of the .tflite file that Keras itself writes."""
    path = folder / "keras.tflite"
    # Keras cannot trace every name of a model.
    named = keras.Model(model.inputs, model.outputs, name="plain")
    named.export(path, format="litert", verbose=False)
    return run_file(path, images)


def run_mediapipe(path, images):
    """Return the name of the top class of each image by MediaPipe's ImageClassifier."""
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        found = [
            classifier.classify(mediapipe.Image(mediapipe.ImageFormat.SRGB, one)) for one in images
        ]
    return [one.classifications[0].categories[0].category_name for one in found]


def check_files(
    model, calibration, images, labels, folder, formats=("float32", "int8"), agreement=None
):
    """Export a model, and compare the files with Keras, LiteRT and MediaPipe.

    Args:
        model: `keras.Model` of raw RGB images.
        calibration: images (count, height, width, 3) for the int8 file.
        images: held-out images (count, height, width, 3).
        labels: their classes.
        folder: empty directory.
        formats: names of formats, with float32 and int8.
        agreement: smallest fraction of images with the same top class in the int8 file, 0-1. None:
            its answers are not compared, as in an untrained model.
    """
    names = NAMES[: model.output_shape[-1]]
    settings = ExportSettings(formats=formats)
    specs, refused = export_model(model, folder, names, calibration, settings)
    assert not refused
    probabilities = model.predict(images, verbose=0)
    reference = Reference(images, labels, probabilities, names, max_drop=100)
    results = verify(folder, specs, reference)
    assert {name: row.problems for name, row in results.items()} == dict.fromkeys(formats, ())
    path = folder / FORMATS["float32"].file
    np.testing.assert_allclose(
        run_file(path, images), run_keras_export(model, folder, images), rtol=0, atol=1e-5
    )
    top = [names[number] for number in probabilities.argmax(axis=1)]
    assert run_mediapipe(path, images[:20]) == top[:20]
    if agreement is not None:
        print(f"{model.name}: int8 agreement {results['int8'].metrics.agreement:.2%}")
        assert results["int8"].metrics.agreement >= agreement
        found = run_mediapipe(folder / FORMATS["int8"].file, images)
        assert np.mean([one == right for one, right in zip(found, top, strict=True)]) >= agreement


# --- trained on real digits ---


@pytest.fixture(scope="module")
def color_digits(digits):
    """Return (images, labels) of training and test as RGB."""
    return [
        (np.repeat(split.images, 3, axis=-1), split.labels) for split in (digits.train, digits.test)
    ]


@pytest.mark.parametrize("build", [own_sequential, nested_with_augmentation])
@pytest.mark.slow
def test_a_trained_model_of_ones_own(build, color_digits, tmp_path):
    keras.utils.set_random_seed(0)
    (images, labels), (test_images, test_labels) = color_digits
    model = build()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=64, epochs=8, verbose=0)
    accuracy = np.mean(model.predict(test_images, verbose=0).argmax(axis=1) == test_labels)
    assert accuracy > 0.95
    check_files(model, images[:100], test_images, test_labels, tmp_path, agreement=0.99)


TRAINED = {  # name: (image size, whether it takes -1 to 1, epochs, whether the rate decays)
    "MobileNetV3Small": (64, False, 10, False),  # with decay, 4 of 360 answers change
    "EfficientNetV2B0": (64, False, 10, True),  # its name is efficientnetv2-b0
    "ResNet50V2": (32, True, 12, True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_trained_application(name, color_digits, tmp_path):
    """An application learns enlarged digits. int8 changes at most 1% of its answers."""
    keras.utils.set_random_seed(0)
    size, rescale, epochs, decay = TRAINED[name]
    (images, labels), (test_images, test_labels) = (
        (enlarge_to(size, images), labels) for images, labels in color_digits
    )
    model = with_new_head(name, 10, size, rescale)
    train(model, images, labels, epochs, decay)
    accuracy = np.mean(model.predict(test_images, verbose=0).argmax(axis=1) == test_labels)
    assert accuracy > 0.9
    check_files(model, images[:200], test_images, test_labels, tmp_path, agreement=0.99)


def train(model, images, labels, epochs, decay):
    """Train a model whose batch statistics converge in few steps."""
    for layer in all_layers(model):
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.7
    steps = epochs * -(-len(images) // 50)
    rate = keras.optimizers.schedules.CosineDecay(0.002, steps) if decay else 0.002
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(images, labels, batch_size=50, epochs=epochs, verbose=0)


def enlarge_to(size, images):
    """Return images (count, height, width, channels) in another size."""
    larger = keras.ops.image.resize(images.astype("float32"), (size, size))
    return np.round(keras.ops.convert_to_numpy(larger)).astype("uint8")


# --- keras.applications with random weights ---


APPLICATIONS = {  # name: ((classes, image size, whether it takes -1 to 1), further formats)
    "EfficientNetV2B0": ((10, 96, False), ("saved_model",)),
    "ResNet50V2": ((5, 64, True), ()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_with_a_new_head(name, tmp_path):
    """Its weights are random, so that int8 answers are not compared."""
    keras.utils.set_random_seed(0)
    head, formats = APPLICATIONS[name]
    classes, size, _ = head
    model = with_new_head(name, *head)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, size, size, 3), dtype="uint8")
    labels = rng.integers(0, classes, 20)
    check_files(model, images, images, labels, tmp_path, formats=(*formats, "float32", "int8"))
