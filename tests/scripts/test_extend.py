"""The examples of docs/extend.md, each run with the real package."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import keras_arch
from keras_arch.runs.history import read_history

PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
BLOCK = re.compile(r'^```(?:python(?: title="(?P<file>.+?)")?)?\n(?P<code>.*?)^```', re.M | re.S)


def blocks(heading):
    """Return {file name or number: code} of the section with a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = {
        match["file"] or number: match["code"]
        for number, match in enumerate(BLOCK.finditer(section))
    }
    assert found, heading
    return found


@pytest.fixture
def run(small_digits, tmp_path, monkeypatch):
    """Return a function that runs the code of a section in an empty directory."""
    monkeypatch.chdir(tmp_path)
    recipe = dataclasses.replace(
        keras_arch.RECIPES["quickstart"], epochs=2, precision="float32", augment="none"
    )
    image = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(
        image, keras.layers.Dense(10, activation="softmax", name="predictions")(flat)
    )
    namespace = {"data": small_digits, "model": model, "recipe": recipe}
    namespace |= {"asdict": dataclasses.asdict, "keras": keras, "keras_arch": keras_arch}

    def execute(heading):
        (code,) = blocks(heading).values()
        exec(compile(code, heading, "exec"), namespace)
        return namespace

    return execute


def test_the_first_block_defines_what_the_examples_use(small_digits):
    """`small_digits` replaces `load_dataset`."""
    namespace = {}
    exec(BLOCK.search(PAGE)["code"], namespace)
    assert set(namespace) >= {"asdict", "keras", "keras_arch", "data", "model", "recipe"}


def test_arrays(run):
    history = run("Your data")["history"]
    assert len(history["val_loss"]) == 2


@pytest.mark.filterwarnings("default")  # of wandb
def test_weights_and_biases(run, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run("Weights & Biases")
    history = read_history(tmp_path / "runs" / "wandb")
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    written = file.read_bytes()
    for name, column in history.items():
        assert name.encode() in written
        for value in column:
            assert json.dumps(value).encode() in written


@pytest.mark.filterwarnings("default")  # of mlflow
def test_mlflow(run, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{tmp_path}/store")
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    run("MLflow")
    history = read_history(tmp_path / "runs" / "mlflow")
    run_id = mlflow.last_active_run().info.run_id
    (folder,) = (tmp_path / "store").glob(f"*/{run_id}")
    for name, column in history.items():
        rows = [line.split() for line in (folder / "metrics" / name).read_text().splitlines()]
        assert [(float(value), int(step)) for _, value, step, *_ in rows] == [
            (value, epoch) for epoch, value in enumerate(column)
        ]
    assert (folder / "params" / "batch_size").read_text() == "32"
    saved = tmp_path / "runs" / "mlflow" / "model.keras"
    assert (folder / "artifacts" / "model.keras").read_bytes() == saved.read_bytes()


def test_tensorboard(run, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("TensorBoard")
    history = read_history(tmp_path / "runs" / "board")
    events = EventAccumulator(str(tmp_path / "runs/board/tensorboard/validation"), {"tensors": 0})
    events.Reload()
    values = [float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("epoch_loss")]
    assert values == pytest.approx(history["val_loss"])


def test_metrics_and_loss(run, capsys):
    namespace = run("Metrics and loss")
    outputs = namespace["model"].predict(namespace["data"].validation.images, verbose=0)
    labels = namespace["data"].validation.labels
    best = np.argsort(-outputs, axis=1)[:, :3]
    share = (best == labels[:, np.newaxis]).any(axis=1).mean()
    assert pytest.approx(share) in namespace["history"]["val_top3"]
    assert capsys.readouterr().out.endswith(f"{namespace['history']['val_top3'][-1]}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "train.py digits --augment none.py:f",
            "none.py must be a Python file. Received: a path th",
        ),
        (
            "train.py digits --callback mine.py:g",
            "a function in {}/mine.py. Received: 'g'. Use one of f",
        ),
        (
            "train.py digits --augment mine.py:f() ",
            "--augment: Expected a choice or FILE.py:function. Received: 'mine.py:f()'",
        ),
        ("train.py digits --callback mine.py", "`callback` must be FILE.py:function. Received: "),
        ("show_data.py digits --augment mine.py:g", "a function in mine.py. Received: 'g'."),
        (
            "show_data.py digits --augment mine.py",
            "--augment: Expected a choice or FILE.py:function. Received: 'mine.py'",
        ),
    ],
)
def test_a_wrong_function_is_one_line_before_any_work(
    words, message, script, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def f():\n    return None\n")
    monkeypatch.setattr(keras_arch, "load_dataset", None, raising=False)  # the first work
    assert script(*words.split()) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message.format(tmp_path) in line
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["mine.py"]


def use_files(heading):
    """Write the files of a section, and return its commands as lists of words."""
    commands = []
    for name, code in blocks(heading).items():
        if isinstance(name, str):
            with open(name, "w") as file:
                file.write(code)
        else:
            commands += [line.split()[1:] for line in code.splitlines()]
    return commands


@pytest.mark.slow
def test_callback_of_a_file(script, data_dir, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    ((_, *words),) = use_files("Callbacks")
    words += ["--epochs", "1", "--output", "run", "--data-dir", str(data_dir)]
    assert script("train.py", *words) == 0
    history = read_history(tmp_path / "run")
    assert f"gap {history['val_loss'][0] - history['loss'][0]:.3f}\n" in capfd.readouterr().out
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())
    text = f"{tmp_path / 'mine.py'}:print_gap"
    assert recorded["recipe"]["callback"] == [text]
    assert list(recorded["functions"]) == [text]


@pytest.mark.slow
def test_architecture_of_a_file(script, data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ((_, *words),) = use_files("Architecture")
    words += ["--epochs", "1", "--output", "run", "--data-dir", str(data_dir)]
    assert script("train.py", *words) == 0
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert model.get_layer("conv").kernel.shape == (3, 3, 1, 64)
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())
    assert list(recorded["functions"]) == [f"{tmp_path / 'network.py'}:small"]


@pytest.mark.slow
def test_augmentation_of_a_file(script, data_dir, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    show, train = use_files("Augmentation")
    assert script("show_data.py", *show[1:], "--data-dir", data_dir) == 0
    assert (tmp_path / "data.png").is_file()
    train = [*train[1:], "--epochs", "1", "--output", "run", "--data-dir", data_dir]
    assert script("train.py", *train) == 0
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())
    assert recorded["recipe"]["augment"] == f"{tmp_path / 'augment.py'}:brighten"
    assert "augment.py:brighten" in (tmp_path / "run" / "report.html").read_text()
