"""Outputs must not be inside the data or at circular links."""

import dataclasses
import json

import numpy as np
import pytest
from conftest import ROOT
from demo_files import write_export
from PIL import Image

from keras_arch.recipes import Recipe

DIGIT = ROOT / "examples" / "digit.png"


@pytest.fixture
def place(tmp_path, monkeypatch, data_dir):
    """Return a directory with a data set, a finished run that holds data, and links."""
    rng = np.random.default_rng(0)
    for folder in (tmp_path / "pictures", tmp_path / "owner" / "data"):
        for number in range(12):
            (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(rng.integers(0, 256, (8, 8)).astype("uint8"))
            picture.save(folder / "ab"[number % 2] / f"{number}.png")
    recipe = dataclasses.asdict(Recipe("resnet8", "digits", epochs=1, learning_rate=1))
    (tmp_path / "owner" / "run.json").write_text(json.dumps({"recipe": recipe}))
    write_export(tmp_path / "exported", data=tmp_path / "pictures")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    return tmp_path


def contents(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


INSIDE = "must not be inside the data"
LOOP = "links lead back to themselves"
TYPED = [
    ("train.py quickstart --dataset pictures --output pictures/run", INSIDE),
    ("train.py quickstart --dataset pictures --output pictures/a", INSIDE),
    ("train.py quickstart --dataset pictures --output link/a/run", INSIDE),
    ("train.py quickstart --dataset link --output pictures/../pictures/run", INSIDE),
    ("train.py quickstart --dataset .", INSIDE),
    ("train.py quickstart --dataset owner/data --output owner --overwrite", "holds the data"),
    ("train.py quickstart --output loop", LOOP),
    ("train.py quickstart --output loop/run", LOOP),
    ("evaluate.py MODEL --dataset pictures --output pictures/told", INSIDE),
    ("evaluate.py MODEL --dataset pictures --output loop", LOOP),
    ("predict.py MODEL pictures --explain pictures/why", INSIDE),
    ("predict.py MODEL pictures/a --explain link/a", INSIDE),
    (f"predict.py MODEL {DIGIT} --explain loop", LOOP),
    ("demo.py exported --output pictures/page.html", INSIDE),
    ("demo.py exported --test link --output pictures/a/page.html", INSIDE),
    ("demo.py exported --output loop/page.html", LOOP),
    ("demo.py demo --output loop/page.html", LOOP),
    ("show_data.py pictures --output pictures/a/data.png", INSIDE),
    ("show_data.py digits --output loop/data.png", LOOP),
    ("compare.py pictures loop", LOOP),
    ("compare.py pictures owner --output loop/both.png", LOOP),
]


@pytest.mark.parametrize(("typed", "message"), TYPED, ids=[typed for typed, _ in TYPED])
def test_rejected_output_writes_nothing(typed, message, place, model, script, capfd):
    before = contents(place)
    assert script(*typed.replace("MODEL", str(model)).split()) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert contents(place) == before


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import keras

    image = keras.Input((8, 8, 1))
    maps = keras.layers.Conv2D(2, 3)(image)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    path = tmp_path_factory.mktemp("model") / "model.keras"
    keras.Model(image, keras.layers.Dense(2, "softmax")(pooled)).save(path)
    return path


def test_output_next_to_the_data_is_written(place, model, script, capfd):
    """The output may have the name of the data as a prefix, or contain the data."""
    assert script("evaluate.py", model, "--dataset", "pictures", "--output", "pictures-told") == 0
    assert (place / "pictures-told" / "metrics.json").is_file()
    assert script("predict.py", model, "pictures/a", "--explain", "pictures") == 0
    assert len(list((place / "pictures").glob("*.png"))) == 6
