"""What predict.py tells, and where a model looked."""

import csv
import io
import json
import shutil

import keras
import numpy as np
from conftest import ROOT
from keras import layers
from PIL import Image

from keras_arch.explain import grad_cam

DIGIT = ROOT / "examples" / "digit.png"  # a seven of the test split


def test_folders_and_formats(quickstart, script, tmp_path, capfd):
    """A .tflite file outside its run knows its labels; pictures come in the order of their names, one line each."""
    file = shutil.copy(quickstart / "export/model_int8.tflite", tmp_path)
    (tmp_path / "pictures/deeper").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "deeper/c.png"):
        shutil.copy(DIGIT, tmp_path / "pictures" / name)
    (tmp_path / "pictures/notes.txt").write_text("no picture")
    told = {}
    for form in ("table", "json", "csv"):
        assert script("predict.py", file, tmp_path / "pictures", DIGIT, "--format", form, "--top", "2") == 0
        told[form] = capfd.readouterr().out
    lines = [json.loads(line) for line in told["json"].splitlines()]
    names = [str(tmp_path / "pictures" / name) for name in ("a.PNG", "b.png", "deeper/c.png")] + [str(DIGIT)]
    assert [line["image"] for line in lines] == names
    assert {line["classes"][0]["label"] for line in lines} == {"7"}
    assert all(len(line["classes"]) == 2 for line in lines)
    rows = list(csv.DictReader(io.StringIO(told["csv"])))
    assert list(rows[0]) == ["image", "label_1", "probability_1", "label_2", "probability_2"]
    assert [float(row["probability_1"]) for row in rows] == [line["classes"][0]["probability"] for line in lines]
    assert [line.rpartition(": ")[0] for line in told["table"].splitlines()] == names


def test_explained_pictures(quickstart, script, tmp_path):
    assert script("predict.py", quickstart / "model.keras", DIGIT, "--explain", tmp_path / "why") == 0
    with Image.open(tmp_path / "why/0000_digit.png") as picture:
        assert picture.size == (256, 256)
        assert picture.mode == "RGB"


def test_grad_cam_finds_the_pixels_that_count():
    """A model that sums the left half's brightness into class 0: there is the evidence, and nowhere else."""
    image = keras.Input((8, 8, 1))
    maps = layers.Conv2D(2, 1, use_bias=False, name="maps")(image)
    position = np.zeros((8, 8, 2), "float32")
    position[:, :4, 0] = 1
    masked = layers.Rescaling(position)(maps)
    pooled = layers.GlobalAveragePooling2D()(masked)
    model = keras.Model(image, layers.Softmax()(pooled))
    model.get_layer("maps").set_weights([np.array([0.1, 0.0]).reshape(1, 1, 1, 2)])
    heat = grad_cam(model, np.full((2, 8, 8, 1), 200, "uint8"))
    assert heat.shape == (2, 8, 8)
    np.testing.assert_allclose(heat[:, :, :4], 1, atol=1e-6)
    np.testing.assert_allclose(heat[:, :, 4:], 0, atol=1e-6)
