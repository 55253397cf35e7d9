"""keras-arch calibrate: the copy of a run, what uses it, and refusals that write nothing."""

import csv
import dataclasses
import errno
import json
import os
import re
import shutil

import keras
import numpy as np
import pytest
from conftest import ROOT, run_script
from run_files import confident_model
from scipy.special import softmax

import keras_arch
from keras_arch.class_names import read_labels
from keras_arch.export.model_card import calibration_lines
from keras_arch.reports.tables import recommendation_lines
from keras_arch.runs.record import read_run

DIGIT = ROOT / "examples" / "digit.png"  # a seven of the test split


def read(folder):
    return json.loads((folder / "run.json").read_text())


def predict(path, images):
    return keras_arch.open_artifact(path).predict(images)


def test_the_copy_is_a_complete_run(confident_run, calibrated_run, digits):
    assert sorted(path.name for path in calibrated_run.iterdir()) == [
        *("curves.png", "history.csv", "labels.txt", "model.keras", "report.html", "run.json")
    ]
    before, after = read(confident_run), read(calibrated_run)
    changed = {"metrics", "calibration"}
    assert {name: after[name] for name in after if name not in changed} == {
        name: before[name] for name in before if name not in changed
    }
    artifact = keras_arch.open_artifact(calibrated_run)
    assert artifact.class_names == read_labels(calibrated_run / "labels.txt")
    found, record = after["calibration"], after["metrics"]["test"]
    assert found["after"]["ece"] == record["ece"]
    assert found["before"]["ece"] == pytest.approx(before["metrics"]["test"]["ece"], abs=1e-4)
    assert found["after"]["nll"] < found["before"]["nll"]
    assert record["top1"] == before["metrics"]["test"]["top1"]
    assert keras_arch.evaluate(artifact, digits).top1 == record["top1"]
    assert after["metrics"]["weights_sha256"] != before["metrics"]["weights_sha256"]
    shares = predict(confident_run, digits.test.images).astype("float64")
    expected = softmax(np.log(shares) / found["temperature"], axis=1)
    np.testing.assert_allclose(predict(calibrated_run, digits.test.images), expected, atol=1e-5)
    report = (calibrated_run / "report.html").read_text()
    assert f"Temperature {found['temperature']:.4g}, fitted on validation." in report
    assert f"Recommended threshold: {found['recommended']['threshold']:g}," in report


def test_the_screen_has_the_next_commands(confident_run, tmp_path, data_dir, capfd):
    words = ("--output", tmp_path / "new", "--data-dir", data_dir)
    assert run_script("calibrate.py", confident_run, *words, "--accuracy", 0.98) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    found = read(tmp_path / "new")["calibration"]
    threshold = f"{found['recommended']['threshold']:g}"
    assert (
        f"Temperature {found['temperature']:.4g}, fitted on 144 validation images." in printed.out
    )
    assert f"{found['before']['ece']:.2%}" in printed.out
    assert f"{found['after']['ece']:.2%}" in printed.out
    assert f"Recommended threshold: {threshold}, the lowest with 98.00%" in printed.out
    *_, classify, export = printed.out.splitlines()
    assert export == f"  keras-arch export {tmp_path / 'new'}"
    assert classify == f"  keras-arch predict {tmp_path / 'new'} IMAGE --at-least {threshold}"
    name, *arguments = classify.replace("IMAGE", str(DIGIT)).split()[1:]
    assert run_script(f"{name}.py", *arguments) == 0
    assert capfd.readouterr().out.startswith(f"{DIGIT}: ")
    assert run_script("calibrate.py", confident_run, *words) == 2  # it is finished
    (line,) = capfd.readouterr().err.splitlines()
    assert "already holds a finished run. Pass --overwrite" in line
    assert read(tmp_path / "new")["calibration"] == found
    assert run_script("calibrate.py", confident_run, *words, "--overwrite") == 0
    assert read(tmp_path / "new")["calibration"]["accuracy"] == 0.99


def test_a_calibrated_run_is_calibrated_again(calibrated_run, tmp_path, data_dir):
    words = ("--output", tmp_path / "again", "--data-dir", data_dir)
    assert run_script("calibrate.py", calibrated_run, *words) == 0
    assert read(tmp_path / "again")["calibration"]["temperature"] == pytest.approx(1, rel=1e-3)


def test_no_threshold_may_be_good_enough(calibrated_run):
    record = read(calibrated_run)["calibration"]
    assert len(recommendation_lines(record)) == 2
    del record["recommended"]
    (line,) = recommendation_lines(record)
    assert line == "No threshold reaches an accuracy of 99.00% on validation. Lower --accuracy."
    card = calibration_lines({"calibration": record, "metrics": {"validation": {"images": 3}}})
    assert not any("threshold" in line for line in card)


def export_both(confident_run, calibrated_run, tmp_path, formats):
    """Export copies of both runs, and return their export directories."""
    for run in (confident_run, calibrated_run):
        shutil.copytree(run, tmp_path / run.name)
        words = ("--formats", *formats, "--max-drop", 100)
        assert run_script("export.py", tmp_path / run.name, *words) == 0
    return [tmp_path / run.name / "export" for run in (confident_run, calibrated_run)]


def check_formats(folders, digits, temperature):
    """Compare each file of an export with that of the calibrated run, on all test images."""
    images = np.broadcast_to(digits.test.images, (*digits.test.images.shape[:3], 3))
    before, after = (json.loads((one / "export.json").read_text()) for one in folders)
    assert before["artifacts"].keys() == after["artifacts"].keys()
    for name, row in before["artifacts"].items():
        channels = keras_arch.open_artifact(folders[0] / row["file"]).image_shape[2]
        given, found = (predict(one / row["file"], images[..., :channels]) for one in folders)
        np.testing.assert_array_equal(found.argmax(axis=1), given.argmax(axis=1), err_msg=name)
        if name in ("saved_model", "float32", "onnx"):
            expected = softmax(np.log(given.astype("float64")) / temperature, axis=1)
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_exported_files_are_calibrated(confident_run, calibrated_run, tmp_path, digits):
    folders = export_both(confident_run, calibrated_run, tmp_path, ("float32",))
    found = read(calibrated_run)["calibration"]
    check_formats(folders, digits, found["temperature"])
    card = (folders[1] / "MODEL_CARD.md").read_text()
    row = found["recommended"]
    assert f"- Temperature: {found['temperature']:.4g}, fitted on 144 validation images" in card
    assert f"- Recommended threshold: {row['threshold']:g}. " in card
    assert f"{row['share']:.1%} of the test images, and {row['accuracy']:.2%} of them" in card
    assert "Temperature" not in (folders[0] / "MODEL_CARD.md").read_text()


@pytest.mark.slow
def test_every_format_is_calibrated(confident_run, calibrated_run, tmp_path, digits):
    formats = ("saved_model", "float32", "float16", "dynamic", "int8", "int16x8", "onnx")
    folders = export_both(confident_run, calibrated_run, tmp_path, formats)
    check_formats(folders, digits, read(calibrated_run)["calibration"]["temperature"])


# --- refusals ---


def refuse(capfd, parent, run, *words):
    """Run the script, and return its one line. It must not write into `parent`."""
    before = {path: path.stat().st_mtime_ns for path in parent.rglob("*")}
    assert run_script("calibrate.py", run, *words) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert len(line) < 300
    assert {path: path.stat().st_mtime_ns for path in parent.rglob("*")} == before
    return line


def test_a_run_without_an_error_is_refused(confident_run, tmp_path, monkeypatch, capfd, digits):
    right = predict(confident_run, digits.validation.images).argmax(axis=1)
    validation = dataclasses.replace(digits.validation, labels=right)
    data = dataclasses.replace(digits, validation=validation)
    monkeypatch.setattr("keras_arch.export.run.load_dataset", lambda *_, **__: data)
    line = refuse(capfd, tmp_path, confident_run, "--output", tmp_path / "new")
    assert "Received: 144 of 144 correct. Add validation images" in line


def test_a_run_without_validation_is_refused(confident_run, tmp_path, monkeypatch, capfd, digits):
    data = dataclasses.replace(digits, validation=digits.validation.slice(0, 0))
    monkeypatch.setattr("keras_arch.export.run.load_dataset", lambda *_, **__: data)
    shutil.copytree(confident_run, tmp_path / "run")
    record = read(confident_run)
    record["images"]["validation"] = 0
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert "must have a validation split" in refuse(capfd, tmp_path, tmp_path / "run")


def test_a_run_without_softmax_is_refused(confident_run, tmp_path, capfd, digits, data_dir):
    shutil.copytree(confident_run, tmp_path / "run")
    model = confident_model(digits)
    model.get_layer("head").activation = keras.activations.sigmoid
    model.save(tmp_path / "run" / "model.keras")
    line = refuse(capfd, tmp_path, tmp_path / "run", "--data-dir", data_dir)
    assert "regression must end in a softmax" in line


def test_an_unfinished_run_is_refused(confident_run, tmp_path, capfd):
    shutil.copytree(confident_run, tmp_path / "run")
    record = read(confident_run)
    del record["metrics"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert "is not a finished run" in refuse(capfd, tmp_path, tmp_path / "run")


@pytest.mark.parametrize("place", ["keras.Model.save", "keras_arch.runs.record.write_json"])
def test_a_full_disk_leaves_nothing(place, confident_run, tmp_path, monkeypatch, capfd, data_dir):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(place, fail)
    words = ("--output", tmp_path / "new", "--data-dir", data_dir)
    assert "No space left" in refuse(capfd, tmp_path, confident_run, *words)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", "1.5", "`calibration.temperature` must be a finite number"),
        ("accepted", {}, "`calibration.accepted` must be a tuple"),
        ("accepted", [{"threshold": 2, "share": 1}], "`calibration.accepted.0.threshold` must be"),
        ("recommended", {"threshold": 0.5}, "`calibration.recommended.share` is missing"),
    ],
)
def test_a_damaged_calibration_is_named(field, value, message, calibrated_run, tmp_path):
    record = read(calibrated_run)
    record["calibration"][field] = value
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(keras_arch.InputError, match=re.escape(message)):
        read_run(tmp_path)


# --- predict --at-least, and predictions.csv ---


def test_predict_says_unsure(calibrated_run, capfd):
    (line,) = run_predict(capfd, calibrated_run, "--top", 2)
    sure, share = re.match(rf"{DIGIT}: ((\w+) ([0-9.]+)%, .*)", line).group(1, 3)
    p = float(share) / 100
    assert run_predict(capfd, calibrated_run, "--top", 2, "--at-least", p - 0.01) == [line]
    unsure = run_predict(capfd, calibrated_run, "--top", 2, "--at-least", min(1, p + 0.01))
    assert unsure == [f"{DIGIT}: unsure ({sure})"]
    for at_least, answer in ((p - 0.01, False), (min(1, p + 0.01), True)):
        words = ("--at-least", at_least, "--top", 1, "--format")
        (line,) = run_predict(capfd, calibrated_run, *words, "json")
        assert json.loads(line)["unsure"] is answer
        (row,) = csv.DictReader(run_predict(capfd, calibrated_run, *words, "csv"))
        assert list(row) == ["image", "label_1", "probability_1", "unsure"]
        assert row["unsure"] == str(answer).lower()


def run_predict(capfd, run, *words):
    assert run_script("predict.py", run, DIGIT, *words) == 0
    return capfd.readouterr().out.splitlines()


def test_evaluate_writes_label_errors_first(calibrated_run, tmp_path, digits, data_dir):
    words = ("--output", tmp_path, "--data-dir", data_dir)
    assert run_script("evaluate.py", calibrated_run, *words) == 0
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    probabilities = predict(calibrated_run, digits.test.images)
    assert sorted(int(row["image"]) for row in rows) == list(range(360))
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    for row in rows:
        shares, true = probabilities[int(row["image"])], int(row["true"])
        assert true == digits.test.labels[int(row["image"])]
        assert row["predicted"] == digits.class_names[shares.argmax()]
        assert float(row["probability"]) == pytest.approx(shares.max(), rel=1e-4)
        assert float(row["probability_true"]) == pytest.approx(shares[true], rel=1e-4)
        order = np.argsort(-shares, kind="stable").tolist()
        assert int(row["rank"]) == 1 + order.index(true)
    metrics = json.loads((tmp_path / "metrics.json").read_text())["artifacts"][0]["metrics"]
    assert np.mean(losses) == pytest.approx(metrics["nll"], rel=1e-4)
