"""A run as one page, report.html: no network, no script, light and dark as the reader has it."""

import base64
import dataclasses
import html
import io
import json
from pathlib import Path

from ..class_names import LABELS, read_labels
from ..errors import warn_on_failure
from ..files import atomic_write
from ..recipes import Recipe
from ..runs.folder import data_name
from ..runs.history import read_history
from ..text import printable
from .figures import draw_confusion, draw_curves, draw_mistakes, draw_reliability
from .tables import (
    balanced_columns,
    operator_columns,
    refusal_lines,
    verification_columns,
)

EXPORT_MARK = "<!-- export -->"  # where the table of an export goes, once there is one
STYLE = """
:root { color-scheme: light dark; --line: light-dark(#ddd, #444); --soft: light-dark(#666, #aaa); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: light-dark(#222, #ddd); background: light-dark(#fff, #181818); }
h1, h2 { line-height: 1.2; font-weight: 600; } h2 { margin-top: 2.5rem; }
p.soft, th { color: var(--soft); } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid var(--line); font-weight: normal; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; padding: .5rem; box-sizing: border-box; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem; margin: 0; }
dt { color: var(--soft); font-size: .85rem; } dd { margin: 0; font-size: 1.5rem; }
"""


def write_figures_and_report(folder, mistakes):
    """Draw curves.png and write report.html of a finished run; see `write_report`. A failure is a `DataWarning`."""
    with warn_on_failure("curves.png"):
        draw_curves(folder / "curves.png", {"": read_history(folder)})
    with warn_on_failure("report.html"):
        write_report(folder, mistakes)


def write_report(folder, mistakes):
    """Render the run.json and history.csv of a finished run as report.html.

    Args:
        folder: of the run.
        mistakes: images of the test split, what `evaluation.evaluate.find_mistakes` gave.
    """
    run = json.loads((folder / "run.json").read_text())
    recipe, metrics, cost = run["recipe"], run["metrics"], run["cost"]
    test, history, class_names = metrics["test"], read_history(folder), read_labels(folder / LABELS)
    drawings = {
        "Curves": lambda file: draw_curves(file, {"": history}),
        "Confusions": lambda file: draw_confusion(file, test["confusion"], class_names),
        "Surest mistakes": lambda file: draw_mistakes(file, mistakes),
        "Reliability": lambda file: draw_reliability(file, test["calibration"], test["ece"]),
    }
    if not mistakes:
        del drawings["Surest mistakes"]
    low, high = test["top1_interval"]
    figures = {
        "test accuracy": f"{test['top1']:.2%}",
        "95% interval": f"{100 * low:.1f}-{100 * high:.1f}%",
        "validation": f"{metrics['validation']['top1']:.2%}",
        **balanced_columns(metrics, recipe["class_weights"]),
        "best epoch": f"{metrics['best_epoch']} of {recipe['epochs']}",
        "training": f"{metrics['training_seconds'] / 60:.1f} min",
        "parameters": f"{cost['parameters']:,}",
        "multiply-adds": f"{cost['multiply_adds']:,}",
        "calibration error": f"{test['ece']:.2%}",
    }
    classes = [
        [
            name,
            *(f"{row[column]:.2%}" for column in ("precision", "recall", "f1")),
            f"{row['support']:,}",
        ]
        for name, row in test["classes"].items()
    ]
    confused = [[one["true"], one["predicted"], f"{one['images']:,}"] for one in test["confused"]]
    stages = [[name, *(f"{count:,}" for count in counts)] for name, *counts in cost["stages"]]
    defaults = {field.name: field.default for field in dataclasses.fields(Recipe)}
    options = [
        [name, str(value)]
        for name, value in recipe.items()
        if value != defaults[name] and name != "seed"
    ]
    machine = run["hardware"]
    made = [
        ["seed", str(recipe["seed"])],
        ["arithmetic", run["precision"]],
        ["processor", f"{machine['processor']}, {machine['cores']} cores"],
        ["commit", str(run["git_commit"])],
        *([name, number] for name, number in run["versions"].items()),
    ]
    title = f"{recipe['model']} on {data_name(recipe['dataset'])}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        "<dl>"
        + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures.items())
        + "</dl>",
        *(f"<h2>{name}</h2>{embed_figure(draw, name)}" for name, draw in drawings.items()),
        "<h2>Classes</h2>" + html_table(["class", "precision", "recall", "f1", "images"], classes),
        "<h2>Most confused</h2>" + html_table(["true", "predicted", "images"], confused),
        EXPORT_MARK,
        "<h2>Cost</h2>"
        + html_table(["stage", "parameters", "multiply-adds", "activations"], stages),
        "<h2>Recipe</h2>" + html_table(["option", "value"], options),
        '<p class="soft">What is not listed has its default.</p>',
        "<h2>How it was made</h2>" + html_table(["what", "value"], made),
    ]
    page = (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{escape(title)}</title>\n'
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


def html_table(titles, rows):
    """An HTML table of text."""
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def embed_figure(draw, title):
    """A picture inside the page, or nothing if it cannot be drawn."""
    file = io.BytesIO()
    with warn_on_failure(f"The picture {title!r} of report.html"):
        draw(file)
        image = base64.b64encode(file.getvalue()).decode()
        return f'<img alt="{escape(title)}" src="data:image/png;base64,{image}">'
    return ""


def escape(text):
    """Text as HTML that shows it, control characters too."""
    return html.escape(printable(text))


def write_page(path, page):
    atomic_write(path, lambda beside: beside.write_text(page, encoding="utf-8"))
