"""Exports of Keras models of any origin, with `export_and_verify` and from the command line."""

import json
import warnings
import zipfile

import keras
import numpy as np
import pytest
from conftest import run_script
from keras import layers
from PIL import Image

import keras_arch
from keras_arch.artifacts.open import open_artifact
from keras_arch.class_names import pack_labels
from keras_arch.evaluation.grad_cam import grad_cam
from keras_arch.export.classifier import export_and_verify
from keras_arch.export.input_range import check_input_range
from keras_arch.export.model import build_spec, quantization_errors
from keras_arch.export.model_file import (
    ModelFileOptions,
    append_softmax,
    open_model_file,
    select_output,
    with_probabilities,
)
from keras_arch.export.record import raise_problems
from keras_arch.export.verification.graph import list_float_problems
from keras_arch.formats import FORMATS, ExportSettings

NAMES = ("blue", "green", "red")
COLORS = np.eye(3)[::-1]  # RGB
ONLY_FLOAT32 = ExportSettings(formats=("float32",))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setattr("keras_arch.export.verification.verify.THREADS", (1,))


def colored(count, seed=0):
    """Return noisy images 8x8 in which one channel is brighter, and the class of each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 128, (count, 8, 8, 3)) + 127 * COLORS[labels][:, None, None]
    return images.astype("uint8"), labels


IMAGES, LABELS = colored(30)
FLOATS = IMAGES.astype("float32")


def set_head(model, scale=1.0):
    """Let the last dense layer compare the means of the channels, which are 64 or 191."""
    dense = [layer for layer in model.layers if isinstance(layer, layers.Dense)][-1]
    dense.set_weights([COLORS.T * scale, np.zeros(3)])
    return model


def sequential(activation="softmax", front=layers.Rescaling(1 / 255), name="small", scale=8.0):  # noqa: B008
    """Return a classifier of the colors. Without `front`, it expects pixels of -1 to 1."""
    parts = [keras.Input((8, 8, 3)), *filter(None, [front]), layers.GlobalAveragePooling2D()]
    head = layers.Dense(3, activation=activation, name="predictions")
    return set_head(keras.Sequential([*parts, head], name=name), scale)


def nested(name="small"):
    """Return a model with augmentation and a nested backbone with batch normalization."""
    augment = keras.Sequential(
        [layers.RandomFlip(), layers.RandomRotation(0.2), layers.RandomContrast(0.5)],
        name="augment",
    )
    inside = keras.Input((8, 8, 3))
    conv = layers.Conv2D(3, 1, use_bias=False, name="conv")
    outputs = layers.BatchNormalization(name="bn")(conv(inside))
    conv.set_weights([np.eye(3)[np.newaxis, np.newaxis]])
    backbone = keras.Model(inside, outputs, name="backbone")
    image = keras.Input((8, 8, 3))
    x = backbone(layers.Rescaling(1 / 127.5, offset=-1)(augment(image)))
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return set_head(keras.Model(image, layers.Dense(3, activation="softmax")(x), name=name), 4.0)


def two_outputs(as_dict=False):
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image))
    color = layers.Dense(3, activation="softmax", name="color")(x)
    size = layers.Dense(2, activation="softmax", name="size")(x)
    return keras.Model(image, {"tone": color, "area": size} if as_dict else [color, size])


# --- Python ---


@pytest.mark.parametrize("build", [sequential, nested])
def test_one_call_exports_verifies_and_describes(build, tmp_path):
    model, folder = build(name="modèle 日本"), tmp_path / "new" / "export"
    settings = ExportSettings(formats=("float32", "int8"), license="MIT")
    report = export_and_verify(model, folder, NAMES, IMAGES, colored(24, 1), settings)
    assert {path.name for path in folder.iterdir()} == {
        *("model_float32.tflite", "model_int8.tflite"),
        *("labels.txt", "export.json", "MODEL_CARD.md"),
    }
    assert json.loads((folder / "export.json").read_text()) == json.loads(json.dumps(report))
    assert report["verification"]["top1"] == 1
    assert report["pixels"] == [0, 255]
    for row in report["artifacts"].values():
        assert row["problems"] == ()
        assert (row["metrics"]["images"], row["metrics"]["top1"]) == (24, 1)
    card = (folder / "MODEL_CARD.md").read_text()
    assert card.startswith("# modèle 日本\n")
    assert "Accuracy on 24 test images." in card
    assert "Calibration of integer files: 30 calibration images" in card
    expected = model(FLOATS, training=False).numpy()
    artifact = open_artifact(folder / "model_float32.tflite")
    np.testing.assert_allclose(artifact.predict(IMAGES), expected, atol=1e-5)
    assert artifact.class_names == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my-net", "_modèle 日本"])
def test_all_formats_of_a_nested_model(name, tmp_path):
    """Augmentation is inactive, and the state of its random numbers is no obstacle."""
    pytest.importorskip("tf2onnx")
    formats = ("saved_model", "float32", "float16", "dynamic", "int8", "int16x8", "onnx")
    for build in (sequential, nested):
        report = export_and_verify(
            build(name=name), tmp_path, NAMES, IMAGES, (IMAGES, LABELS), ExportSettings(formats)
        )
        assert list(report["artifacts"]) == list(formats)
        assert report["model"] == name
        for row in report["artifacts"].values():
            assert (row["refused"], row["metrics"]["agreement"]) == (None, 1)


@pytest.mark.slow
@pytest.mark.parametrize("application", ["resnet_v2", "densenet"])
def test_preprocessing_of_keras_applications_is_part_of_a_file(application, tmp_path):
    """`preprocess_input` adds operations to the model, which are no layers."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    x = getattr(keras.applications, application).preprocess_input(image)
    for convolution in (layers.Conv2D(8, 3, strides=2), layers.DepthwiseConv2D(3)):
        x = layers.ReLU(6.0)(layers.BatchNormalization()(convolution(x)))
    x = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), "uint8")
    settings = ExportSettings(formats=("float32", "int8"))
    report = export_and_verify(model, tmp_path, NAMES, images, settings=settings)
    for row in report["artifacts"].values():
        assert (row["refused"], row["problems"]) == (None, ())
    found = open_artifact(tmp_path / "model_float32.tflite").predict(images)
    np.testing.assert_allclose(found, model.predict(images, verbose=0), atol=1e-5)


@pytest.mark.parametrize("nest", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_preprocessing_of_resnet_takes_raw_pixels_in_int8(nest, tmp_path):
    """It stacks the channels in another order. Their scale is not that of the file's input."""
    image = keras.Input((8, 8, 3))
    bgr = keras.applications.resnet.preprocess_input(image)
    if nest:
        image = keras.Input((8, 8, 3))
        bgr = keras.Sequential([keras.Model(*swap_channels(), name="swap")])(image)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1, name="conv")(bgr))
    model = keras.Model(image, layers.Dense(3, activation="softmax", name="predictions")(x))
    model.get_layer("conv").set_weights([np.eye(3)[np.newaxis, np.newaxis, ::-1], np.zeros(3)])
    set_head(model, 0.03)
    formats = ("float32", "int8") if nest else ("int8",)
    report = export_and_verify(
        model, tmp_path, NAMES, IMAGES, (IMAGES, LABELS), ExportSettings(formats)
    )
    (image,) = report["artifacts"]["int8"]["inputs"]
    assert (image["type"], image["scale"], image["zero_point"]) == ("uint8", 1.0, 0)
    assert report["verification"]["top1"] == report["artifacts"]["int8"]["metrics"]["top1"] == 1


def swap_channels():
    image = keras.Input((8, 8, 3))
    return image, keras.applications.resnet.preprocess_input(image)


def with_uint8_input():
    image = keras.Input((8, 8, 3), dtype="uint8")
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image))
    return set_head(keras.Model(image, layers.Dense(3, activation="softmax")(x)), 8.0)


def with_sine():
    image = keras.Input((8, 8, 3))
    x = keras.ops.sin(layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image)))
    return set_head(keras.Model(image, layers.Dense(3, activation="softmax")(x)), 8.0)


def with_split():
    image = keras.Input((8, 8, 3))
    bgr = keras.ops.concatenate(keras.ops.split(image, 3, axis=-1)[::-1], axis=-1)
    x = layers.GlobalAveragePooling2D()(bgr - np.array([103.939, 116.779, 123.68], "float32"))
    return set_head(keras.Model(image, layers.Dense(3, activation="softmax")(x)), 0.03)


INTEGER_FAULTS = {  # function: start of a problem
    with_uint8_input: "model_int8.tflite: operator: CAST computes in float32 in an int8 file. "
    "Build the model with a float32 keras.Input.",
    with_sine: "model_int8.tflite: operator: SIN computes in float32 in an int8 file. "
    "int8 has no such operator.",
    with_split: "model_int8.tflite: input: scale of image must be 1.0. Received: ",
}


def test_operators_that_compute_in_float32_have_a_cause():
    uint8_input, missing, end = ("DEQUANTIZE", "CAST"), ("NEG", "DEQUANTIZE"), ("DEQUANTIZE",)
    (problem,) = list_float_problems(uint8_input)
    assert problem.startswith("operator: CAST computes in float32 in an int8 file. Build the model")
    (problem,) = list_float_problems(missing)
    assert problem.endswith("NEG computes in float32 in an int8 file. int8 has no such operator.")
    assert len(list_float_problems(end)) == 1


def test_quantized_formats_that_fail_are_left_out(tmp_path):
    def report(**problems):
        return {
            "artifacts": {name: {"file": name, "problems": row} for name, row in problems.items()}
        }

    raise_problems(tmp_path, report(float32=[], int8=[]))
    for rows, message in (
        (
            {"float32": [], "int8": ["a"], "int16x8": ["b"]},
            "Leave int8 and int16x8 out of `formats`",
        ),
        ({"float32": ["a"], "int8": ["a"]}, "2 problems, so .* was not changed:$"),
        ({"int8": ["a"]}, "1 problem, so .* was not changed:$"),
    ):
        with pytest.raises(keras_arch.VerificationError, match=message):
            raise_problems(tmp_path, report(**rows))


@pytest.mark.slow
@pytest.mark.parametrize("build", INTEGER_FAULTS)
def test_an_int8_file_that_fails_names_cause_and_remedy(build, tmp_path):
    settings = ExportSettings(formats=("float32", "int8"))
    with pytest.raises(keras_arch.VerificationError) as failed:
        export_and_verify(build(), tmp_path / "export", NAMES, IMAGES, settings=settings)
    assert "was not changed. Leave int8 out of `formats` (--formats). " in str(failed.value)
    assert any(problem.startswith(INTEGER_FAULTS[build]) for problem in failed.value.details)
    assert not any("DEQUANTIZE" in problem for problem in failed.value.details)


def with_batch(size):
    image = keras.Input(batch_shape=(size, 8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 255)(image))
    return set_head(keras.Model(image, layers.Dense(3, activation="softmax")(x)), 8.0)


def built_by_a_call():
    model = keras.Sequential(sequential().layers)
    model(FLOATS)
    assert model.input_shape == (30, 8, 8, 3)
    return model


@pytest.mark.parametrize("build", [built_by_a_call, lambda: with_batch(1)])
def test_a_file_of_a_fixed_batch_size_takes_any(build):
    model = build()
    for name in ("saved_model", "onnx"):
        spec = build_spec(FORMATS[name], model, model, None)
        assert spec.inputs[0].shape == (None, 8, 8, 3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["saved_model", "onnx"])
@pytest.mark.parametrize("build", [built_by_a_call, lambda: with_batch(1)])
def test_a_fixed_batch_size_becomes_free(form, build, tmp_path):
    if form == "onnx":
        pytest.importorskip("tf2onnx")
    model, settings = build(), ExportSettings(formats=(form, "float32"))
    report = export_and_verify(model, tmp_path / "new", NAMES, IMAGES, (IMAGES, LABELS), settings)
    for name, row in report["artifacts"].items():
        assert row["problems"] == ()
        assert row["inputs"][0]["shape"] == ((1 if name == "float32" else None), 8, 8, 3)
    model.save(tmp_path / "fixed.keras")
    expected = sequential()(FLOATS).numpy()
    for path in (tmp_path / "fixed.keras", *(tmp_path / "new").glob("*model*[!d]")):
        for count in (1, 7, 30):
            found = open_artifact(path).predict(IMAGES[:count])
            np.testing.assert_allclose(found, expected[:count], atol=1e-5)


def only_in_training():
    """Return a model that runs in training alone: a crop that is inactive in inference."""
    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(OnlyInTraining()(image))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x))


@keras.saving.register_keras_serializable("test_any_model")
class OnlyInTraining(layers.Layer):
    def call(self, images, training=True):
        return images[:, :6, :6] if training else images

    def compute_output_shape(self, shape):
        return (shape[0], 6, 6, shape[3])

    def compute_output_spec(self, images, training=True):
        return keras.KerasTensor(self.compute_output_shape(images.shape), images.dtype)


RUNNERS = {
    "export_and_verify": lambda model, folder: export_and_verify(model, folder, NAMES, IMAGES),
    "export_model": lambda model, folder: keras_arch.export_model(model, folder, NAMES, IMAGES),
    "quantization_errors": lambda model, folder: quantization_errors(model, IMAGES, IMAGES),
    "grad_cam": lambda model, folder: grad_cam(model, IMAGES),
    "append softmax": lambda model, folder: with_probabilities(model, IMAGES, softmax=True),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_model_that_keras_cannot_run_is_refused(runner, tmp_path):
    with pytest.raises(keras_arch.InputError, match=r"Keras must be able to run .* Received: "):
        RUNNERS[runner](only_in_training(), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_saved_model_of_other_channels_is_refused(tmp_path):
    images = np.repeat(IMAGES[..., :2], 2, axis=-1)
    image = keras.Input((8, 8, 4))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x))
    with pytest.raises(
        keras_arch.InputError, match=r"1 or 3 channels\. Received: .* of 4 channels"
    ):
        export_and_verify(model, tmp_path / "export", NAMES, images)
    assert not any(tmp_path.iterdir())
    export_and_verify(model, tmp_path, NAMES, images, settings=ONLY_FLOAT32)
    found = open_artifact(tmp_path / "model_float32.tflite").predict(images)
    np.testing.assert_allclose(found, model(images.astype("float32")), atol=1e-5)


def test_without_labels_files_are_compared_with_the_model_alone(tmp_path):
    report = export_and_verify(sequential(), tmp_path, NAMES, IMAGES, settings=ONLY_FLOAT32)
    assert report["verification"]["top1"] is None
    (row,) = report["artifacts"].values()
    assert row["metrics"]["images"] == 30
    assert row["metrics"]["agreement"] == 1
    assert [row["metrics"][name] for name in ("top1", "top5", "drop", "drop_interval")] == 4 * [
        None
    ]
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "Compared with the Keras model alone on 30 calibration images. No labels" in card
    assert "| size | agreement | maximum absolute error |" in card
    assert "| 100.00% |" in card
    assert "accuracy |" not in card
    assert "Its accuracy is unknown." in card


def test_a_file_that_fails_keeps_the_earlier_export(tmp_path, monkeypatch):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "export.json").write_text("earlier")
    monkeypatch.setattr("keras_arch.export.verification.checks.TOLERANCE", -1)
    with pytest.raises(keras_arch.VerificationError) as failed:
        export_and_verify(sequential(), tmp_path / "one", NAMES, IMAGES, settings=ONLY_FLOAT32)
    assert "maximum absolute error" in failed.value.details[0]
    assert (tmp_path / "one" / "export.json").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


BAD = {  # name: (changes of the arguments, part of the message)
    "a directory of others": ({"folder": "others"}, "has no export.json, so it is not replaced"),
    "images of another shape": ({"test": (IMAGES[:, :4], LABELS)}, r"`test` must have the model's"),
    "one-hot labels": ({"test": (IMAGES, np.eye(3)[LABELS])}, "one integer label for each of 30"),
    "too large labels": ({"test": (IMAGES, LABELS + 1)}, "must be from 0 to 2. Received: 1 to 3"),
    "images alone": ({"test": IMAGES}, r"must be \(images, labels\) or None. Received: ndarray"),
    "logits": ({"model": sequential(None)}, "append a Softmax layer"),
    "sigmoid": ({"model": sequential("sigmoid")}, "scores of a sigmoid. Replace it by a softmax"),
    "a set of names": (
        {"class_names": {*NAMES}},
        "in the order of .* Received: a set. Pass a list",
    ),
    "a dict of names": ({"class_names": dict(enumerate(NAMES))}, "Received: a dict. Pass a list"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_arguments_are_refused_before_any_work(bad, tmp_path):
    changes, message = BAD[bad]
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "thesis.txt").touch()
    arguments = {
        **{"model": sequential(), "folder": "export", "class_names": NAMES},
        **{"calibration": IMAGES, "settings": ONLY_FLOAT32},
    } | changes
    with pytest.raises(keras_arch.InputError, match=message):
        export_and_verify(**arguments | {"folder": tmp_path / arguments["folder"]})
    assert [path.name for path in tmp_path.rglob("*")] == ["others", "thesis.txt"]


# --- the range of the pixels ---


def saturating():
    """Return a model for 0 to 1 whose answers for raw pixels vary, but are saturated."""
    return sequential(front=None, scale=4.0)


def constant():
    """Return a model for -1 to 1 that gives the same answer for all raw pixels."""
    image = keras.Input((8, 8, 3))
    x = layers.Activation("tanh")(layers.GlobalAveragePooling2D()(image))
    return set_head(keras.Model(image, layers.Dense(3, activation="softmax")(x)), 4.0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (saturating, "may take .*Received: saturated probabilities for raw images alone"),
        (constant, "may take -1 to 1. Received: answers that vary little for raw images"),
    ],
)
def test_a_model_of_another_range_is_refused(build, message, tmp_path):
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        export_and_verify(build(), tmp_path / "export", NAMES, IMAGES, settings=ONLY_FLOAT32)
    assert "keras.layers.Rescaling(1 / " in str(refused.value)
    assert "--skip-range-check" in str(refused.value)
    assert len(str(refused.value)) < 290
    assert list(tmp_path.iterdir()) == []
    image = keras.Input((8, 8, 3))
    front = layers.Rescaling(1 / 127.5, offset=-1)
    check_input_range(keras.Model(image, build()(front(image))), IMAGES)  # the hint is a remedy


def test_the_accuracy_shows_the_range_of_imagenet_models():
    """In BGR, red and blue are swapped. The answers vary as much."""
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(layers.Rescaling(1 / 50)(image))
    model = set_head(keras.Model(image, layers.Dense(3, activation="softmax")(x)))
    swapped = 2 - LABELS
    check_input_range(model, IMAGES)
    check_input_range(model, IMAGES, LABELS)
    with pytest.raises(keras_arch.InputError, match=r"BGR minus .* of 33% for .* of 100% for"):
        check_input_range(model, IMAGES, swapped)


def linear(weight, offset=0.0):
    """Return a classifier that compares the means of the channels without normalization."""
    image = keras.Input((8, 8, 3))
    head = layers.Dense(3, activation="softmax")
    model = keras.Model(image, head(layers.GlobalAveragePooling2D()(image)))
    head.set_weights([weight * COLORS.T, np.array([0, 0, offset])])
    return model


def test_saturated_probabilities_alone_do_not_accuse():
    """The margin of a model of raw pixels can be large. Then scaled images are undecided."""
    probabilities = linear(1.0)(FLOATS).numpy()
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    assert np.median(np.log(first) - np.log(np.maximum(second, 1e-38))) > 80
    check_input_range(linear(1.0), IMAGES)
    with pytest.raises(keras_arch.InputError, match="may take -1 to 1 or 0 to 1"):
        check_input_range(linear(8.0), IMAGES)


def test_labels_decide():
    """The probabilities are saturated in all cases. The accuracy says whether they are right."""
    with pytest.warns(keras_arch.DataWarning, match=r"may take .*saturated"):
        check_input_range(linear(8.0), IMAGES, LABELS)  # 100% in every range
    biased = linear(8.0, offset=-400.0)  # scaled images never get the third class: 67%
    with pytest.raises(keras_arch.InputError, match=r"may take .*saturated"):
        check_input_range(biased, IMAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_input_range(biased, IMAGES, LABELS)
    with pytest.raises(keras_arch.InputError, match=r"may take .*saturated"):
        check_input_range(linear(8.0), IMAGES, 0 * LABELS)  # 33%, below the frequent class


def test_images_sorted_by_class_are_sampled_from_all():
    images, labels = colored(300)
    order = labels.argsort(kind="stable")
    assert not labels[order][:64].any()
    with pytest.raises(keras_arch.InputError, match="may take"):
        check_input_range(saturating(), images[order])


def test_labels_name_the_range():
    """A model for 0 to 1 whose raw and scaled answers differ from those for -1 to 1."""
    image = keras.Input((8, 8, 3))
    x = layers.GlobalAveragePooling2D()(image)
    x = keras.ops.concatenate([x, keras.ops.maximum(0.0, -keras.ops.min(x, 1, True))], 1)
    head = layers.Dense(3, activation="softmax")
    model = keras.Model(image, head(x))
    head.set_weights([np.vstack([8 * COLORS.T, [[-50.0, 0, 50.0]]]), np.zeros(3)])
    with pytest.warns(keras_arch.DataWarning, match="may take 0 to 1. Received"):
        check_input_range(model, IMAGES, LABELS)


INNOCENT = {
    "margin of 80": lambda: linear(1.0),
    "margin of 40": lambda: linear(0.33),
    "untrained": lambda: keras_arch.ResNet8(input_shape=(8, 8, 3), classes=3),
    "trained": sequential,
    "overconfident": lambda: sequential(scale=100.0),
    "constant": lambda: sequential(scale=0.0),
    "contrast does not matter": lambda: sequential(front=layers.UnitNormalization(axis=(1, 2, 3))),
    "nested": nested,
}


@pytest.mark.parametrize("name", INNOCENT)
def test_models_of_raw_pixels_are_not_accused(name):
    model = INNOCENT[name]()
    check_input_range(model, IMAGES)
    check_input_range(model, IMAGES, LABELS)
    check_input_range(model, IMAGES[::3], LABELS[::3])  # one class


# --- .keras files ---


@pytest.fixture
def folder(tmp_path):
    """A directory with image folders."""
    for split, seed, count in (("pictures", 0, 18), ("test", 1, 12)):
        for number, (image, label) in enumerate(zip(*colored(count, seed), strict=True)):
            path = tmp_path / split / NAMES[label] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    (tmp_path / "labels.txt").write_text("blue\ngreen\nred\n")
    return tmp_path


def opened(folder, model, settings=ONLY_FLOAT32, **options):
    model.save(folder / "my-net.keras")
    options = {"class_names": NAMES, "calibration": str(folder / "pictures")} | options
    return open_model_file(folder / "my-net.keras", ModelFileOptions(**options), settings)


def test_the_command_exports_a_file_of_any_origin(folder, capfd, monkeypatch):
    monkeypatch.chdir(folder)
    model = nested("my-net")
    model.save("my-net.keras")
    words = ("--calibration", "pictures", "--test", "test", "--formats", "float32")
    pack_labels("my-net.keras", NAMES)
    assert run_script("export.py", "my-net.keras", *words) == 0
    printed = capfd.readouterr().out
    assert "Exporting to my-net_export and verifying" in printed
    assert "Verified on 12 test images:" in printed
    assert "raw pixels of 0-255" in printed
    assert printed.endswith("  keras-arch demo my-net_export\n")
    report = json.loads((folder / "my-net_export/export.json").read_text())
    assert report["dataset"] is None
    assert report["verification"]["top1"] == 1
    assert report["calibration"]["images"] == 18
    card = (folder / "my-net_export/MODEL_CARD.md").read_text()
    assert "Accuracy on 12 images of test." in card
    assert "Calibration of integer files: 18 images of pictures" in card
    assert run_script("predict.py", "my-net_export/model_float32.tflite", "test/red/2.png") == 0
    assert "red" in capfd.readouterr().out.split(": ")[1]


def test_without_test_data_the_screen_says_so(folder, capfd, monkeypatch):
    monkeypatch.chdir(folder)
    sequential(None).save("net.keras")
    words = ("--labels", "labels.txt", "--calibration", "pictures", "--formats", "float32")
    assert run_script("export.py", "net.keras", *words, "--softmax", "--output", "out") == 0
    lines = capfd.readouterr().out.splitlines()
    assert "Compared with the Keras model alone on 18 calibration images, no labels:" in lines
    (titles,) = [line for line in lines if line.startswith("file ")]
    assert "top-1" not in titles
    assert "drop" not in titles
    assert max(map(len, lines)) <= 80


def test_calibration_and_test_from_one_data_set_do_not_overlap(folder):
    both = str(folder / "pictures")
    source = opened(folder, sequential(), test=both)
    assert (source.calibration.split, source.verification.split) == ("train", "test")
    calibration = {image.tobytes() for image in source.calibration.pixels}
    assert not calibration & {image.tobytes() for image in source.verification.pixels}


def test_labels_follow_the_order_of_the_model(folder):
    first = ("red", "blue", "green")
    test = str(folder / "test")
    source = opened(folder, sequential(), class_names=first, test=test, settings=ANY_RANGE)
    for image, label in zip(source.verification.pixels, source.verification.labels, strict=True):
        brightest = image.mean(axis=(0, 1)).argmax()
        assert first[label] == ("red", "green", "blue")[brightest]


ANY_RANGE = ExportSettings(formats=("float32",), skip_range_check=True)


@pytest.mark.parametrize("as_dict", [False, True])
def test_one_of_several_outputs_is_named(as_dict, folder):
    model, name = two_outputs(as_dict), "tone" if as_dict else "color"
    with pytest.raises(
        keras_arch.InputError, match=r"Received: 2 outputs: (color, size|area, tone|tone, area)\."
    ) as refused:
        opened(folder, model)
    assert "--output-name" in str(refused.value)
    with pytest.raises(keras_arch.InputError, match=r"Did you mean|Use one of"):
        opened(folder, model, output_name="colours")
    source = opened(folder, model, output_name=name)
    expected = keras.tree.flatten(
        model(FLOATS, training=False)["tone"] if as_dict else model(FLOATS, training=False)[0]
    )[0]
    np.testing.assert_allclose(source.model(FLOATS, training=False), expected, atol=1e-6)


def test_logits_need_softmax(folder):
    model = sequential(None)
    with pytest.raises(keras_arch.InputError, match="If they are logits, pass --softmax"):
        opened(folder, model)
    source = opened(folder, model, softmax=True)
    logits = model(FLOATS, training=False).numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(source.model(FLOATS, training=False).numpy(), expected, atol=1e-5)
    for activation in ("softmax", "sigmoid"):
        with pytest.raises(keras_arch.InputError, match="--softmax must follow logits"):
            opened(folder, sequential(activation), softmax=True)


def test_scores_of_a_sigmoid_are_no_logits(folder):
    with pytest.raises(keras_arch.InputError, match="scores of a sigmoid") as refused:
        opened(folder, sequential("sigmoid"))
    assert "--softmax" not in str(refused.value)


def test_labels_of_calibration_images_of_the_same_classes_decide(folder):
    """Without --test, the range check has the labels of the calibration images."""
    with pytest.raises(keras_arch.InputError, match="may take"):
        opened(folder, linear(8.0), class_names=("a", "b", "c"))
    with pytest.warns(keras_arch.DataWarning, match="may take"):
        assert opened(folder, linear(8.0)).calibration.labels is None


def test_a_softmax_gets_a_free_name():
    model = append_softmax(append_softmax(sequential(None)))
    assert [layer.name for layer in model.layers[-2:]] == ["softmax", "softmax_"]


def test_a_model_of_any_size_needs_one(folder):
    model = keras.Sequential([keras.Input((None, None, 3)), *sequential().layers])
    with pytest.raises(keras_arch.InputError, match="Pass --height and --width"):
        opened(folder, model)
    settings = ExportSettings(formats=("float32",), height=16, width=12)
    source = opened(folder, model, settings)
    assert source.calibration.pixels.shape[1:] == (16, 12, 3)
    assert source.model.input_shape == (None, 16, 12, 3)


def test_an_rgb_model_takes_grayscale_images_and_not_the_reverse(folder):
    gray = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3, activation="softmax")]
    )
    with pytest.raises(keras_arch.InputError, match=r"of 1 channel\. Received: 3 channels"):
        opened(folder, gray)
    for path in (folder / "pictures").rglob("*.png"):
        Image.open(path).convert("L").save(path)
    source = opened(folder, sequential(), settings=ANY_RANGE)
    assert source.calibration.pixels.shape[1:] == (8, 8, 3)


def with_two_inputs():
    images = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    x = layers.Flatten()(layers.Add()(images))
    return keras.Model(images, layers.Dense(3, activation="softmax")(x))


@keras.saving.register_keras_serializable("test_any_model")
class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(3, activation="softmax")

    def call(self, images):
        return self.dense(keras.ops.mean(images, axis=(1, 2)))


def subclassed():
    model = Subclassed()
    model(IMAGES.astype("float32"))
    return model


WRONG_MODELS = {  # name: (model, options, part of the message)
    "subclassed": (subclassed, {}, "must hold a functional or a built Sequential model"),
    "four channels": (
        lambda: keras.Sequential(
            [keras.Input((8, 8, 4)), layers.Flatten(), layers.Dense(3, activation="softmax")]
        ),
        *({}, "1 or 3 channels, as data sets have. Received: 4 channels"),
    ),
    "two inputs": (with_two_inputs, {}, "must have one input, the image. Received: 2 inputs"),
    "one unit": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1)]),
        *({}, "two classes or more"),
    ),
    "no classifier": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 1)]),
        *({}, "must be an image classifier"),
    ),
    "another number of names": (
        lambda: keras.Sequential(
            [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(4, activation="softmax")]
        ),
        *({}, "--labels must have 4 class names, .* Received: 3"),
    ),
    "other classes": (sequential, {"test": "test"}, "classes that the model does not have"),
}


@pytest.mark.parametrize("wrong", WRONG_MODELS)
def test_a_file_that_cannot_be_exported_is_refused(wrong, folder, monkeypatch):
    build, options, message = WRONG_MODELS[wrong]
    (folder / "test" / "red").rename(folder / "test" / "yellow")
    monkeypatch.chdir(folder)
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        opened(folder, build(), **options)
    assert len(str(refused.value)) < 300


def test_auxiliary_classifiers_are_no_outputs_to_choose(tmp_path):
    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(image)
    heads = ("predictions", "auxiliary_4a", "auxiliary_4d")
    outputs = [layers.Dense(3, activation="softmax", name=name)(x) for name in heads]
    chosen = select_output(tmp_path, keras.Model(image, outputs), None)
    assert chosen.output is outputs[0]


KINDS = {  # words: part of the message
    "run --softmax": "--softmax requires a .keras file",
    "run --labels labels.txt": "--labels requires a .keras file",
    "net.keras": "--calibration is required for a .keras file",
    "net.keras --calibration digits": "net.keras has no class names. Pass --labels",
    "net.keras --calibration digits --labels no.txt": "The class names in no.txt cannot be read",
    "net.tflite": "must be a run directory or a .keras file",
    "net.h5 --labels labels.txt": 'Load it in Python, and save the model with model.save("model',
    "saved --data-dir .": "must be a run directory or a .keras file",
}


@pytest.mark.parametrize("words", KINDS)
def test_options_of_the_other_kind_are_refused(words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for name in ("net.keras", "net.tflite", "net.h5", "saved/saved_model.pb", "run/run.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with zipfile.ZipFile("net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    assert run_script("export.py", *words.split()) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert KINDS[words] in line
