"""Files of predictions: slices, interruptions, and files that belong to something else."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, run_script
from PIL import Image
from pyarrow import parquet

import keras_arch
from keras_arch.evaluation import predictions
from keras_arch.evaluation.predictions import classify
from keras_arch.reports import prediction_file

IMAGES = 23


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(predictions, "BATCH", 2)
    monkeypatch.setattr(prediction_file, "PART", 4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A directory with images of noise. The working directory contains it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for number in range(IMAGES):
        noise = np.random.default_rng(number).integers(0, 256, (9, 8, 3)).astype("uint8")
        Image.fromarray(noise).save(tmp_path / f"images/{number:02}, é.png")
    return tmp_path


def predict(*words, model="demo"):
    return run_script("predict.py", model, "images", *words)


def read(path):
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*out.*")}


def stop_after(images, monkeypatch):
    """Interrupt the process when it has classified some images."""
    plain = predictions.top_classes
    seen = []

    def top_classes(probabilities, count):
        seen.append(len(probabilities))
        if sum(seen) > images:
            raise KeyboardInterrupt
        return plain(probabilities, count)

    monkeypatch.setattr(predictions, "top_classes", top_classes)
    return seen


def test_slices_have_the_predictions_of_single_images(folder, capfd):
    """The int8 file gives the same numbers in batches, in both formats."""
    artifact = keras_arch.open_artifact("demo")
    expected = {}
    for path in sorted((folder / "images").iterdir()):
        (one,) = classify(artifact, [path.relative_to(folder)], artifact.class_names, 3)
        expected[one.image] = one.classes
    rows = []
    for number in range(1, 6):
        suffix = ("csv", "parquet")[number % 2]
        output = folder / f"results/{number}.{suffix}"
        assert predict("--top", 3, "--shard", f"{number}/5", "--output", output) == 0
        rows += read(output)
    assert capfd.readouterr().out.count("Predictions of 5 images saved to ") == 3
    assert sorted(row["image"] for row in rows) == sorted(expected)
    for row in rows:
        for rank, one in enumerate(expected[row["image"]], start=1):
            assert row[f"label_{rank}"] == one.label
            assert np.float32(row[f"probability_{rank}"]) == np.float32(one.probability)
        assert not row["error"]
        assert len(row) == 8
    assert not list(folder.glob("results/*.parts"))
    others = [path for path in folder.glob("results/*") if path.name[0] != "_"]
    assert len(others) == 5  # readers of a directory skip names that begin with "_"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_interrupted_file_continues(suffix, folder, monkeypatch, capfd):
    assert predict("--output", f"out.{suffix}") == 0
    complete = contents(folder)
    for path in folder.glob("*out.*"):
        path.unlink()
    with monkeypatch.context() as patch:
        stop_after(11, patch)
        assert predict("--output", f"out.{suffix}") == 130
    assert sorted(path.name for path in folder.glob("*out.*")) == [
        f"_out.{suffix}.json",
        f"_out.{suffix}.parts",
    ]
    seen = stop_after(IMAGES, monkeypatch)
    capfd.readouterr()
    assert predict("--output", f"out.{suffix}") == 0
    assert sum(seen) == IMAGES - 8  # two parts of four images were finished
    assert capfd.readouterr().out == (
        f"8 of 23 images are done.\nPredictions of 23 images saved to out.{suffix}.\n"
    )
    assert contents(folder) == complete
    assert predict("--output", f"out.{suffix}") == 0
    assert sum(seen) == IMAGES - 8
    assert capfd.readouterr().out == f"out.{suffix} is complete: predictions of 23 images.\n"
    assert contents(folder) == complete


CHANGES = {  # difference from `predict demo images --output out.csv`: the changed arguments
    "another model": ["copy.tflite", "images"],
    "another list of images": ["demo", "images", "images/00, é.png"],
    "another --top": ["demo", "images", "--top", "2"],
    "another --shard": ["demo", "images", "--shard", "1/2"],
    "another --at-least": ["demo", "images", "--at-least", "0.5"],
}


@pytest.mark.parametrize("stopped_after", [5, IMAGES])
@pytest.mark.parametrize("name", CHANGES)
def test_other_predictions_are_not_mixed(name, stopped_after, folder, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        stop_after(stopped_after, patch)
        assert predict("--output", "out.csv") == (0 if stopped_after == IMAGES else 130)
    model = keras_arch.open_artifact("demo").path.read_bytes()
    (folder / "copy.tflite").write_bytes(model + b"\0")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*out.*")}
    capfd.readouterr()
    words = ["predict.py", *CHANGES[name], "--output", "out.csv"]
    assert run_script(*words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line == (
        "error: out.csv must have predictions of the same model, images and options. Received: "
        f"{name}. Pass another --output, or remove out.csv and _out.csv.json."
    )
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*out.*")} == before
    for file in ("out.csv", "_out.csv.json"):  # _out.csv.parts may stay
        (folder / file).unlink(missing_ok=True)
    assert run_script(*words) == 0
    assert "images are done" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("out.csv", "image\n", "out.csv has no _out.csv.json, so it is not replaced."),
        ("_out.csv.json", "[]", "_out.csv.json must be the record of predictions."),
        ("_out.csv.json", "{", "_out.csv.json must be the record of predictions."),
        ("_out.csv.json", "{}", "_out.csv.json must be the record of predictions."),
    ],
)
def test_foreign_files_are_not_replaced(file, content, message, folder, capfd):
    (folder / file).write_text(content)
    assert predict("--output", "out.csv") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert (folder / file).read_text() == content


def test_unreadable_images_are_rows_with_a_reason(folder, monkeypatch, capfd):
    """The exit status is 2 also if the file was complete, or if an earlier job read the image."""
    (folder / "images/03.png").write_text("no image")
    (folder / "images/30\n.png").write_text("no image")
    with monkeypatch.context() as patch:
        stop_after(10, patch)
        assert predict("--output", "out.csv") == 130
    for _ in range(2):
        assert predict("--output", "out.csv") == 2
        *_, error = capfd.readouterr().err.splitlines()
        assert error == (
            "error: 2 of 25 images cannot be read. The column error of out.csv has the reasons."
        )
    assert predict("--output", "out.parquet") == 2
    assert capfd.readouterr().err.count("warning: ") == 2
    for rows in (read(folder / "out.csv"), read(folder / "out.parquet")):
        assert len(rows) == 25
        failed = [row for row in rows if row["error"]]
        assert [row["image"] for row in failed] == ["images/03.png", "images/30\n.png"]
        assert all("cannot be decoded as an image" in row["error"] for row in failed)
        assert not any(row[f"{kind}_5"] for row in failed for kind in ("label", "probability"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_unsure_images_are_marked(suffix, folder):
    (folder / "images/03.png").write_text("no image")
    assert predict("--top", 1, "--at-least", 0.5, "--output", f"out.{suffix}") == 2
    rows = read(folder / f"out.{suffix}")
    assert list(rows[0]) == ["image", "label_1", "probability_1", "unsure", "error"]
    words = (True, False) if suffix == "parquet" else ("true", "false")
    found = {row["unsure"] for row in rows if not row["error"]}
    assert found == {*words}
    for row in rows:
        if row["error"]:
            assert not row["unsure"]
        else:
            assert row["unsure"] == words[float(row["probability_1"]) >= 0.5]


def test_a_file_of_an_earlier_version_has_no_threshold(folder, capfd):
    assert predict("--output", "out.csv") == 0
    record = json.loads((folder / "_out.csv.json").read_text())
    del record["at_least"]
    (folder / "_out.csv.json").write_text(json.dumps(record))
    capfd.readouterr()
    assert predict("--output", "out.csv") == 0
    assert "is complete" in capfd.readouterr().out


def test_a_slice_without_images_is_a_file_without_rows(folder):
    for suffix in ("csv", "parquet"):
        words = ("--top", 1, "--shard", "30/40", "--output", f"out.{suffix}")
        assert predict(*words) == 0
    assert (folder / "out.csv").read_text() == "image,label_1,probability_1,error\n"
    assert parquet.read_schema(folder / "out.parquet").names == [
        *("image", "label_1", "probability_1", "error")
    ]


def test_a_second_process_waits_for_none(folder, capfd):
    (folder / "_out.csv.parts").mkdir()
    with prediction_file.exclusive_lock(folder / "_out.csv.parts"):
        assert predict("--output", "out.csv") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "another process is writing it" in line


def test_without_pyarrow_a_parquet_file_is_one_line(folder, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    find = keras_arch.extras.find_spec
    monkeypatch.setattr(
        keras_arch.extras, "find_spec", lambda name: None if name == "pyarrow" else find(name)
    )
    assert predict("--output", "out.parquet") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith('Received: no pyarrow. Run pip install "keras_arch[parquet]".')
    assert not contents(folder)


@pytest.mark.slow
def test_a_killed_job_continues(folder):
    """SIGKILL after the first part. The file is that of a job that was not killed."""
    with (folder / "list.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["path"])
        writer.writerows([f"images/{number % IMAGES:02}, é.png"] for number in range(5_000))
    command = [sys.executable, ROOT / "scripts/predict.py", "demo", "list.csv", "--output"]
    with subprocess.Popen([*command, "out.csv"]) as process:
        deadline = time.monotonic() + 60
        while not list(folder.glob("_out.csv.parts/[0-9]*.csv")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "out.csv").exists()
    again = subprocess.run([*command, "out.csv"], check=True, capture_output=True, text=True)
    assert " of 5,000 images are done.\n" in again.stdout
    subprocess.run([*command, "complete.csv"], check=True)
    assert (folder / "out.csv").read_bytes() == (folder / "complete.csv").read_bytes()
    assert sorted(os.listdir(folder)) == sorted(
        ["images", "list.csv", "out.csv", "_out.csv.json", "complete.csv", "_complete.csv.json"]
    )
    assert json.loads((folder / "_out.csv.json").read_text())["unreadable"] == 0
