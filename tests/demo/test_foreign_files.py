"""Files of other people in the page: normalization outside the model, other types, no softmax."""

import zipfile

import keras
import numpy as np
import pytest
from tflite_files import color_model, colors, convert, write_normalized, write_quantized

import keras_arch
from keras_arch.export.int4 import quantize_int4

NAMES = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def page(browser, demo_page):
    with browser.open(demo_page.as_uri()) as page:
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        yield page


def open_file(page, path):
    """Open a file from disk. Return the message, which is empty if it is open."""
    page.set_files("#opened", [path])
    return page.evaluate("queue.then(() => byId('message').textContent)")


def predict(page, images):
    """Return the probabilities that the page computes for images of the model's size."""
    rows = []
    for image in images:
        height, width, _ = image.shape
        picture = f"{{ height: {height}, width: {width}, rgb: Uint8Array.from({image.ravel().tolist()}) }}"
        rows.append(
            page.evaluate(f"classify({picture}).then((it) => Array.from(it.probabilities))")
        )
    return np.array(rows)


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_one_normalization_for_all_channels(page, tmp_path, dtype):
    path = write_quantized(tmp_path / "model.tflite", dtype)
    assert open_file(page, path) == ""
    images = colors(5)
    expected = keras_arch.open_artifact(path).predict(images)
    np.testing.assert_allclose(predict(page, images), expected, atol=1e-6)
    assert len(set(expected.argmax(axis=1))) > 1


def test_each_channel_has_its_own_mean_and_deviation(page, tmp_path):
    path = write_normalized(tmp_path / "model.tflite", [100.0, 150.0, 200.0], [50.0, 100.0, 60.0])
    assert open_file(page, path) == ""
    images = colors(5)
    expected = keras_arch.open_artifact(path).predict(images)
    np.testing.assert_allclose(predict(page, images), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("mean", "std"), [([1.0, 2.0], [1.0, 1.0]), ([0.0], [0.0]), ([float("nan")], [1.0]), ([], [])]
)
def test_a_normalization_that_cannot_be_applied_is_refused(page, tmp_path, mean, std):
    path = write_normalized(tmp_path / "model.tflite", mean, std)
    assert open_file(page, path).endswith("Its metadata have an invalid normalization.")


def test_int4_weights(page, tmp_path):
    pytest.importorskip("ai_edge_quantizer", reason='needs pip install "keras_arch[int4]"')
    path = tmp_path / "model.tflite"
    path.write_bytes(quantize_int4(convert(color_model())))
    assert open_file(page, path) == ""
    images = colors(5)
    expected = keras_arch.open_artifact(path).predict(images)
    np.testing.assert_allclose(predict(page, images), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")
def test_an_int8_input_is_refused(page, tmp_path):
    path = write_quantized(tmp_path / "model.tflite", "int8")
    assert open_file(page, path).endswith(
        "Its input is int8. LiteRT.js runs float32 and uint8 only."
    )


def test_compressed_class_names_are_read(page, tmp_path):
    path = tmp_path / "MODEL.TFLITE"
    path.write_bytes(convert(color_model()))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "\n".join(NAMES))
    page.drop_files("main", [path])
    page.wait_for("model.name === 'MODEL.TFLITE'")
    assert page.evaluate("model.classNames") == NAMES


def test_a_model_without_softmax_is_refused_and_the_open_file_stays_open(page, tmp_path):
    image = keras.Input((6, 6, 3), batch_size=1)
    logits = keras.layers.GlobalAveragePooling2D()(image)
    (tmp_path / "logits.tflite").write_bytes(convert(keras.Model(image, logits)))
    page.evaluate("changeFile('the first file', () => openEmbedded(0))")
    message = open_file(page, tmp_path / "logits.tflite")
    assert message == (
        "logits.tflite cannot be opened. "
        "Its output is not probabilities. End the model with a softmax."
    )
    assert page.evaluate("[model.name, byId('files').value]") == ["model_float32.tflite", "0"]
    assert "Probabilities of 12" in page.evaluate("byId('check').textContent")
