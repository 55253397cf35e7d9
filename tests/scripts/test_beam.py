"""The pipeline of Apache Beam in examples/beam, in an environment of its own."""

import csv
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

import keras_arch
from keras_arch.images.read import read_image

BEAM = ROOT / "examples" / "beam"
NO_NETWORK = re.compile("NewConnectionError|NameResolutionError|Retrying|ConnectTimeout")


@pytest.fixture(scope="module")
def beam_python(tmp_path_factory):
    """The Python of an environment that is installed as examples/beam/README.md says."""
    folder = tmp_path_factory.mktemp("beam")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for words in (["--requirement", BEAM / "requirements.lock"], ["--no-deps", "--editable", ROOT]):
        installed = subprocess.run(
            [folder / "bin/python", "-m", "pip", "install", "--quiet", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if installed.returncode and NO_NETWORK.search(installed.stderr):
            pytest.skip("no network: Apache Beam cannot be installed")
        assert installed.returncode == 0, installed.stderr
    return folder / "bin/python"


@pytest.mark.slow
@pytest.mark.parametrize("as_list", [False, True])
def test_beam_and_open_artifact_have_the_same_probabilities(
    as_list, beam_python, quickstart, digits, tmp_path
):
    model = quickstart / "export/model_int8.tflite"
    paths = [tmp_path / f"digit {number}.png" for number in range(40)]
    for path, image in zip(paths, digits.test.images, strict=False):
        Image.fromarray(image[..., 0]).save(path)
    damaged = tmp_path / "digit x.png"
    damaged.write_bytes(paths[0].read_bytes()[:90])
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in [*paths, damaged]))
    images = tmp_path / ("list.txt" if as_list else "*.png")
    command = [beam_python, BEAM / "predict.py", model, images, "--output", tmp_path / "out"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    with (tmp_path / "out-00000-of-00001.csv").open(newline="") as file:
        rows = {row.pop("image"): row for row in csv.DictReader(file)}
    assert rows.pop(str(damaged)) == {"label": "", "probability": "", "error": "cannot be decoded"}
    assert rows.keys() == {str(path) for path in paths}
    artifact = keras_arch.open_artifact(model)
    for path in paths:
        (shares,) = artifact.predict(read_image(path, artifact.image_shape)[None])
        assert rows[str(path)] == {
            "label": artifact.class_names[shares.argmax()],
            "probability": str(float(shares.max())),
            "error": "",
        }
