"""The measured results of the recipes, in the file, in README.md and in --help."""

import csv
import dataclasses
import json
import re
import statistics
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from generate import (
    ABLATION,
    ABLATION_HEADER,
    README,
    RESULTS_HEADER,
    TRAINING,
    ablation_row,
    read_table,
    replace_table,
    results_row,
)
from scipy.stats import binomtest

import keras_arch
from keras_arch.recipes import NOTES
from keras_arch.reports.tables import machine_of, recipe_table, training_time
from keras_arch.results import FILE, read_results

RESULTS = read_results()
BENCHMARKS = ROOT / "benchmarks"
RECODED = {"cifar10": "cifar10_jpeg"}  # the same images, after lossy compression as JPEG


def read_rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


ROWS = read_rows(FILE)


def test_results_and_notes_are_of_recipes():
    assert set(RESULTS) <= set(keras_arch.RECIPES)
    assert set(NOTES) <= set(keras_arch.RECIPES)
    assert len(ROWS) == len(RESULTS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["recipe"])
def test_a_row_agrees_with_itself_and_with_its_recipe(row):
    recipe = keras_arch.RECIPES[row["recipe"]]
    assert (row["model"], float(row["width"])) == (recipe.model, recipe.width or 1)
    assert row["data"] in (recipe.dataset, RECODED.get(recipe.dataset))
    assert int(row["epochs"]) == recipe.epochs
    found = [float(value) for value in row["top1_of_each_seed"].split()]
    assert float(row["top1"]) == pytest.approx(statistics.mean(found), abs=1e-4)
    if len(found) > 1:
        assert float(row["deviation"]) == pytest.approx(statistics.stdev(found), abs=2e-4)
    else:
        assert row["deviation"] == ""
    assert float(row["low"]) < float(row["top1"]) < float(row["high"])
    seen = float(row["images_per_second"]) * float(row["seconds"])
    assert int(row["test_images"]) < seen / recipe.epochs
    assert row["other_load"] == row["processor_seconds"] == "" or 0 <= float(row["other_load"]) <= 1
    assert re.fullmatch(r"[0-9a-f]{40}\+?", row["commit"])


def test_the_table_of_results_in_the_readme_has_all_rows():
    rows = "".join(results_row(name, result) for name, result in RESULTS.items())
    assert read_table("results", README.read_text()) == RESULTS_HEADER + rows, "run make generate"


def test_an_empty_table_is_replaced_alone():
    """The table of models follows it, and ends with the same mark."""
    start = "<!-- {}, written by make generate -->\n"
    text = start.format("results") + "<!-- end -->\nText.\n" + start.format("models")
    found = replace_table("results", text + "old\n<!-- end -->\n", "new\n")
    assert (read_table("results", found), read_table("models", found)) == ("new\n", "old\n")
    assert "Text." in found


def test_help_lists_all_recipes_with_their_results(script, capfd):
    assert script("train.py", "--help") in (0, None)
    text = capfd.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for name in keras_arch.RECIPES:
        (line,) = re.findall(rf"^{name} .*$", text, re.MULTILINE)
        if name in RESULTS:
            assert f" {RESULTS[name].top1:.1%} " in line
            assert line.endswith(training_time(RESULTS[name]))
        else:
            assert line.split()[-4:] == ["not", "run", "yet", "-"]
    joined = " ".join(text.split())
    assert all(f"{name}: {note}" in joined for name, note in NOTES.items())
    assert all(result.processor in joined for result in RESULTS.values())


def test_a_result_on_other_data_has_a_note():
    for name, result in RESULTS.items():
        if result.data != keras_arch.RECIPES[name].dataset:
            assert f"--dataset {result.data}" in NOTES[name]


def test_a_recipe_needs_no_result():
    table = recipe_table("train.py", {"mine": keras_arch.RECIPES["quickstart"]}, {}, {})
    assert re.search(r"^mine +resnet8 +digits +30 +not run yet +-$", table, re.MULTILINE)
    assert "Measured" not in table


def test_a_project_without_results(tmp_path):
    assert read_results(tmp_path / "recipes.csv") == {}


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "recipes", raising=False)
    import recipes

    return recipes


def fake_run(top1, seconds, int8, other_load=None, kind=""):
    load = {"processor_seconds": 1.5 * seconds, "other_load": other_load}
    return (load if other_load is not None else {}) | {
        "recipe": dataclasses.asdict(keras_arch.RECIPES["quickstart"]),
        "images": {"train": 1293, "validation": 144, "test": 360},
        "cost": {"parameters": 75002},
        "metrics": {"test": {"top1": top1}, "training_seconds": seconds},
        "devices": {"count": 1, "processes": 1, "kind": kind},
        "hardware": {"processor": "Chip", "cores": 2},
        "precision": "float32",
        "backend": "jax" if kind else "tensorflow",
        "versions": {"keras": "3", "tensorflow": "2"},
        "git_commit": "0" * 40,
        "int8": int8,
    }


def test_the_benchmark_writes_rows_that_are_read(benchmark, tmp_path):
    path = tmp_path / "recipes.csv"
    runs = [fake_run(357 / 360, 20, 1, 0), fake_run(353 / 360, 22, 359 / 360, 0.02)]
    benchmark.write_row(path, benchmark.summarize("quickstart", runs))
    busy = [fake_run(350 / 360, 100, 350 / 360, 0.3)]
    benchmark.write_row(path, benchmark.summarize("digits", busy))
    benchmark.write_row(path, benchmark.summarize("quickstart", runs))  # replaces its row
    found = read_results(path)
    assert list(found) == ["quickstart", "digits"]
    quickstart, digits = found.values()
    assert (quickstart.top1, quickstart.seeds) == (pytest.approx(355 / 360, abs=1e-4), 2)
    assert (quickstart.seconds, training_time(quickstart)) == (21, "21 s")
    assert training_time(digits) == "2 min CPU"
    interval = binomtest(350, 360).proportion_ci(method="wilson")
    assert (digits.low, digits.high) == pytest.approx((interval.low, interval.high), abs=1e-4)
    rows = read_rows(path)
    assert float(rows[0]["deviation"]) == pytest.approx(4 / 360 / 2**0.5, abs=1e-4)
    assert float(rows[0]["images_per_second"]) == round(30 * 1293 / 21)


@pytest.fixture
def gpu_run(tmp_path):
    run = tmp_path / "run"
    (run / "export").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(fake_run(1, 90, None, kind="Big GPU")))
    exported = {"artifacts": {"int8": {"metrics": {"top1": 0.99}}}}
    (run / "export" / "export.json").write_text(json.dumps(exported))
    return run


def test_the_row_of_a_run_on_a_gpu(benchmark, gpu_run, tmp_path, monkeypatch):
    """Nobody measured the load of that machine, so its time is that of the training."""
    commands, path = [], tmp_path / "recipes.csv"
    monkeypatch.setattr(benchmark, "keras_arch_command", lambda *words: commands.append(words))
    words = ["quickstart", "--runs", str(gpu_run), "--data-dir", "data", "--output", str(path)]
    monkeypatch.setattr(sys, "argv", ["recipes.py", *words])
    benchmark.main()
    (command,) = commands
    assert command[:2] == ("export", gpu_run)
    assert command[-2:] == ("--data-dir", "data")
    (found,) = read_results(path).values()
    assert (found.top1, found.int8_top1, found.processor_seconds) == (1, 0.99, None)
    assert training_time(found) == "90 s GPU"
    assert machine_of(found) == "Big GPU, Chip, 2 cores, float32, Keras on jax"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["digits"], "is not a run of digits, or of an earlier version of it"),
        (["quickstart", "digits"], "--runs takes one recipe"),
        (["quickstart", "--epochs", "3"], "without --seeds, --dataset and --epochs"),
        (["quickstart", "--seeds", "3"], "without --seeds, --dataset and --epochs"),
    ],
)
def test_only_runs_of_the_recipe_get_a_row(
    benchmark, gpu_run, tmp_path, monkeypatch, capsys, words, problem
):
    path = tmp_path / "recipes.csv"
    command = ["recipes.py", *words, "--runs", str(gpu_run), "--output", str(path)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        benchmark.main()
    assert problem in f"{end.value} {capsys.readouterr().err}"
    assert not path.exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [(["--epochs", "1"], "Pass --output, too"), (["--seeds", "0"], "--seeds must be at least 1")],
)
def test_a_trial_replaces_no_row(benchmark, monkeypatch, capsys, words, problem):
    monkeypatch.setattr(benchmark, "measure", None)
    monkeypatch.setattr(sys, "argv", ["recipes.py", "digits", *words])
    with pytest.raises(SystemExit):
        benchmark.main()
    assert problem in capsys.readouterr().err


def test_several_devices_are_counted(benchmark):
    devices = {"count": 2, "processes": 1, "kind": "Big GPU"}
    assert benchmark.name_accelerator(devices) == "2 x Big GPU"
    assert benchmark.name_accelerator(devices | {"kind": "cpu"}) == ""


@pytest.mark.slow
def test_the_benchmark_trains_and_exports(benchmark, tmp_path, monkeypatch, capfd):
    path = tmp_path / "recipes.csv"
    words = ["recipes.py", "quickstart", "--seeds", "2", "--epochs", "2", "--output", str(path)]
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    (row,) = read_rows(path)
    assert (row["recipe"], row["model"], row["test_images"]) == ("quickstart", "resnet8", "360")
    first, second = map(float, row["top1_of_each_seed"].split())
    assert first != second
    assert 0.2 < float(row["int8_top1"]) <= 1
    assert 0 < float(row["seconds"]) < float(row["processor_seconds"])
    assert "quickstart: " in capfd.readouterr().out


# --- benchmarks/ablation.py ---


@pytest.fixture
def ablation(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ablation

    return ablation


def test_the_table_of_the_ablation_has_all_rows(ablation):
    rows = json.loads(ABLATION.read_text())["rows"]
    assert list(rows) == list(ablation.ROWS)
    lines = "".join(ablation_row(name, trainings) for name, trainings in rows.items())
    assert read_table("ablation", TRAINING.read_text()) == ABLATION_HEADER + lines


def test_the_base_of_the_ablation_is_the_recorded_one(ablation):
    recorded = json.loads(ABLATION.read_text())["base"]
    base = json.loads(json.dumps(dataclasses.asdict(ablation.BASE)))
    assert {name: base[name] for name in recorded} == recorded


@pytest.mark.parametrize(
    ("recipe", "row", "differences"),
    [
        (
            "fashion-mnist-fast",
            "4 small epochs, batch 256, learning rate 0.4, flip",
            {"early_epochs": 5},
        ),
        (
            "fashion-mnist-resnet14",
            "33 epochs: augment random_erasing",
            {"epochs": 60, "early_epochs": 36, "batch_size": 256, "learning_rate": 0.2},
        ),
    ],
)
def test_recipes_follow_a_row_of_the_ablation(ablation, recipe, row, differences):
    changes = ablation.ROWS[row].changes | differences
    follows = dataclasses.replace(ablation.BASE, precision="auto", **changes)
    assert keras_arch.RECIPES[recipe] == follows


@pytest.fixture
def fake_ablation(ablation, tmp_path, monkeypatch):
    """Return a function that calls the script without training, and the path of its output."""
    calls, path = [], tmp_path / "ablation.json"

    def measure(base, row, data, seed):
        calls.append((row, seed, data.train.count))
        return {"validation": 0.9, "test": 0.8, "training": 1.0}

    digits = keras_arch.load_dataset("digits")
    monkeypatch.setattr(ablation, "measure", measure)
    monkeypatch.setattr(ablation.keras_arch, "load_dataset", lambda *words: digits)

    def call(*words, output=path):
        monkeypatch.setattr(sys, "argv", ["ablation.py", *words, "--output", str(output)])
        ablation.main()
        return calls

    return call, path


def test_the_ablation_measures_the_chosen_rows(ablation, fake_ablation):
    call, path = fake_ablation
    call("augment none", "--seeds", "0", "1", "--images", "100")
    calls = call("base", "--seeds", "2")
    none, base = ablation.ROWS["augment none"], ablation.ROWS["base"]
    assert calls == [(none, 0, 100), (none, 1, 100), (base, 2, 1293)]
    rows = json.loads(path.read_text())["rows"]
    assert {name: list(seeds) for name, seeds in rows.items()} == {
        "base": ["2"],
        "augment none": ["0", "1"],
    }


def test_the_ablation_refuses_unknown_rows_and_other_conditions(ablation, fake_ablation, capsys):
    call, path = fake_ablation
    with pytest.raises(SystemExit):
        call("no such row")
    assert "unknown rows: no such row" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call("base", "--images", "100", output=ablation.OUTPUT)
    assert "--images is for a trial" in capsys.readouterr().err
    call("base", "--seeds", "0")
    path.write_text(path.read_text().replace('"backend": "', '"backend": "other '))
    before = path.read_bytes()
    with pytest.raises(SystemExit):
        call("base")
    assert "other conditions" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_alternating_flips_mirror_an_image_in_every_second_epoch(ablation):
    from keras_arch.data import augment, order

    draw = order.random_numbers
    undo = ablation.alternate_flips()
    numbers = [order.random_numbers(1000, 0, tf.constant(epoch, tf.int64)) for epoch in range(3)]
    undo()
    assert order.random_numbers is draw
    first, second, third = (drawn.numpy()[:, augment.FLIP] < 0.5 for drawn in numbers)
    assert (first != second).all()
    assert (first == third).all()
    assert 400 < first.sum() < 600
    plain = draw(1000, 0, tf.constant(1, tf.int64)).numpy()
    others = np.arange(plain.shape[1]) != augment.FLIP
    assert (plain[:, others] == numbers[1].numpy()[:, others]).all()


def test_whitening_filters_give_uncorrelated_outputs_of_equal_variance(ablation):
    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1)).astype("float32")
    images = (images + np.roll(images, 1, axis=2)) / 2  # neighbors are correlated
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(18, 3, use_bias=False)])
    outputs = ablation.whiten(model, images)(images / 255)
    outputs = keras.ops.convert_to_numpy(outputs).reshape(-1, 18)
    assert np.cov(outputs[:, :9].T) == pytest.approx(np.eye(9), abs=0.08)
    assert outputs[:, 9:] == pytest.approx(-outputs[:, :9], abs=1e-5)


@pytest.mark.parametrize("count", [3, 128, 256])
def test_the_trimmed_loss_leaves_out_the_largest_losses(ablation, count):
    right = np.linspace(0.01, 0.99, count)
    probabilities = np.stack([right, 1 - right], axis=1).astype("float32")
    labels = np.repeat([[1.0, 0.0]], count, axis=0).astype("float32")
    kept = np.sort(-np.log(right))[: int(0.9 * count)]
    found = float(ablation.Trimmed(0.1)(labels, probabilities))
    assert found == pytest.approx(kept.sum() / 0.9 / count, rel=1e-4)


def test_biases_are_trained_at_a_higher_rate(ablation):
    """After a step of a dense layer with a gradient of 1 for kernel and bias."""

    def step():
        recipe = dataclasses.replace(ablation.BASE, weight_decay=0, warmup_epochs=0)
        optimizer = ablation.optimizers.build_optimizer(recipe, 10)
        layer = keras.layers.Dense(1, kernel_initializer="zeros")
        layer.build((None, 1))
        optimizer.apply([tf.ones((1, 1)), tf.ones(1)], layer.trainable_variables)
        return [weights.item() for weights in layer.get_weights()]

    kernel, bias = step()
    undo = ablation.raise_bias_rate(8)
    raised = step()
    undo()
    assert raised == pytest.approx([kernel, 8 * bias])
    assert step() == [kernel, bias]


@pytest.mark.slow
def test_the_ablation_trains_without_scales(ablation, monkeypatch):
    models, fit = [], keras_arch.fit
    monkeypatch.setattr(
        keras_arch,
        "fit",
        lambda model, *rest, **more: (models.append(model), fit(model, *rest, **more))[1],
    )
    data = keras_arch.load_dataset("digits")
    base = keras_arch.Recipe("resnet8", "digits", epochs=2, learning_rate=0.1, batch_size=128)
    found = ablation.measure(base, ablation.Row(prepare=ablation.without_scales), data, 0)
    assert set(found) == {"validation", "test", "training"}
    assert 0.2 < found["training"] <= 1
    names = {variable.name for variable in models[0].trainable_variables}
    assert "beta" in names
    assert "gamma" not in names
