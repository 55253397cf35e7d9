"""Class names with any characters are shown as text in figures, tables, report.html and cards."""

import csv
import html
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.cells import cell_len

import keras_arch
from keras_arch.cli import fail, print_table
from keras_arch.data.splits import InMemory
from keras_arch.errors import DataWarning
from keras_arch.evaluation.evaluate import Evaluation, find_mistakes
from keras_arch.evaluation.metrics import compute_metrics
from keras_arch.evaluation.predictions import classify
from keras_arch.export.model_card import model_card
from keras_arch.reports.figures import draw_curves, draw_grid, figure_label, write_evaluation
from keras_arch.reports.html import write_figures_and_report
from keras_arch.reports.predictions import WRITERS
from keras_arch.reports.tables import class_rows, confusions_line
from keras_arch.runs.history import write_history
from keras_arch.runs.record import finish_run, read_run, start_run
from keras_arch.text import in_markdown, printable, shorten
from keras_arch.training.precision import Precision

RNG = np.random.default_rng(0)
NAMES = (
    "$x",
    "a$b$",
    "tab\t esc\x1b[31m",
    "猫と犬 🐱",
    "x" * 59 + "y",
    "[/red]",
    "<b>&",
    "_under",
    "a|b `c` [d](e)",
    "\\$",
)
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")  # except newlines


@pytest.fixture
def noise():
    labels = np.arange(60) % len(NAMES)
    split = InMemory(RNG.integers(0, 256, (60, 4, 4, 1)).astype("uint8"), labels)
    return keras_arch.Dataset("a$b$ [/red]", split, split, split, NAMES, (4, 4, 1))


@pytest.fixture
def probabilities():
    return RNG.dirichlet(np.ones(len(NAMES)), 60).astype("float32")


# --- the text itself ---


def test_control_characters_are_escaped_and_others_stay():
    assert (
        printable("a\tb\r\n\x1b[0m\x85\u2028\u202e\udce9")
        == r"a\tb\r\n\x1b[0m\x85\u2028\u202e\udce9"
    )
    for name in ("naïve Ä", "猫", "👩\u200d🔬", "a\u3000b", "[/red] $x$ \\"):
        assert printable(name) == name


def test_long_names_are_shortened_in_the_middle():
    assert shorten("short", 10) == "short"
    assert shorten("left" + "x" * 60 + "right", 11) == "leftx…right"
    assert cell_len(shorten("猫" * 60, 20)) <= 20


def test_markdown_shows_a_name_unchanged():
    """Checked with the Markdown renderer of rich."""
    from rich.console import Console
    from rich.markdown import Markdown

    for name in (*NAMES, "*a* _b_", "~~x~~", "&amp;", "# x", "<script>"):
        console = Console(file=io.StringIO(), width=200)
        console.print(Markdown(f"on {in_markdown(name)}."))
        assert console.file.getvalue().strip() == f"on {printable(name)}."


# --- figures ---


def render(text, **options):
    figure, file = Figure(figsize=(4, 1)), io.BytesIO()
    figure.text(0.1, 0.5, text, **options)
    figure.savefig(file)
    return file.getvalue()


@pytest.mark.parametrize("name", ["$x", "a$b$", "\\$", "$$", "a\\$b$", "\\"])
def test_dollar_signs_do_not_start_a_formula(name):
    assert render(figure_label(name)) == render(name, parse_math=False)


def record_texts(monkeypatch):
    """Return a list that receives all text of the figures that are saved from now on."""
    drawn = []
    save = Figure.savefig

    def savefig(figure, *arguments, **options):
        drawn.extend(
            text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))
        )
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return drawn


def test_figures_of_an_evaluation_show_all_class_names(noise, probabilities, tmp_path, monkeypatch):
    drawn = record_texts(monkeypatch)
    metrics = compute_metrics(probabilities, noise.test.labels, NAMES)
    row = Evaluation("one", 1, metrics, 1.0, None, 1.0)
    write_evaluation(tmp_path, noise, "test", ["one"], [row], [probabilities], noise.test.labels)
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert {figure_label(name) for name in NAMES} <= set(drawn)
    assert not any(CONTROLS.search(text) or "x" * 30 in text for text in drawn)
    (found,) = json.loads((tmp_path / "metrics.json").read_text())["artifacts"]
    assert found["metrics"]["classes"].keys() == set(NAMES)


def test_curves_have_a_legend_for_each_run(tmp_path, monkeypatch):
    drawn = record_texts(monkeypatch)
    history = {name: [0.5, 0.4] for name in ("loss", "val_loss", "accuracy", "val_accuracy")}
    draw_curves(tmp_path / "curves.png", dict.fromkeys(NAMES, history))
    for name in NAMES:  # matplotlib omits labels that begin with an underscore
        assert f"validation {figure_label(name)}" in drawn


def test_grid_shows_all_class_names(noise, tmp_path, monkeypatch):
    drawn = record_texts(monkeypatch)
    draw_grid(tmp_path / "grid.png", noise, "none", 0)
    assert {figure_label(name, 16) for name in NAMES} <= set(drawn)


# --- the screen ---


def test_tables_print_names_without_markup_and_control_characters(capsys):
    print_table([{"class": name, name: "[red]:smile:"} for name in NAMES[:1]])
    print_table([{"class": shorten(name), "[/red] head": "[red]:smile:"} for name in NAMES])
    printed = capsys.readouterr().out
    assert not CONTROLS.search(printed)
    for text in (
        "[/red] head",
        "[red]:smile:",
        r"tab\t esc\x1b[31m",
        "猫と犬",
        "a|b `c` [d](e)",
        "…",
        "$x",
    ):
        assert text in printed


def test_rows_of_an_evaluation_are_short_and_printable(noise, probabilities):
    row = compute_metrics(probabilities, noise.test.labels, NAMES)
    texts = [cells["class"] for cells in class_rows(row)] + [confusions_line(row)]
    assert not any(CONTROLS.search(text) or "x" * 40 in text for text in texts)


def test_predictions_keep_names_in_json_and_csv_and_escape_them_in_text(tmp_path, capsys):
    path = tmp_path / "a\tb\n.png"
    Image.new("L", (4, 4)).save(path)
    names = (*NAMES[:-1], "cr\r, lf\n")
    artifact = SimpleNamespace(
        image_shape=(4, 4, 1),
        predict=lambda images: np.linspace(0, 1, len(names))[np.newaxis, ::-1],
    )
    printed = {}
    for form, write in WRITERS.items():
        write(classify(artifact, [path], names, len(names)))
        printed[form] = capsys.readouterr().out
    assert len(printed["table"].splitlines()) == 1
    assert not CONTROLS.search(printed["table"])
    assert r"tab\t esc\x1b[31m" in printed["table"]
    row = json.loads(printed["json"])
    assert [one["label"] for one in row["classes"]] == list(names)
    (row,) = csv.DictReader(io.StringIO(printed["csv"], newline=""))
    assert [row[f"label_{number}"] for number in range(1, len(names) + 1)] == list(names)
    assert row["image"] == str(path)


def test_error_messages_are_one_line(capsys):
    assert fail(keras_arch.InputError("a\n\x1b[31mb", details=["x\ny\x1b"])) == 2
    assert capsys.readouterr().err == "error: a \\x1b[31mb\n  x\\ny\\x1b\n"


# --- a page, a card, and a run that is complete before it is drawn ---


@pytest.fixture
def run(tmp_path, noise):
    """A run directory before figures are drawn, of a small model with an unusual layer name."""
    image = keras.Input((4, 4, 1))
    outputs = keras.layers.Dense(len(NAMES), "softmax", name="[red]")(keras.layers.Flatten()(image))
    model = keras.Model(image, outputs, name="m")
    recipe = keras_arch.Recipe("resnet8", "/data/<b> $x$", epochs=1, learning_rate=0.1)
    start_run(tmp_path, recipe, Precision("float32"), None, noise)
    history = {name: [0.5] for name in ("loss", "val_loss", "accuracy", "val_accuracy", "seconds")}
    write_history(tmp_path / "history.csv", history)
    return SimpleNamespace(folder=tmp_path, model=model, recipe=recipe, history=history)


def finish(run, noise, probabilities):
    metrics = dict.fromkeys(
        ("validation", "test"), compute_metrics(probabilities, noise.test.labels, NAMES)
    )
    return finish_run(run.folder, run.history, metrics, keras_arch.cost(run.model), "0")


def test_report_and_model_card_show_names_as_text(run, noise, probabilities):
    metrics = finish(run, noise, probabilities)
    write_figures_and_report(run.folder, find_mistakes(probabilities, noise.test.labels, noise))
    assert (run.folder / "curves.png").exists()
    text = (run.folder / "report.html").read_text()
    assert "<title>resnet8 on &lt;b&gt; $x$</title>" in text
    assert not CONTROLS.search(text)
    cells = [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", text)]
    assert {printable(name) for name in NAMES} <= set(cells)
    report = {
        "model": "[/red]",
        "license": "see [x](y)",
        "version": "1",
        "image_size": (4, 4),
        "artifacts": {},
        "verification": {"images": 1, "top1": 1.0},
        "calibration": {"images": 1},
    }
    card = model_card(
        report, {"recipe": run.recipe, "metrics": metrics, "images": noise.sizes}, NAMES
    )
    assert card.startswith("# \\[/red\\] on \\<b\\> \\$x\\$\n")
    assert f": {', '.join(map(in_markdown, NAMES))}." in card
    assert "[x](y)" not in card


def test_a_figure_that_fails_is_a_warning(run, noise, probabilities, monkeypatch):
    def fail(*arguments):
        raise ValueError("ParseSyntaxException:\n^")

    metrics = finish(run, noise, probabilities)
    monkeypatch.setattr("keras_arch.reports.html.draw_confusion", fail)
    with pytest.warns(DataWarning, match="Confusion matrix.* ParseSyntaxException:$"):
        write_figures_and_report(run.folder, find_mistakes(probabilities, noise.test.labels, noise))
    assert (run.folder / "report.html").read_text().count("data:image/png;base64,") == 3
    monkeypatch.setattr("keras_arch.reports.html.draw_curves", fail)
    monkeypatch.setattr("keras_arch.reports.html.html_table", fail)
    with pytest.warns(DataWarning) as warned:
        write_figures_and_report(run.folder, find_mistakes(probabilities, noise.test.labels, noise))
    assert [str(one.message).split(" ")[0] for one in warned] == [
        "curves.png",
        "The",
        "The",
        "report.html",
    ]
    assert read_run(run.folder)["metrics"] == json.loads(json.dumps(metrics))


@pytest.mark.slow
def test_train_saves_a_run_whose_report_fails(script, tmp_path, capfd, monkeypatch):
    for number in range(10):
        for name in NAMES[:5]:
            path = tmp_path / "images" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RNG.integers(0, 256, (8, 8)).astype("uint8")).save(path)
    monkeypatch.setattr("keras_arch.data.check.CACHE", tmp_path / "memory")
    monkeypatch.setattr("keras_arch.reports.html.write_report", lambda *arguments: 1 / 0)
    words = "train.py quickstart --epochs 1 --batch-size 8 --precision float32 --dataset"
    assert script(*words.split(), tmp_path / "images", "--output", tmp_path / "run") == 0
    assert capfd.readouterr().err.splitlines() == [
        "warning: report.html could not be written: division by zero"
    ]
    assert {"model.keras", "run.json", "curves.png"} <= {
        path.name for path in Path(tmp_path / "run").iterdir()
    }
    assert "metrics" in read_run(tmp_path / "run")
