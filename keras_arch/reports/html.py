"""report.html: one page on a run.

The page has no scripts and loads nothing from the network. It follows the color scheme of the
browser, light or dark.
"""

import base64
import dataclasses
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
from ..text import escape_html
from .figures import draw_confusion, draw_curves, draw_mistakes, draw_reliability
from .tables import (
    acceptance_rows,
    balanced_columns,
    calibration_rows,
    operator_columns,
    recommendation_lines,
    refusal_lines,
    verification_columns,
)

EXPORT_MARK = "<!-- export -->"  # the place of the table of exported files
DEMO_PAGE = "demo.html"  # in an export directory, the page of keras-arch demo
STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


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
        *([["devices", describe_devices(run["devices"])]] if "devices" in run else []),
        ["processor", f"{hardware['processor']}, {hardware['cores']} cores"],
        ["git commit", str(run["git_commit"])],
        *([name, number] for name, number in run["versions"].items()),
    ]
    title = f"{model_name(recipe['model'])} on {data_name(recipe['dataset'])}"
    images = ", ".join(f"{count:,} {split}" for split, count in run["images"].items())
    parts = [
        f"<h1>{escape_html(title)}</h1>",
        f'<p class="soft">{len(class_names):,} classes. Images: {images}.</p>',
        "<dl>"
        + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in numbers.items())
        + "</dl>",
        *(
            f'<h2>{heading}</h2>\n<p class="soft">{caption}</p>\n'
            + embed_figure(draw, heading, caption)
            for heading, caption, draw in figures
        ),
        *calibration_parts(run.get("calibration")),
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
        f"<title>{escape_html(title)}</title>\n"
        f"<style>{STYLE}</style>\n<body>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )
    write_page(folder / "report.html", page)


def calibration_parts(calibration):
    """Return the section on the field `calibration` of run.json, which calibrated runs have."""
    if calibration is None:
        return []
    before_after, accepted = calibration_rows(calibration), acceptance_rows(calibration)
    return [
        "<h2>Calibration</h2>",
        f'<p class="soft">Temperature {calibration["temperature"]:.4g}, fitted on validation. '
        "The tables are of the test images.</p>",
        rows_table(before_after),
        f"<p>{escape_html(' '.join(recommendation_lines(calibration)))}</p>",
        rows_table(accepted),
    ]


def rows_table(rows: list[dict[str, str]]) -> str:
    """Return an HTML table of {title: text} of each row."""
    return html_table(list(rows[0]), [list(row.values()) for row in rows])


def describe_devices(devices):
    """Return the field `devices` of run.json as text."""
    kind = f" ({devices['kind']})" if devices["kind"] else ""
    processes = f" in {devices['processes']} processes" if devices["processes"] > 1 else ""
    return f"{devices['count']}{kind}{processes}"


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
        section += f"<p>{escape_html(line)}</p>"
    if (path.parent / "export" / DEMO_PAGE).is_file():
        section += f'<p><a href="export/{DEMO_PAGE}">Classify images in this browser</a></p>'
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
    head = "".join(f'<th scope="col">{escape_html(title)}</th>' for title in titles)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape_html(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table class="{style}">\n<tr>{head}</tr>\n{body}\n</table></div>'


def embed_figure(draw, heading, caption):
    """Return an `<img>` with the PNG inside, or "" if the figure cannot be drawn."""
    file = io.BytesIO()
    with warn_on_failure(f"The figure {heading!r} of report.html"):
        draw(file)
        image = base64.b64encode(file.getvalue()).decode()
        text = escape_html(f"{heading}: {caption}")
        return f'<img alt="{text}" src="data:image/png;base64,{image}">'
    return ""


def write_page(path, page):
    atomic_write(path, lambda partial: partial.write_text(page, encoding="utf-8"))
