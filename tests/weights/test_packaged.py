"""The trained ResNet-20 in this package: weights="cifar10_jpeg", and the model called "demo"."""

import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

import keras_arch
from keras_arch.published import DEMO, PACKAGED, PUBLISHED

FOLDER = PACKAGED["cifar10_jpeg"]
CLASSES = PUBLISHED["cifar10"].class_names


def test_weights_are_those_of_the_recorded_run():
    record = json.loads((FOLDER / "run.json").read_text())
    assert record["recipe"]["model"] == "resnet20"
    assert record["recipe"]["dataset"] == "cifar10_jpeg"
    from keras_arch.files import hash_of

    model = keras_arch.ResNet20(weights="cifar10_jpeg")
    assert hash_of(model.get_weights()) == record["metrics"]["weights_sha256"]


def test_only_resnet20_fits():
    with pytest.raises(
        keras_arch.InputError, match=r"do not fit resnet32.* missing: stage1_block4"
    ):
        keras_arch.ResNet32(weights="cifar10_jpeg")
    with pytest.warns(keras_arch.DataWarning, match="cifar10_jpeg: layers from scratch: predict"):
        keras_arch.ResNet20(weights="cifar10_jpeg", classes=3)


def test_demo_has_the_class_names_and_the_answers_of_the_weights():
    demo = keras_arch.open_artifact("demo")
    assert demo.path == DEMO
    assert tuple(demo.class_names) == tuple(CLASSES)
    rng = np.random.default_rng(0)  # smooth pictures
    small = rng.integers(0, 256, (50, 4, 4, 3), dtype="uint8")
    images = np.stack([np.asarray(Image.fromarray(x).resize((32, 32), 2)) for x in small])
    expected = keras_arch.ResNet20(weights="cifar10_jpeg")(images.astype("float32")).numpy()
    found = demo.predict(images)
    agree = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
    assert agree > 0.8  # smooth noise is far from photographs
    assert np.abs(found - expected).mean() < 0.03


def test_a_path_called_demo_precedes_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    with pytest.raises(keras_arch.InputError, match="demo is not a model"):
        keras_arch.open_artifact("demo")


def test_predict_demo(script, tmp_path, capfd):
    Image.fromarray(np.full((40, 50, 3), 128, "uint8")).save(tmp_path / "gray.png")
    assert script("predict.py", "demo", tmp_path / "gray.png", "--top", "1") == 0
    printed = capfd.readouterr().out
    assert any(name in printed for name in CLASSES)


@pytest.mark.slow
def test_accuracy_on_photographs(test_data):
    """The first 100 test pictures of each class."""
    path = test_data / "cifar10_jpeg.tar.xz"
    if not path.is_file():
        pytest.skip(f"{path} does not exist")
    images, labels = [], []
    with tarfile.open(path) as archive:
        for member in archive:
            split, *rest = member.name.removeprefix("./").split("/")
            if split == "test" and member.isfile() and int(rest[1][:4]) < 100:
                images.append(
                    np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())))
                )
                labels.append(CLASSES.index(rest[0]))
    assert len(images) == 1000
    accuracy = (
        keras_arch.open_artifact("demo").predict(np.stack(images)).argmax(1) == labels
    ).mean()
    assert accuracy > 0.86
