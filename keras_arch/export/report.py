"""What an export says about itself: export.json for machines, MODEL_CARD.md and a table for people."""

from importlib.metadata import version

from ..formats import FORMATS
from ..machine import available_cores, cpu_name, git_commit
from ..text import in_markdown

FEW_CLASSES = 20  # that a model card names all of


def report_of(model_name, weights_version, run, settings, images, promises, refused, rows):
    """The content of export.json.

    Args:
        model_name: what the model is called.
        weights_version: of `version_of`.
        run: what `read_run` gave.
        settings: the `ExportSettings` of the export.
        images: {"calibration": number of images, "proof": number of images, "top1": of the Keras model on them, "size":
            (height, width)}.
        promises, refused: what `export_model` returned.
        rows: what `prove` returned.
    """
    artifacts = {
        name: {
            **rows[name],
            "purpose": FORMATS[name].purpose,
            "inputs": promises[name].inputs,
            "outputs": promises[name].outputs,
        }
        for name in promises
    }
    for name, reason in refused.items():
        problems = [] if FORMATS[name].optional else [f"file: the converter cannot write it ({reason})"]
        artifacts[name] = {"file": FORMATS[name].file, "problems": problems, "refused": reason}
    return {
        "model": model_name,
        "version": weights_version,
        "license": settings.license,
        "image_size": images["size"],
        "dataset": run["recipe"].dataset,
        "calibration": {"split": "train", "images": images["calibration"], "seed": settings.seed, "augmented": False},
        "proof": {
            "split": "test",
            "images": images["proof"],
            "seed": settings.seed,
            "max_drop": settings.max_drop,
            "top1": images["top1"],
        },
        "keep_float": list(settings.keep_float),
        "artifacts": artifacts,
        "versions": {name: version(name) for name in ("keras", "tensorflow", "ai-edge-litert", "numpy")},
        "hardware": {"processor": cpu_name(), "cores": available_cores()},
        "git_commit": git_commit(),
    }


def problems_of(report):
    """All that is wrong, a line each, the file first."""
    return [f"{row['file']}: {problem}" for row in report["artifacts"].values() for problem in row["problems"]]


def table_of(report):
    """{format name: {title: text}} for the screen."""
    return {name: cells(row) for name, row in report["artifacts"].items() if "refused" not in row}


def smallest(report):
    """The name of the smallest file that was written."""
    return min((row for row in report["artifacts"].values() if "bytes" in row), key=lambda row: row["bytes"])["file"]


def cells(row):
    """{title: text} of one file."""
    found = {"size MB": f"{row['bytes'] / 1e6:.2f}"}
    if "top1" in row:
        low, high = row["drop_interval"]
        found |= {
            "top-1 %": f"{100 * row['top1']:.2f}",
            "drop": f"{row['drop']:.2f}",
            "at least": f"{low:.2f}",
            "at most": f"{high:.2f}",
            "agrees %": f"{100 * row['agreement']:.2f}",
            "differs": f"{row['max_difference']:.1e}",
            "on average": f"{row['mean_difference']:.1e}",
        }
        for threads, (median, slow) in row["latency_ms"].items():
            found |= {f"ms {threads} thread{'s' * (threads != '1')}": f"{median:.2f}", f"p95 {threads}": f"{slow:.2f}"}
        if row["peak_memory"] is not None:
            found["memory MB"] = f"{row['peak_memory'] / 1e6:.1f}"
    return found | {"verdict": "FAILED" if row["problems"] else "ok"}


LEGEND = (
    "drop: points of top-1 lost against the Keras model, and its 95% interval. differs: the largest difference of a\n"
    "probability. ms: one image, median and 95th percentile. memory: the most beyond the empty runtime."
)


def operators_of(report):
    """A line of operator counts for all .tflite files that have the same, and one for each file that was left out."""
    alike: dict[str, list[str]] = {}
    for name, row in report["artifacts"].items():
        if "operators" in row:
            counts = ", ".join(f"{operator} {count}" for operator, count in row["operators"].items())
            alike.setdefault(counts, []).append(name)
    lines = [f"{', '.join(names)}: {counts}" for counts, names in alike.items()]
    return lines + [
        f"{name}: not written, {row['refused']}" for name, row in report["artifacts"].items() if "refused" in row
    ]


def model_card(report, run, class_names):
    """The text of MODEL_CARD.md."""
    recipe = run["recipe"]
    dataset = in_markdown(recipe.dataset)
    metrics = run["metrics"]
    files = [row for row in report["artifacts"].values() if "top1" in row]
    height, width = report["image_size"]
    names = (
        f": {', '.join(map(in_markdown, class_names))}" if len(class_names) <= FEW_CLASSES else ", listed in labels.txt"
    )
    lines = [
        f"# {in_markdown(report['model'])} on {dataset}",
        "",
        f"An image classifier of {len(class_names)} classes{names}.",
        f"Version {report['version']} (of its weights). License of the weights: {in_markdown(report['license'])}.",
        "",
        "## Input and output",
        "",
        f"`image`: raw pixels of 0-255, {width} wide and {height} high, as the table says; normalisation is inside the model.",
        "Other pictures: cut out the largest centre of that aspect and resize it bilinearly, averaging what each pixel covers.",
        "`probabilities`: one for each class, in the order of labels.txt, which is also inside each .tflite file.",
        "",
        "## Files",
        "",
        "| file | for | image | probabilities | size | test accuracy | drop in points (95%) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in files:
        image, output = row["inputs"][0], row["outputs"][-1]
        low, high = row["drop_interval"]
        lines.append(
            f"| `{row['file']}` | {row['purpose']} | {form(image)} | {form(output)} | {row['bytes'] / 1e6:.2f} MB | "
            f"{row['top1']:.2%} | {row['drop']:.2f} ({low:.2f} to {high:.2f}) |"
        )
    lines += [
        "",
        f"Accuracy: {report['proof']['images']:,} images of the test split, each file run by a process of its own; "
        f"the Keras model has {report['proof']['top1']:.2%} on them, at this size.",
        "",
        "## How it was made",
        "",
        f"Trained on {run['images']['train']:,} images of {dataset}, chosen by {run['images']['validation']:,} for "
        f"validation (epoch {metrics['best_epoch']}, {metrics['validation']['top1']:.2%}); {in_markdown(recipe.summary)}, seed "
        f"{recipe.seed}. Integer ranges were measured on {report['calibration']['images']} un-augmented training images.",
        "The run's model.keras opens with Keras 3.15 or newer, without keras_arch.",
        f"The test split, evaluated once: {metrics['test']['top1']:.2%} of {metrics['test']['images']:,} images.",
        "",
        "## Limits",
        "",
        f"It answers with one of its classes whatever it is shown. It has been measured on the test split of "
        f"{dataset} and on nothing else.",
        "",
    ]
    return "\n".join(lines)


def form(end):
    """An input or output as `uint8 1x28x28x3`; n is any number."""
    return f"{end['type']} {'x'.join('n' if side is None else str(side) for side in end['shape'])}"
