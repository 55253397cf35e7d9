"""report.html: one page on a run.

The page has no scripts and loads nothing from the network. It follows the color scheme of the
browser, light or dark.
"""

import base64
import dataclasses
import html
import io
import json
from pathlib import Path

from ..class_names import LABELS, read_labels
from ..errors import warn_on_failure
from ..evaluation.metrics import CalibrationBin
from ..files import atomic_write
from ..recipes import Recipe
from ..runs.folder import data_name, model_name
from ..runs.history import read_history
from ..text import printable
from .figures import draw_confusion, draw_curves, draw_mistakes, draw_reliability
from .tables import (
    balanced_columns,
    operator_columns,
    refusal_lines,
    verification_columns,
)

EXPORT_MARK = "<!-- export -->"  # the place of the table of exported files
STYLE = """
:root { color-scheme: light dark; --line: light-dark(#ddd, #444);
        --soft: light-dark(#595959, #aaa); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: light-dark(#222, #ddd); background: light-dark(#fff, #181818);
       overflow-wrap: anywhere; }
h1, h2 { line-height: 1.2; font-weight: 600; } h1 { margin-bottom: 0; }
h2 { margin: 2.5rem 0 .75rem; }
p { margin: .5rem 0; } p.soft, th { color: var(--soft); }
.wide { overflow-x: auto; overflow-wrap: normal; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem 1.6rem .2rem 0; border-bottom: 1px solid var(--line);
         font-weight: normal; white-space: nowrap; }
th:first-child, td:first-child, .text th, .text td { text-align: left; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1rem;
     margin: 1.5rem 0 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.5rem; line-height: 1.3; }
@media (prefers-color-scheme: dark) { img { padding: .5rem; box-sizing: border-box; } }
@media (max-width: 30rem) { body { margin: 1rem auto; } dl { grid-template-columns: 1fr 1fr; }
                            dd { font-size: 1.25rem; } table { font-size: .85rem; }
                            th, td { padding-right: .8rem; } }
"""


def write_figures_and_report(folder: Path, mistakes: list) -> None:
    """Write curves.png and report.html of a finished run.

    If one of them cannot be written, issue a `DataWarning`.

    Args:
        folder: run directory.
        mistakes: most confident errors on the test split, from `find_mistakes`.
    """
    with warn_on_failure("curves.png"):
        draw_curves(folder / "curves.png", {"": read_history(folder)})
    with warn_on_failure("report.html"):
        write_report(folder, mistakes)


def write_report(folder, mistakes):
    """Write report.html from the run.json and history.csv of a finished run.

    Args:
        folder: run directory.
        mistakes: most confident errors on the test split, from `find_mistakes`.
    """
    run = json.loads((folder / "run.json").read_text())
    recipe, metrics, cost = run["recipe"], run["metrics"], run["cost"]
    test, history, class_names = metrics["test"], read_history(folder), read_labels(folder / LABELS)
    calibration = [CalibrationBin(**one) for one in test["calibration"]]
    figures = [
        (
            "Learning curves",
            "Training and validation loss and accuracy for each epoch.",
            lambda file: draw_curves(file, {"": history}),
        ),
        (
            "Confusion matrix",
            "Test images by true class (row) and predicted class (column). Colors show the share "
            "of the true class.",
            lambda file: draw_confusion(file, test["confusion"], class_names),
        ),
        (
            "Most confident errors",
            "Misclassified test images with the highest predicted probabilities.",
            lambda file: draw_mistakes(file, mistakes),
        ),
        (
            "Reliability diagram",
            "Accuracy on test images over the confidence of the prediction, and the number of "
            "images in each bin of confidence.",
            lambda file: draw_reliability(file, calibration, test["ece"]),
        ),
    ]
    if not mistakes:
        figures = [figure for figure in figures if figure[0] != "Most confident errors"]
    low, high = test["top1_interval"]
    seconds = metrics["training_seconds"]
    numbers = {
        "test accuracy": f"{test['top1']:.2%}",
        "95% interval": f"{100 * low:.1f}\u2013{100 * high:.1f}%",
        "validation accuracy": f"{metrics['validation']['top1']:.2%}",
        **balanced_columns(metrics, recipe["class_weights"]),
        "calibration error (ECE)": f"{test['ece']:.2%}",
        "best epoch": f"{metrics['best_epoch']} of {recipe['epochs']}",
        "training time": f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min",
        "parameters": f"{cost['parameters']:,}",
        "multiply-adds": f"{cost['multiply_adds']:,}",
    }
    classes = [
        [
            name,
            *(f"{row[column]:.2%}" for column in ("precision", "recall", "f1")),
            f"{row['support']:,}",
        ]
        for name, row in test["classes"].items()
    ]
    confused = [
        [one["true"], one["predicted"], f"{one['images']:,}"] for one in test["most_confused"]
    ]
    stages = [[name, *(f"{count:,}" for count in counts)] for name, *counts in cost["stages"]]
    stages.append(["total", f"{cost['parameters']:,}", f"{cost['multiply_adds']:,}", ""])
    defaults = {field.name: field.default for field in dataclasses.fields(Recipe)}
    options = [
        [name, " ".join(value) if isinstance(value, list) else str(value)]
        for name, value in recipe.items()
        if value not in ([], defaults[name]) and name != "seed"
    ]
    hardware = run["hardware"]
    environment = [
        ["seed", str(recipe["seed"])],
        ["precision", run["precision"]],
        ["Keras backend", run.get("backend", "tensorflow")],
        ["processor", f"{hardware['processor']}, {hardware['cores']} cores"],
        ["git commit", str(run["git_commit"])],
        *([name, number] for name, number in run["versions"].items()),
    ]
    title = f"{model_name(recipe['model'])} on {data_name(recipe['dataset'])}"
    images = ", ".join(f"{count:,} {split}" for split, count in run["images"].items())
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{len(class_names):,} classes. Images: {images}.</p>',
        "<dl>"
        + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in numbers.items())
        + "</dl>",
        *(
            f'<h2>{heading}</h2>\n<p class="soft">{caption}</p>\n'
            + embed_figure(draw, heading, caption)
            for heading, caption, draw in figures
        ),
        "<h2>Per-class metrics</h2>"
        + html_table(["class", "precision", "recall", "F1 score", "images"], classes),
        "<h2>Most frequent confusions</h2>"
        + (
            html_table(["true class", "predicted class", "images"], confused, "text")
            if confused
            else '<p class="soft">All test images are classified correctly.</p>'
        ),
        EXPORT_MARK,
        "<h2>Computational cost</h2>"
        + html_table(["stage", "parameters", "multiply-adds", "activations"], stages),
        "<h2>Recipe</h2>" + html_table(["option", "value"], options, "text"),
        '<p class="soft">All other options have their default values.</p>',
        "<h2>Reproducibility</h2>" + html_table(["setting", "value"], environment, "text"),
    ]
    page = (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>{STYLE}</style>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )
    write_page(folder / "report.html", page)


def add_export(folder: Path, report: dict) -> None:
    """Add an export to the report.html of its run. It replaces an earlier one.

    Args:
        folder: run directory.
        report: content of export.json.
    """
    path = folder / "report.html"
    if not path.exists():  # runs of early versions have no report
        return
    with warn_on_failure("The table of exported files in report.html"):
        insert_export(path, report)


def insert_export(path: Path, report: dict) -> None:
    """Write the section of an export between the two marks of a report.html."""
    before, _, rest = path.read_text(encoding="utf-8").partition(EXPORT_MARK)
    after = rest.rpartition(EXPORT_MARK)[2]
    section = "<h2>Exported files</h2>" + columns_table(verification_columns(report))
    if operators := operator_columns(report):
        section += "<h2>Operators</h2>" + columns_table(operators)
    for line in refusal_lines(report):
        section += f"<p>{escape(line)}</p>"
    write_page(path, f"{before}{EXPORT_MARK}\n{section}\n{EXPORT_MARK}{after}")


def columns_table(columns: dict[str, dict[str, str]]) -> str:
    """Return an HTML table of {name: {title: text}}, a column for each name."""
    titles = dict.fromkeys(title for column in columns.values() for title in column)
    rows = [[title, *(column.get(title, "") for column in columns.values())] for title in titles]
    return html_table(["", *columns], rows)


def html_table(titles, rows, style=""):
    """Return an HTML table.

    Args:
        titles: text of each column's title.
        rows: list of texts for each row.
        style: "text" to align all columns to the left, "" for numbers after the first column.
    """
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table class="{style}">\n<tr>{head}</tr>\n{body}\n</table></div>'


def embed_figure(draw, heading, caption):
    """Return an `<img>` with the PNG inside, or "" if the figure cannot be drawn."""
    file = io.BytesIO()
    with warn_on_failure(f"The figure {heading!r} of report.html"):
        draw(file)
        image = base64.b64encode(file.getvalue()).decode()
        text = escape(f"{heading}: {caption}")
        return f'<img alt="{text}" src="data:image/png;base64,{image}">'
    return ""


def escape(text):
    """Return `text` as HTML, with control characters as escape sequences."""
    return html.escape(printable(text))


def write_page(path, page):
    atomic_write(path, lambda partial: partial.write_text(page, encoding="utf-8"))
