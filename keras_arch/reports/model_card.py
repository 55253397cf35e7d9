"""Write MODEL_CARD.md, the description of exported files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runs.folder import data_name, model_name
from ..text import in_markdown

MAX_CLASSES = 20  # classes that a model card lists by name


def write_model_card(
    folder: Path, report: dict[str, Any], run: dict[str, Any], class_names: Sequence[str]
) -> None:
    """Write MODEL_CARD.md into an export directory. See `model_card` for the arguments."""
    (folder / "MODEL_CARD.md").write_text(model_card(report, run, class_names), encoding="utf-8")


def model_card(report: dict[str, Any], run: dict[str, Any], class_names: Sequence[str]) -> str:
    """Return the text of MODEL_CARD.md.

    Args:
        report: content of export.json.
        run: content of run.json, as returned by `read_run`.
        class_names: names of the classes, in the order of the outputs.
    """
    recipe, metrics, images = run["recipe"], run["metrics"], run["images"]
    dataset = in_markdown(data_name(recipe.dataset))
    height, width = report["image_size"]
    names = (
        f": {', '.join(map(in_markdown, class_names))}"
        if len(class_names) <= MAX_CLASSES
        else ". labels.txt lists them"
    )
    verification, test, validation = report["verification"], metrics["test"], metrics["validation"]
    files = [file_line(row) for row in report["artifacts"].values() if row["metrics"]]
    lines = [
        f"# {in_markdown(report['model'])} on {dataset}",
        "",
        f"Image classifier with {len(class_names)} classes{names}.",
        "",
        f"- Version of the weights: {report['version']}",
        f"- License of the weights: {in_markdown(report['license'])}",
        "",
        "## Input and output",
        "",
        f"- `image`: raw pixels of 0-255, {width} wide and {height} high. Do not normalize them. "
        "Preprocessing is part of the model.",
        "- `probabilities`: one for each class, in the order of labels.txt. Every file contains "
        "the class names.",
        "",
        "For an image of another size, crop the largest centered rectangle of this aspect ratio. "
        "Resize it with bilinear interpolation and antialiasing.",
        "",
        "## Files",
        "",
        "| file | runs on | image | probabilities | size | test accuracy | drop in points (95%) |",
        "|---|---|---|---|---|---|---|",
        *files,
        "",
        f"Accuracy on {verification['images']:,} images of the test split. Each file ran in its "
        f"own process. The Keras model has {verification['top1']:.2%} on these images at this "
        "size.",
        "",
        "## Training",
        "",
        f"- Recipe: {in_markdown(model_name(recipe.model))}, {recipe.epochs} epochs, {recipe.optimizer} at "
        f"{recipe.learning_rate:g}, seed {recipe.seed}",
        f"- Training: {images['train']:,} images of {dataset}",
        f"- Checkpoint: epoch {metrics['best_epoch']}, chosen on {images['validation']:,} "
        f"validation images ({validation['top1']:.2%} accuracy)",
        f"- Test accuracy: {test['top1']:.2%} on {test['images']:,} images, evaluated once",
        f"- Calibration of integer files: {report['calibration']['images']} training images without "
        "augmentation",
        "- model.keras opens with Keras 3.15 or newer, without keras_arch",
        "",
        "## Limitations",
        "",
        "The output is always one of these classes, for any image. Accuracy was measured only on "
        f"the test split of {dataset}.",
        "",
    ]
    return "\n".join(lines)


def file_line(row: dict[str, Any]) -> str:
    """Return the line of a file in the table."""
    metrics = row["metrics"]
    low, high = metrics["drop_interval"]
    image, probabilities = describe_tensor(row["inputs"][0]), describe_tensor(row["outputs"][-1])
    return (
        f"| `{row['file']}` | {row['purpose']} | {image} | {probabilities} | "
        f"{row['bytes'] / 1e6:.2f} MB | {metrics['top1']:.2%} | "
        f"{metrics['drop']:.2f} ({low:.2f} to {high:.2f}) |"
    )


def describe_tensor(tensor: dict[str, Any]) -> str:
    """Return an input or output as text, such as `uint8 1x28x28x3`, with n for any size."""
    sides = ("n" if side is None else str(side) for side in tensor["shape"])
    return f"{tensor['type']} {'x'.join(sides)}"
