"""Checks of models and images before an export, and the input of an int8 file."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import ROOT, latin_1_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import layers
from scipy.special import expit, softmax

import keras_arch
from keras_arch.artifacts.open import check_outputs, open_artifact
from keras_arch.class_names import find_class_names
from keras_arch.evaluation.grad_cam import grad_cam
from keras_arch.export.model import export_model, quantization_errors
from keras_arch.export.tflite import stretch_contrast
from keras_arch.export.verification.verify import Reference, verify
from keras_arch.formats import ExportSettings
from keras_arch.models import resize_model, strip_auxiliary_heads

NAMES = ("a", "b", "c")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype="uint8")
ONLY_FLOAT32 = ExportSettings(formats=("float32",))


def features():
    image = keras.Input((8, 8, 3), name="image")
    return image, layers.GlobalAveragePooling2D(name="avg_pool")(layers.Rescaling(1 / 255)(image))


def classifier(activation="softmax"):
    image, x = features()
    return keras.Model(
        image, layers.Dense(3, activation=activation, name="predictions")(x), name="small"
    )


# --- the range of int8 ---


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_span_is_stretched_to_exactly_255(dtype):
    for span in range(1, 256):
        for low in {0, (255 - span) // 2, 255 - span}:
            image = np.arange(low, low + span + 1).astype(dtype)[
                np.newaxis, :, np.newaxis, np.newaxis
            ]
            stretched = stretch_contrast(image)
            assert stretched.dtype == np.float32
            assert (stretched.min(), stretched.max()) == (0, 255), (low, span)


@given(arrays.arrays("uint8", (3, 4, 4, 1)).filter(lambda images: np.ptp(images[0]) > 0))
@settings(max_examples=200, deadline=None)
def test_any_calibration_images_span_0_to_255(images):
    before = images.copy()
    stretched = stretch_contrast(images)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert (images == before).all()
    kept = np.arange(3) != np.ptp(images, axis=(1, 2, 3)).argmax()
    np.testing.assert_array_equal(stretched[kept], images[kept])


@given(st.lists(st.floats(0, 255, width=32), min_size=2, max_size=9, unique=True))
@settings(max_examples=300, deadline=None)
def test_stretched_fractions_stay_within_0_to_255(pixels):
    stretched = stretch_contrast(np.array(pixels, "float32").reshape(1, -1, 1, 1))
    assert (stretched.min(), stretched.max()) == (0, 255)


def test_an_int8_file_takes_pixels_as_they_are_where_contrast_spans_252(tmp_path):
    images = IMAGES % 253  # 0 to 252
    assert np.ptp(images) == 252
    export_model(classifier(), tmp_path, NAMES, images, ExportSettings(formats=("int8",)))
    (image,) = Interpreter(str(tmp_path / "model_int8.tflite")).get_input_details()
    assert image["quantization"] == (1.0, 0)


# --- several outputs ---


def two_classifiers():
    image, x = features()
    return keras.Model(
        image,
        [layers.Dense(3, activation="softmax", name=name)(x) for name in ("species", "color")],
    )


def classes_and_embedding():
    image, x = features()
    embedding = layers.Dense(3, name="embedding")(x)
    species = layers.Dense(3, activation="softmax", name="species")(embedding)
    return keras.Model(image, {"species": species, "color": embedding})


def heads_of_another_model():
    """Names that look like those of auxiliary classifiers."""
    image, x = features()
    names = ("species", "auxiliary_color")
    return keras.Model(
        image, [layers.Dense(3, activation="softmax", name=name)(x) for name in names]
    )


def inside_a_model():
    image = keras.Input((8, 8, 3), name="image")
    return keras.Model(image, two_classifiers()(image))


TAKERS = {
    "strip_auxiliary_heads": lambda model, folder: strip_auxiliary_heads(model),
    "export_model": lambda model, folder: export_model(model, folder, NAMES, IMAGES, ONLY_FLOAT32),
    "resized": lambda model, folder: resize_model(model, 16, 16),
    "quantization_errors": lambda model, folder: quantization_errors(model, IMAGES, IMAGES),
    "grad_cam": lambda model, folder: grad_cam(model, IMAGES),
}


@pytest.mark.parametrize("take", TAKERS)
def test_several_outputs_are_refused_by_name(take, tmp_path):
    for build, names in (
        (two_classifiers, "species, color"),
        (classes_and_embedding, "color, species"),
    ):
        with pytest.raises(
            keras_arch.InputError, match=rf"one output.*Received: 2 outputs: {names}\."
        ) as refused:
            TAKERS[take](build(), tmp_path)
        assert len(str(refused.value)) < 300
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("build", [heads_of_another_model, inside_a_model])
def test_other_outputs_are_no_auxiliary_classifiers(build):
    with pytest.raises(keras_arch.InputError, match="Received: 2 outputs"):
        strip_auxiliary_heads(build())


@pytest.mark.parametrize("build", [two_classifiers, classes_and_embedding])
def test_a_file_with_several_outputs_is_refused_by_name(build, tmp_path):
    build().save(tmp_path / "model.keras")
    with pytest.raises(keras_arch.InputError, match=r"Received: 2 outputs: .*species"):
        open_artifact(tmp_path / "model.keras")


@pytest.mark.parametrize(
    "wrap", [list, lambda outputs: dict(zip("zya", outputs, strict=True))], ids=["list", "dict"]
)
def test_auxiliary_classifiers_are_stripped_from_a_list_or_dict(wrap):
    image, x = features()
    heads = ("predictions", "auxiliary_4a", "auxiliary_4d")
    outputs = [layers.Dense(3, activation="softmax", name=name)(x) for name in heads]
    stripped = strip_auxiliary_heads(keras.Model(image, wrap(outputs)))
    assert stripped.output is outputs[0]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda one: {"species": one},
        pytest.param(lambda one: [one], marks=pytest.mark.slow),
    ],
    ids=["dict", "list"],
)
def test_one_output_is_one_output_however_wrapped(wrap, tmp_path):
    plain = classifier()
    wrapped = keras.Model(plain.input, wrap(plain.output), name="small")
    export_model(
        wrapped, tmp_path, NAMES, IMAGES, ExportSettings(formats=("saved_model", "float32"))
    )
    wrapped.save(tmp_path / "model.keras")
    expected = plain.predict_on_batch(IMAGES)
    for file in ("model.keras", "model_float32.tflite", "saved_model"):
        np.testing.assert_allclose(
            open_artifact(tmp_path / file).predict(IMAGES), expected, atol=1e-6
        )


# --- probabilities ---


@pytest.mark.parametrize(
    ("activation", "fix"),
    [
        (None, r'classifier_activation="softmax".*Softmax'),
        ("sigmoid", "Replace it by a softmax, and train the model"),
        ("relu", r'classifier_activation="softmax".*Softmax'),
    ],
)
def test_outputs_that_are_no_probabilities_are_refused(activation, fix, tmp_path):
    model = classifier(activation)
    outputs = model.predict_on_batch(IMAGES)
    with pytest.raises(keras_arch.InputError, match=fix) as refused:
        export_model(model, tmp_path, NAMES, IMAGES, ONLY_FLOAT32)
    message = str(refused.value)
    sums = outputs.sum(axis=1)
    for number in (outputs.min(), outputs.max(), sums.min(), sums.max()):
        assert f"{number:.3g}" in message
    assert len(message) < 300
    assert not any(tmp_path.iterdir())


def test_a_softmax_after_logits_makes_probabilities(tmp_path):
    logits = classifier(None)
    model = keras.Model(logits.input, layers.Softmax()(logits.output))
    assert list(export_model(model, tmp_path, NAMES, IMAGES, ONLY_FLOAT32)[0]) == ["float32"]


SCORES = np.random.default_rng(0).normal(0, 2, (20, 1000))


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_8_bit_probabilities_are_accepted(classes):
    """Each rounds by up to 1/256. With 1,000 similar classes, the sum can be zero."""
    for spread in (0, 1, 20):
        exact = softmax(spread * SCORES[:, :classes], axis=1)
        rounded = np.minimum(np.round(exact * 256), 255) / 256  # as uint8 of scale 1/256
        for outputs in (exact, exact.astype("float16"), rounded):
            np.testing.assert_array_equal(
                check_outputs(outputs, "model.tflite"), outputs.astype("float32")
            )


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_independent_scores_of_a_file_are_refused(classes):
    with pytest.raises(
        keras_arch.InputError,
        match=r"model.keras must output class probabilities\. Received: .*sums",
    ):
        check_outputs(expit(SCORES[:, :classes]), "model.keras")


# --- images ---


def with_nan(images):
    images = images.astype("float32")
    images[2, 0, 0, 0] = np.nan
    return images


BAD_IMAGES = {  # name: (images, part of the message)
    "none": (IMAGES[:0], r"at least one image.*shape=\(0, 8, 8, 3\)"),
    "an empty list": ([], r"at least one image.*shape=\(0,\)"),
    "one image without a batch": (IMAGES[0], r"shape=\(8, 8, 3\)"),
    "text": (IMAGES.astype(str), r"dtype=<U"),
    "NaN": (with_nan(IMAGES), "finite.*Received: NaN or infinity in 1 of 6 images"),
    "infinity": (np.full_like(IMAGES, np.inf, "float32"), "6 of 6 images"),
    "-1 to 1": (IMAGES / 127.5 - 1, r"Received: pixels from -1 to 1\. .*Pass raw 0-255 pixels"),
    "0 to 1": (IMAGES / 255, r"Received: pixels from 0 to 1\. .*Pass raw 0-255 pixels"),
    "ImageNet's mean and deviation": (
        (IMAGES / 255 - 0.45) / 0.225,
        r"pixels from -2 to 2\.44444\.",
    ),
    "16 bits": (IMAGES.astype("uint16") * 257, r"pixels from 0 to 65535\."),
}


@pytest.mark.parametrize("bad", BAD_IMAGES)
def test_images_of_another_scale_are_refused(bad, tmp_path):
    images, message = BAD_IMAGES[bad]
    model = classifier()
    reference = Reference(
        np.asarray(images), np.zeros(len(images), int), np.full((len(images), 3), 1 / 3), NAMES
    )
    takers = {
        "calibration": lambda: export_model(model, tmp_path, NAMES, images, ONLY_FLOAT32),
        "calibration ": lambda: quantization_errors(model, images, IMAGES),
        "images": lambda: quantization_errors(model, IMAGES, images),
        "images ": lambda: verify(tmp_path, {}, reference),
    }
    for name, take in takers.items():
        with pytest.raises(keras_arch.InputError, match=f"`{name.strip()}`.*{message}") as refused:
            take()
        assert len(str(refused.value)) < 300
    assert not any(tmp_path.iterdir())


PROBABILITIES = np.full((len(IMAGES), 3), 1 / 3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES * 0.999, None, "integers of 0-255.*Received: float64 with fractions"),
        (IMAGES, np.zeros(len(IMAGES)), "one integer label for each.*dtype=float64"),
        (IMAGES, np.full(len(IMAGES), 3), "from 0 to 2. Received: 3 to 3"),
        (IMAGES, [0], r"Received: labels of shape \(1,\)"),
    ],
    ids=["fractions", "float labels", "labels of other classes", "few labels"],
)
def test_a_reference_that_does_not_fit_is_refused(images, labels, message, tmp_path):
    with pytest.raises(keras_arch.InputError, match=message):
        verify(tmp_path, {}, Reference(images, labels, PROBABILITIES, NAMES))


@pytest.mark.slow
def test_a_reference_may_hold_lists_tensors_and_floats(tmp_path, monkeypatch):
    monkeypatch.setattr("keras_arch.export.verification.verify.THREADS", (1,))
    model, images = classifier(), IMAGES.astype("float32")
    settings = ExportSettings(formats=("saved_model", "float32"))
    specs, _ = export_model(model, tmp_path, NAMES, IMAGES, settings)
    probabilities = model(images)
    labels = np.argmax(probabilities, axis=1).tolist()
    rows = verify(tmp_path, specs, Reference(images, labels, probabilities, NAMES))
    assert [(row.problems, row.metrics.top1) for row in rows.values()] == [((), 1)] * 2


def test_dark_pixels_are_no_normalized_ones(tmp_path):
    """Integers of 0 and 1 are raw pixels of a mask."""
    specs, _ = export_model(classifier(), tmp_path, NAMES, IMAGES % 2, ONLY_FLOAT32)
    assert list(specs) == ["float32"]


# --- names of folders and models ---


def exported(model, folder, *formats):
    """Return the specifications of an export of `model` and the results of its verification."""
    specs, refused = export_model(model, folder, NAMES, IMAGES, ExportSettings(formats=formats))
    assert refused == {}
    probabilities = model.predict(IMAGES, verbose=0)
    return specs, verify(
        folder, specs, Reference(IMAGES, probabilities.argmax(axis=1), probabilities, NAMES)
    )


@pytest.mark.slow
def test_a_folder_may_be_named_as_a_pattern(tmp_path, monkeypatch):
    """TensorFlow finds the variables of a SavedModel by a pattern (tensorflow#32614)."""
    monkeypatch.setattr("keras_arch.export.verification.verify.THREADS", (1,))
    model, folder, other = classifier(), tmp_path / "a [1]*", tmp_path / "a 1b"
    folder.mkdir()
    other.mkdir()
    export_model(classifier(), other, NAMES, IMAGES, ExportSettings(formats=("saved_model",)))
    _, rows = exported(model, folder, "saved_model", "float32")
    assert [row.problems for row in rows.values()] == [(), ()]
    for file in ("saved_model", "model_float32.tflite"):
        found = open_artifact(folder / file).predict(IMAGES.astype("float32"))
        np.testing.assert_allclose(found, model.predict(IMAGES, verbose=0), atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, other.name}


FREE_NAMES = (pytest.param("efficientnetv2-b0", marks=pytest.mark.slow), "_modèle 日本")


def named(name):
    image, x = features()
    return keras.Model(
        image, layers.Dense(3, activation="softmax", name="predictions")(x), name=name
    )


@pytest.mark.parametrize("name", FREE_NAMES)
def test_any_name_of_a_model_is_exported_and_kept(name, tmp_path):
    model = named(name)
    settings = ExportSettings(formats=("saved_model", "float32"))
    specs, refused = export_model(model, tmp_path, NAMES, IMAGES, settings)
    assert refused == {}
    assert list(specs) == ["saved_model", "float32"]
    assert model.name == name
    assert (
        name.encode() in (tmp_path / "model_float32.tflite").read_bytes()
    )  # the metadata, which is UTF-8
    model.save(tmp_path / "model.keras")
    expected = model(IMAGES).numpy()
    for file in ("saved_model", "model_float32.tflite", "model.keras"):
        found = open_artifact(tmp_path / file).predict(IMAGES.astype("float32"))
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_layers_that_cannot_be_traced_are_named(tmp_path):
    image, x = features()
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="my classes")(x))
    model.save(tmp_path / "model.keras")
    before = list(tmp_path.iterdir())
    takers = {name: TAKERS[name] for name in ("export_model", "quantization_errors")}
    takers["open_artifact"] = lambda model, folder: open_artifact(folder / "model.keras")
    for take in takers.values():
        with pytest.raises(
            keras_arch.InputError, match=r"Names of layers must be .*Received: 'my classes'\."
        ) as refused:
            take(model, tmp_path)
        assert len(str(refused.value)) < 300
    assert list(tmp_path.iterdir()) == before


def wrapped(kind):
    """Return a model with its input and output in a list or dict."""
    image = keras.Input((8, 8, 3), name="image")
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1)(layers.Rescaling(1 / 255)(image)))
    output = layers.Dense(3, activation="softmax", name="predictions")(x)
    return (
        keras.Model({"image": image}, {"scores": output})
        if kind == "dict"
        else keras.Model([image], [output])
    )


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_one_image_and_one_output_may_be_wrapped(kind, tmp_path):
    model = wrapped(kind)
    model.save(tmp_path / "model.keras")
    plain = keras.Model(model.inputs[0], model.outputs[0])
    expected = plain(IMAGES).numpy()
    settings = ExportSettings(formats=("saved_model", "float32"))
    specs, refused = export_model(model, tmp_path, NAMES, IMAGES, settings)
    assert refused == {}
    assert list(specs) == list(settings.formats)
    for file in ("saved_model", "model_float32.tflite", "model.keras"):
        found = open_artifact(tmp_path / file).predict(IMAGES.astype("float32"))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    larger = resize_model(model, 16, 16)(IMAGES.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_allclose(larger, expected, atol=1e-5)
    np.testing.assert_array_equal(grad_cam(model, IMAGES), grad_cam(plain, IMAGES))


@pytest.mark.parametrize("nested", [False, True])
def test_mixed_precision_is_refused(nested, tmp_path):
    image, x = features()
    dense = layers.Dense(3, activation="softmax", dtype="mixed_bfloat16", name="predictions")
    output = keras.Sequential([dense], name="head")(x) if nested else dense(x)
    model = keras.Model(image, layers.Activation("linear", dtype="float32")(output))
    for take in ("export_model", "quantization_errors"):
        with pytest.raises(
            keras_arch.InputError, match="`predictions` in mixed_bfloat16"
        ) as refused:
            TAKERS[take](model, tmp_path)
        assert len(str(refused.value)) < 300
    assert list(tmp_path.iterdir()) == []


# --- class names and folders ---


@pytest.mark.parametrize(
    "names",
    [pytest.param(range(3), marks=pytest.mark.slow), np.arange(3), ["0", 1, "2"]],
    ids=["range", "numpy", "mixed"],
)
def test_numbers_are_class_names(names, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_arch.export.verification.verify.THREADS", (1,))
    model = classifier()
    specs, refused = export_model(model, str(tmp_path), names, IMAGES, ONLY_FLOAT32)
    assert refused == {}
    assert (tmp_path / "labels.txt").read_bytes() == b"0\n1\n2\n"
    probabilities = model.predict(IMAGES, verbose=0)
    reference = Reference(IMAGES, probabilities.argmax(axis=1), probabilities, names)
    assert verify(str(tmp_path), specs, reference)["float32"].problems == ()


WRONG_NAMES = {  # name: (class names, part of the message)
    "a string": ("abc", "Received: 'abc'"),
    "None": (["a", None, "c"], "Received: None"),
    "fractions": ([0.5, 1.5, 2.5], "Received: 0.5"),
    "bytes": ([b"a", b"b", b"c"], "Received: b'a'"),
    "none": ([], r"Received: \[\]"),
    "a line break": (["a", "b\nc", "d"], r"Class names must be .* Received: 'b\\nc'"),
    "an empty one": (["a", "", "c"], "Received: ''"),
}


@pytest.mark.parametrize("wrong", WRONG_NAMES)
def test_wrong_class_names_are_refused(wrong, tmp_path):
    names, message = WRONG_NAMES[wrong]
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        export_model(classifier(), tmp_path, names, IMAGES, ONLY_FLOAT32)
    assert len(str(refused.value)) < 300
    assert list(tmp_path.iterdir()) == []


STRANGE_NAMES = (
    " a",
    "a ",
    "a",
    "a\tb",
    "é",
    "e\u0301",
    "x\x85y\u2028z",
    "a\0",
    '"q", \\n',
    "猫🐱",
    "z" * 3000,
    "a",
)


def test_every_file_has_the_class_names_unchanged(tmp_path):
    """The model outputs class n for an image of pixels n. Two classes may have the same name."""
    numbers = np.arange(len(STRANGE_NAMES))
    image = keras.Input((4, 4, 3), name="image")
    head = layers.Dense(len(numbers), activation="softmax")
    model = keras.Model(image, head(layers.GlobalAveragePooling2D()(image)))
    head.set_weights(
        [np.tile(2 / 3 * numbers, (3, 1)), -1.0 * numbers**2]
    )  # logits -(pixel - n)^2 without the common term
    images = np.full((len(numbers), 4, 4, 3), numbers.reshape(-1, 1, 1, 1), "float32")
    _, refused = export_model(
        model, tmp_path, STRANGE_NAMES, images, ExportSettings(("float32", "saved_model"))
    )
    assert refused == {}
    assert (tmp_path / "labels.txt").read_bytes() == "".join(
        f"{name}\n" for name in STRANGE_NAMES
    ).encode()
    served = tf.saved_model.load(tmp_path / "saved_model").signatures["serving_default"](
        image=tf.constant(images)
    )
    assert [name.decode() for name in served["classes"].numpy()] == list(STRANGE_NAMES)
    for file in ("model_float32.tflite", "saved_model"):
        artifact = open_artifact(tmp_path / file)
        np.testing.assert_array_equal(artifact.predict(images).argmax(axis=1), numbers)
        assert artifact.class_names == STRANGE_NAMES


@pytest.mark.parametrize("name", ["float32", "saved_model", "onnx"])
def test_a_folder_that_is_not_utf_8(name, tmp_path):
    if name == "onnx":
        pytest.importorskip("tf2onnx")
        pytest.importorskip("onnxruntime")
    folder, model = latin_1_folder(tmp_path, "Köln"), classifier()
    specs, refused = export_model(model, folder, NAMES, IMAGES, ExportSettings((name,)))
    assert refused == {}
    artifact = open_artifact(folder / specs[name].file)
    np.testing.assert_allclose(
        artifact.predict(IMAGES), model.predict(IMAGES, verbose=0), atol=1e-5
    )
    assert find_class_names(artifact) == NAMES


@pytest.mark.parametrize("folder", ["missing", 3])
def test_a_folder_that_does_not_exist_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        keras_arch.InputError, match=f"`folder` must be an existing directory. Received: {folder}"
    ):
        export_model(classifier(), folder, NAMES, IMAGES, ONLY_FLOAT32)
    assert list(tmp_path.iterdir()) == []


# --- other backends of Keras ---

NEED_TENSORFLOW = ("export_model", "quantization_errors", "grad_cam")


@pytest.mark.parametrize("take", NEED_TENSORFLOW)
def test_another_backend_is_refused(take, tmp_path, monkeypatch):
    model = classifier()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    expected = rf"`{take}` needs Keras on TensorFlow\. Received: the backend jax\. .*KERAS_BACKEND=tensorflow"
    with pytest.raises(keras_arch.InputError, match=expected) as refused:
        TAKERS[take](model, tmp_path)
    assert len(str(refused.value)) < 300
    assert list(tmp_path.iterdir()) == []


ON_ANOTHER_BACKEND = """
import pathlib, sys
from test_export_checks import NEED_TENSORFLOW, TAKERS, classifier, keras_arch
for take in NEED_TENSORFLOW:
    try:
        TAKERS[take](classifier(), pathlib.Path(sys.argv[1]))
    except keras_arch.InputError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_is_refused_in_its_own_process(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install {backend}")
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}:{Path(__file__).parent}",
    }
    command = [sys.executable, "-c", ON_ANOTHER_BACKEND, tmp_path]
    lines = subprocess.check_output(command, env=environment, text=True).splitlines()
    start = "`{}` needs Keras on TensorFlow. Received: the backend {}."
    for take, line in zip(NEED_TENSORFLOW, lines, strict=True):
        assert line.startswith(start.format(take, backend))
    assert list(tmp_path.iterdir()) == []
