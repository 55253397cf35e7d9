"""The wheel, the source distribution and the extras of the package."""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

import keras_arch
from keras_arch.extras import BACKENDS, EXTRAS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TRY_BASE = Path(__file__).with_name("try_base.py")
TRAINED = ("history.csv", "labels.txt", "model.keras", "model_int8.tflite", "run.json")
MODULES = {"pillow": "PIL", "scikit-learn": "sklearn"}  # whose names differ from the package's


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the source distribution and, from it, the wheel. Return their paths."""
    folder = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def test_the_sdist_has_every_tracked_file(built):
    """So the tests find what they read: examples, goldens, documentation."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("the tests do not run in a Git clone")
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {name for name in listed.stdout.split("\n") if name} - names == set()


def test_the_wheel_has_the_package_and_the_scripts(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    suffixes = (".py", ".pyi", ".css", ".html", ".js")
    paths = [path for path in (ROOT / "keras_arch").rglob("*") if path.suffix in suffixes]
    files = {str(path.relative_to(ROOT)) for path in paths}
    trained = {f"keras_arch/trained/cifar10_jpeg/{name}" for name in TRAINED}
    images = (ROOT / "keras_arch" / "trained").rglob("*.jpg")
    trained |= {str(path.relative_to(ROOT)) for path in images}
    scripts = {f"keras_arch/scripts/{path.name}" for path in (ROOT / "scripts").glob("*.py")}
    info = f"keras_arch-{keras_arch.__version__}.dist-info"
    assert {name for name in names if not name.startswith(info)} == {
        *files,
        *scripts,
        *trained,
        "keras_arch/py.typed",
        *(["keras_arch/recipes.csv"] if (ROOT / "benchmarks").is_dir() else []),
    }


def requirements(extra):
    """Return the names of the packages that an extra requires, with those of the extras in it."""
    found = set()
    for text in PROJECT["optional-dependencies"][extra]:
        name, _, inner = re.fullmatch(r"([\w-]+)(\[([\w,-]+)\])?.*", text).groups()
        if name == PROJECT["name"]:
            found = found.union(*map(requirements, inner.split(",")))
        else:
            found.add(name)
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_are_those_of_pyproject(extra):
    modules = {MODULES.get(name, name.replace("-", "_")) for name in requirements(extra)}
    assert modules == set(EXTRAS[extra])


def test_all_has_the_extras_for_tensorflow():
    assert requirements("all") == requirements("onnx")
    assert requirements("all") < requirements("dev")
    assert {*BACKENDS.values()} <= set(PROJECT["optional-dependencies"])


def test_the_base_package_needs_keras_and_no_backend():
    """A direct import of another package must be declared, even if Keras installs it."""
    names = {re.match(r"[\w-]+", text)[0] for text in PROJECT["dependencies"]}
    assert names == {"h5py", "keras", "numpy", "rich", "safetensors"}


def test_installed_metadata():
    metadata = importlib.metadata.metadata("keras_arch")
    assert metadata["Version"] == keras_arch.__version__
    assert metadata["License-Expression"] == "Apache-2.0"


PREDICT = """
import importlib.abc, runpy, sys
from keras_arch.extras import EXTRAS
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
HIDDEN = {module for modules in EXTRAS.values() for module in modules} - set(EXTRAS["predict"])
sys.meta_path.insert(0, Hide())
runpy.run_path("scripts/predict.py", run_name="__main__")
"""


def test_the_extra_predict_classifies_with_a_tflite_file(quickstart):
    path = quickstart / "export" / "model_int8.tflite"
    words = [path, "examples/digit.png", "--format", "csv"]
    found = subprocess.run(
        [sys.executable, "-c", PREDICT, *words], cwd=ROOT, capture_output=True, text=True
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("image,")


@pytest.mark.slow
def test_builders_run_without_tensorflow(built, tmp_path):
    """The modules of all extras but jax are hidden. `make package` tries new environments."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: pip install jax")
    zipfile.ZipFile(built[1]).extractall(tmp_path / "site")
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": str(tmp_path / "site"),
        "JAX_PLATFORMS": "cpu",
    }
    found = subprocess.run(
        [sys.executable, TRY_BASE, "resnet8"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == (
        f"keras_arch {keras_arch.__version__} from {tmp_path}/site/keras_arch on jax: passed\n"
    )
