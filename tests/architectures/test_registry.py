"""A new architecture needs two changes: its own file and one row of the registry."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

ROW = '    "twin": Architecture("Twin", "twin", LIN_2013, 966_986),\n'
FIRST_LINE = "ARCHITECTURES = {\n"


@pytest.fixture
def project(tmp_path):
    """A copy of this project with a new architecture: Network in Network under another name."""
    for name in ("docs", "keras_arch", "scripts", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    folder = tmp_path / "keras_arch" / "architectures"
    source = (folder / "network_in_network.py").read_text()
    source = source.replace("NetworkInNetwork", "Twin").replace('"nin"', '"twin"')
    (folder / "twin.py").write_text(source)
    registry = (folder / "registry.py").read_text()
    assert registry.count(FIRST_LINE) == 1
    (folder / "registry.py").write_text(registry.replace(FIRST_LINE, FIRST_LINE + ROW))
    return tmp_path


def run_python(project, *arguments):
    """Run Python in a copy of the project and return what it prints."""
    folders = (project, project / "docs", project / "tests" / "architectures")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


USE = """
import sys
import generate, hooks, keras_arch
print("twin" in keras_arch.available(), "Twin" in keras_arch.__all__)
print("from .architectures.twin import Twin as Twin" in generate.stub_text().splitlines())
print(hooks.other_builders("docs"))
print({"keras", "numpy", "tensorflow"} & set(sys.modules))
model = keras_arch.build("twin", classes=5)
print(model.name, model.output_shape)
print(keras_arch.cost(keras_arch.Twin()).parameters)
from kinds import HEADS, KINDS
print("twin" in HEADS, "twin" in KINDS)
"""
PRINTED = """\
True True
True
['Twin']
set()
twin (None, 5)
966986
True True
"""


@pytest.mark.slow
def test_a_new_architecture_needs_its_file_and_a_row(project):
    assert run_python(project, "-c", USE) == PRINTED


@pytest.mark.slow
def test_a_new_architecture_passes_the_tests_of_all_architectures(project):
    run_python(project, "docs/generate.py")
    golden = project / "tests" / "golden" / "variables"
    expected = (golden / "nin.txt").read_text()
    assert (golden / "twin.txt").read_text() == expected
    tests = ("tests/architectures", "tests/test_structure.py", "tests/hostile/test_count.py")
    words = "twin or stub or readme or public"
    printed = run_python(project, "-m", "pytest", "-n0", "-q", "-rA", "-k", words, *tests)
    for name in (
        "test_contract.py::test_outputs_are_probabilities[twin]",
        "test_contract.py::test_layer_names_are_systematic[twin]",
        "test_contract.py::test_converts_to_built_in_operators[twin]",
        "test_architectures.py::test_parameters_are_those_published[twin]",
        "test_architectures.py::test_names_and_shapes_of_variables_stay[twin]",
        "test_architectures.py::test_readme_has_the_numbers[twin]",
        "test_architectures.py::test_docstrings_of_builders[twin]",
    ):
        assert f"PASSED tests/architectures/{name}" in printed
