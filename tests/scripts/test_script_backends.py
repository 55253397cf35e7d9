"""Keras backends of the scripts: all use that of Keras, except exports and Grad-CAM.

Those use TensorFlow, also the page of an export, which reads its data.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version

import keras
import pytest
from conftest import ROOT

DIGIT = ROOT / "examples" / "digit.png"  # a seven of the test split
# {command that stops with an error before it uses Keras: its backend}
BACKENDS = {
    "export.py DIRECTORY": "tensorflow",
    "demo.py DIRECTORY": "tensorflow",
    "demo.py demo --output FILE": "jax",
    "predict.py FILE IMAGE --explain FILE": "tensorflow",
    "predict.py FILE IMAGE": "jax",
    "train.py quickstart --output FILE": "jax",
    "evaluate.py": "jax",
    "calibrate.py FILE": "jax",
    "compare.py FILE": "jax",
    "cost.py": "jax",
    "show_data.py digits --output FILE": "jax",
}


@pytest.mark.parametrize("command", BACKENDS)
def test_only_export_demo_and_explain_choose_tensorflow(command, script, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert keras.backend.backend() == "tensorflow"  # in this process
    (tmp_path / "file").touch()
    names = command.replace("FILE", str(tmp_path / "file")).replace("DIRECTORY", str(tmp_path))
    name, *words = names.split()
    assert script(name, *words) == 2
    assert os.environ["KERAS_BACKEND"] == BACKENDS[command]


def python(*arguments, **environment):
    """Run Python in another process and return its stdout and the lines of its stderr."""
    kept = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    found = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout, found.stderr.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["variable", "file"])
def test_export_and_explain_work_whatever_backend_is_set(setting, quickstart, tmp_path):
    """The backend that is set need not be installed."""
    run, maps = tmp_path / "run", tmp_path / "maps"
    shutil.copytree(quickstart, run, ignore=shutil.ignore_patterns("export"))
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    environment = {
        "variable": {"KERAS_BACKEND": "jax"},
        "file": {"KERAS_HOME": str(tmp_path)},
    }[setting]
    _, notices = python("scripts/export.py", run, "--formats", "float32", **environment)
    assert notices == []
    assert (run / "export" / "model_float32.tflite").exists()
    words = ("scripts/predict.py", run / "model.keras", DIGIT, "--explain", maps)
    printed, notices = python(*words, **environment)
    assert printed.startswith(f"{DIGIT}: 7")
    assert notices == [f"Heat maps saved to {maps}."]
    assert [path.name for path in maps.iterdir()] == ["0000_digit.png"]


RUN_SCRIPTS = """
import json, sys
from conftest import run_script
for command in json.loads(sys.argv[1]):
    assert run_script(*command) == 0, command
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_scripts_run_on_another_backend(backend, quickstart, tmp_path, data_dir, script):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install {backend}")
    run, exported = tmp_path / "run", quickstart / "export/model_float32.tflite"
    words = f"--epochs 1 --batch-size 128 --data-dir {data_dir} --output {run}".split()
    _, notices = python("scripts/train.py", "quickstart", *words, KERAS_BACKEND=backend)
    assert notices == []
    record = json.loads((run / "run.json").read_text())
    assert (record["backend"], record["precision"]) == (backend, "float32")
    assert record["versions"][backend] == version(backend)
    commands = [
        ["evaluate.py", run, quickstart / "model.keras", exported, "--output", tmp_path / "out"],
        ["predict.py", quickstart / "model.keras", DIGIT],
        ["calibrate.py", run],
        ["compare.py", run, quickstart, "--output", tmp_path / "both.png"],
        ["cost.py", "resnet8"],
        ["show_data.py", "digits", "--data-dir", data_dir, "--output", tmp_path / "data.png"],
    ]
    words = json.dumps([list(map(str, command)) for command in commands])
    printed, _ = python("-c", RUN_SCRIPTS, words, KERAS_BACKEND=backend)
    assert f"{DIGIT}: 7" in printed
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    mine, trained_on_tensorflow, lite = (one["metrics"]["top1"] for one in metrics["artifacts"])
    assert mine == record["metrics"]["test"]["top1"]
    assert trained_on_tensorflow == lite
    assert script("export.py", run, "--formats", "float32", "--max-drop", "100") == 0
