"""The exported files predict in a browser what they predict in Python."""

import base64
import json

import numpy as np
import pytest
from PIL import Image

import keras_arch
from keras_arch.images.read import read_image

IMAGES = 50
# {format: maximum difference of a probability}. With dynamic quantization, each processor rounds
# the ranges of the activations in its own way.
LIMITS = {"float32": 1e-6, "float16": 1e-4, "dynamic": 0.05, "int8": 1e-4, "int16x8": 1e-4}
SCRIPT = """
(async (name, pictures) => {
  await openEmbedded(facts.files.findIndex((file) => file.name === name));
  const answers = [];
  for (const picture of pictures) {
    const { probabilities } = await classify(await decodePicture(new Blob([fromBase64(picture)])));
    answers.push(Array.from(probabilities));
  }
  return answers;
})"""


@pytest.fixture(scope="module")
def page(browser, demo_page):
    with browser.open(demo_page.as_uri()) as page:
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        yield page
        assert page.console == []


@pytest.fixture(scope="module")
def pictures(digits, tmp_path_factory):
    """Paths of test images as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    images, _ = digits.test.sample(IMAGES, seed=1)
    paths = [folder / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.squeeze(-1)).save(path)
    return paths


def predict(path, pictures):
    artifact = keras_arch.open_artifact(path)
    return artifact.predict(np.stack([read_image(one, artifact.image_shape) for one in pictures]))


@pytest.mark.parametrize("name", LIMITS)
def test_probabilities_are_those_of_python(page, quickstart, pictures, name):
    path = quickstart / f"export/model_{name}.tflite"
    expected = predict(path, pictures)
    contents = [base64.b64encode(picture.read_bytes()).decode() for picture in pictures]
    found = page.evaluate(f"{SCRIPT}({json.dumps(path.name)}, {json.dumps(contents)})")
    np.testing.assert_allclose(found, expected, rtol=0, atol=LIMITS[name])
    assert len(set(expected.argmax(axis=1))) == 10
    # The page itself compares other test images.
    data = page.evaluate("({...document.documentElement.dataset})")
    assert (data["file"], data["pictures"]) == (path.name, "12")
    assert float(data["difference"]) <= LIMITS[name]


def test_a_chosen_picture_is_answered_as_python_does(page, quickstart, pictures):
    path = quickstart / "export/model_int8.tflite"
    page.evaluate("openEmbedded(facts.files.findIndex(({ name }) => name.includes('int8')))")
    probabilities = predict(path, pictures)
    for digit in (3, 7):
        number = np.flatnonzero(probabilities.argmax(axis=1) == digit)[0]
        page.evaluate("delete document.documentElement.dataset.answer")
        page.set_files("#chosen", [pictures[number]])
        page.wait_for(f"document.documentElement.dataset.answer === '{digit}'")
        texts = "Array.from(document.querySelectorAll('#answers li'), (item) => item.innerText)"
        label, percent = page.evaluate(texts)[0].split()
        assert label == str(digit)
        assert percent.endswith("%")
        assert float(percent[:-1]) == pytest.approx(100 * probabilities[number, digit], abs=0.051)
