"""No class name and no path in a CSV file is a formula of a spreadsheet."""

import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_arch
from keras_arch.data.splits import InFiles, InMemory
from keras_arch.evaluation.predictions import ClassProbability, Prediction
from keras_arch.reports.prediction_file import Source, write_predictions
from keras_arch.reports.prediction_table import write_prediction_table
from keras_arch.reports.predictions import print_csv

FIRST = "=+-@\t\r"
NAMES = tuple(f"{first}1+1" for first in FIRST)
HARMLESS = ("cat", "1-1", " =x", "a=b", "'x", "猫")


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def predictions():
    """Return a `Prediction` of each name. The image has the name, too."""
    return [
        Prediction(f"{name}.png", (ClassProbability(name, -0.25),)) for name in (*NAMES, *HARMLESS)
    ]


def check_rows(rows):
    assert [row["label_1"] for row in rows] == [*(f"'{name}" for name in NAMES), *HARMLESS]
    assert [row["image"] for row in rows] == [
        *(f"./{name}.png" for name in NAMES),
        *(f"{name}.png" for name in HARMLESS),
    ]
    assert all(row["probability_1"] == "-0.25" for row in rows)


def test_predictions_on_the_screen(capfd):
    print_csv(predictions())
    check_rows(rows_of(capfd.readouterr().out))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_of_predictions(suffix, tmp_path):
    """A Parquet file is no spreadsheet: its texts are unchanged."""
    output, source = tmp_path / f"out.{suffix}", Source("a", "b", "c", "1/1", 1)
    paths = [Path(one.image) for one in predictions()]
    write_predictions(output, source, paths, lambda _: iter(predictions()))
    if suffix == "csv":
        with output.open(encoding="utf-8", newline="") as file:
            return check_rows(list(csv.DictReader(file)))
    from pyarrow import parquet

    rows = parquet.read_table(output).to_pylist()
    assert [(row["image"], row["label_1"]) for row in rows] == [
        (one.image, one.classes[0].label) for one in predictions()
    ]


def test_a_reason_is_no_formula(tmp_path):
    output, source = tmp_path / "out.csv", Source("a", "b", "c", "1/1", 1)
    row = Prediction("-x.png", error="-x.png cannot be decoded")
    with pytest.raises(keras_arch.InputError, match="1 of 1 images"), pytest.warns():
        write_predictions(output, source, [Path("-x.png")], lambda _: iter([row]))
    assert rows_of(output.read_text())[0] == {
        "image": "./-x.png",
        "label_1": "",
        "probability_1": "",
        "error": "'-x.png cannot be decoded",
    }


def make_dataset(split, names):
    return keras_arch.Dataset("data", split, split, split, names, (2, 2, 1))


def test_a_table_of_predictions(tmp_path, monkeypatch):
    names = (*NAMES, *HARMLESS)
    count = len(names)
    labels = np.arange(count)
    paths = [f"{name}.png" for name in names]
    images = np.zeros((count, 2, 2, 1), "uint8")
    # Equal losses: the rows are in the order of the split.
    probabilities = np.full((count, count), 1 / count, "float32")
    write_prediction_table(
        tmp_path / "a.csv",
        make_dataset(InMemory(images, labels, paths), names),
        *("test", probabilities, labels),
    )
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["true"] for row in rows] == [*(f"'{name}" for name in NAMES), *HARMLESS]
    assert {row["predicted"] for row in rows} == {f"'{NAMES[0]}"}
    assert [row["image"] for row in rows] == [*(f"./{path}" for path in paths[:6]), *paths[6:]]
    assert [int(row["rank"]) for row in rows] == [*range(1, count + 1)]
    monkeypatch.chdir(tmp_path)
    for row in rows:  # paths with an apostrophe would not open
        Path(row["image"]).touch()
    assert {*paths} <= {*os.listdir()}


def test_a_class_with_a_formula_in_an_image_folder(tmp_path):
    """Paths of an image folder are known, in memory and in files, and also of all splits."""
    for number in range(20):
        path = tmp_path / "data" / ("=x", "y")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (4, 4))
        Image.fromarray(noise.astype("uint8")).save(path)
    expected = {str(path) for path in (tmp_path / "data").rglob("*.png")}
    for keep, kind in (((), InFiles), (("train", "validation", "test"), InMemory)):
        data = keras_arch.load_dataset(tmp_path / "data", keep=keep)
        assert type(data.all) is kind
        assert {*data.all.paths} == expected
        assert data.test.slice(1, 2).paths == data.test.paths[1:2]
        probabilities = np.eye(2, dtype="float32")[data.all.labels]
        table = tmp_path / "table.csv"
        write_prediction_table(table, data, "all", probabilities, data.all.labels)
        rows = rows_of(table.read_text())
        assert {row["image"] for row in rows} == expected
        assert {(row["true"], Path(row["image"]).parent.name) for row in rows} == {
            ("'=x", "=x"),
            ("y", "y"),
        }
