"""The page of a calibrated run: it says "unsure" below the threshold and lists the classes."""

import json
import shutil

import keras
import pytest
from conftest import write_tflite
from demo_files import make_report

import keras_arch
from keras_arch.class_names import pack_labels
from keras_arch.demo.contents import open_files, read_export
from keras_arch.demo.page import compose_page, describe_calibration
from keras_arch.demo.samples import select_samples


@pytest.fixture(scope="module")
def page(browser, runtime, calibrated_run, digits, tmp_path_factory):
    """The page of the calibrated run, with a sure and an unsure test image."""
    run = tmp_path_factory.mktemp("page") / "run"
    shutil.copytree(calibrated_run, run)
    folder, model = run / "export", keras.models.load_model(run / "model.keras", compile=False)
    folder.mkdir()
    write_tflite(model, folder / "model_float32.tflite")
    pack_labels(folder / "model_float32.tflite", digits.class_names)
    size = (folder / "model_float32.tflite").stat().st_size
    (folder / "export.json").write_text(json.dumps(make_report((("float32", size),))))
    shares = keras_arch.open_artifact(run).predict(digits.test.images).max(axis=1)
    chosen = digits.test.at([shares.argmax(), shares.argmin()])
    data = keras_arch.Dataset(
        "two", *[type(digits.test)(*chosen)] * 3, digits.class_names, digits.image_shape
    )
    contents = open_files(folder, read_export(folder), select_samples(data, "test"))
    path = tmp_path_factory.mktemp("html") / "demo.html"
    path.write_text(compose_page(contents, runtime), encoding="utf-8")
    with browser.open(path.as_uri()) as page:
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        yield page, path, folder


def test_the_page_says_unsure_and_lists_the_classes(page, calibrated_run):
    page, _, folder = page
    row = json.loads((calibrated_run / "run.json").read_text())["calibration"]["recommended"]
    threshold = f"{row['threshold']:.1%}"
    assert page.evaluate("facts.threshold") == row["threshold"]
    text = page.evaluate("document.body.innerText")
    assert f"of at least {threshold} accept {row['share']:.1%} of the test images." in text
    shares = [answers[0][1] for answers in page.evaluate("facts.files[0].answers")]
    assert {share >= row["threshold"] for share in shares} == {True, False}
    for number, share in enumerate(shares, start=1):
        page.click(f"#samples button:nth-child({number})")
        page.wait_for(f"Math.abs(document.documentElement.dataset.probability - {share}) < 1e-5")
        unsure = share < row["threshold"]
        assert page.evaluate("document.documentElement.dataset.unsure") == str(unsure).lower()
        shown = page.evaluate("byId('sure').textContent")
        relation = "Unsure: the probability is below" if unsure else "The probability reaches"
        assert shown == f"{relation} the threshold of {threshold}."
        assert page.evaluate("byId('first').textContent.startsWith('Unsure: ')") == unsure
        assert page.evaluate("byId('answers').children.length") >= 1
    page.set_files("#opened", [folder / "model_float32.tflite"])  # of any origin
    page.wait_for("byId('files').value === 'disk' && byId('sure').textContent === ''")
    assert page.console == []


def test_a_calibration_without_a_threshold():
    assert describe_calibration(None) == ""
    found = {"temperature": 1.7629, "accepted": []}
    assert describe_calibration(found) == (
        "Probabilities are calibrated with the temperature 1.763."
    )
