"""The measured results of the recipes, in the file, in README.md and in --help."""

import csv
import re
import statistics
import sys

import pytest
from conftest import ROOT
from generate import README, RESULTS_HEADER, read_table, replace_table, results_row
from scipy.stats import binomtest

import keras_arch
from keras_arch.recipes import NOTES
from keras_arch.reports.tables import recipe_table, training_time
from keras_arch.results import FILE, read_results

RESULTS = read_results()
BENCHMARKS = ROOT / "benchmarks"


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
    assert (row["data"], int(row["epochs"])) == (recipe.dataset, recipe.epochs)
    found = [float(value) for value in row["top1_of_each_seed"].split()]
    assert float(row["top1"]) == pytest.approx(statistics.mean(found), abs=1e-4)
    if len(found) > 1:
        assert float(row["deviation"]) == pytest.approx(statistics.stdev(found), abs=2e-4)
    else:
        assert row["deviation"] == ""
    assert float(row["low"]) < float(row["top1"]) < float(row["high"])
    seen = float(row["images_per_second"]) * float(row["seconds"])
    assert int(row["test_images"]) < seen / recipe.epochs
    assert 0 <= float(row["other_load"]) <= 1
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


def fake_run(top1, seconds, int8, other_load):
    return {
        "recipe": {"model": "resnet8", "width": None, "dataset": "digits", "epochs": 30},
        "images": {"train": 1293, "validation": 144, "test": 360},
        "cost": {"parameters": 75002},
        "metrics": {"test": {"top1": top1}, "training_seconds": seconds},
        "hardware": {"processor": "Chip", "cores": 2},
        "precision": "float32",
        "versions": {"keras": "3", "tensorflow": "2"},
        "int8": int8,
        "processor_seconds": 1.5 * seconds,
        "other_load": other_load,
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
