"""Write MODEL_CARD.md, the description of exported files for their users."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..runs.folder import data_name, model_name
from ..text import in_markdown

MAX_CLASSES = 20  # classes that a model card lists by name
UNLABELED = ("agreement", "maximum absolute error")  # columns without labels


def write_model_card(
    folder: Path, report: dict[str, Any], run: dict[str, Any] | None, class_names: Sequence[str]
) -> None:
    """Write MODEL_CARD.md into an export directory. See `model_card` for the arguments."""
    (folder / "MODEL_CARD.md").write_text(model_card(report, run, class_names), encoding="utf-8")


def model_card(
    report: dict[str, Any], run: dict[str, Any] | None, class_names: Sequence[str]
) -> str:
    """Return the text of MODEL_CARD.md.

    Args:
        report: content of export.json.
        run: content of run.json, as returned by `read_run`. None: the model is not of a run.
        class_names: names of the classes, in the order of the outputs.
    """
    height, width = report["image_size"]
    names = (
        f": {', '.join(map(in_markdown, class_names))}"
        if len(class_names) <= MAX_CLASSES
        else ". labels.txt lists them"
    )
    labeled = report["verification"]["top1"] is not None
    title = in_markdown(report["model"])
    if run:
        title += f" on {in_markdown(data_name(run['recipe'].dataset))}"
    files = [file_line(row) for row in report["artifacts"].values() if row["metrics"]]
    lines = [
        f"# {title}",
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
        "| file | runs on | image | probabilities | size |"
        + (" test accuracy | drop in points (95%) |" if labeled else f" {' | '.join(UNLABELED)} |"),
        "|---|---|---|---|---|---|---|",
        *files,
        "",
        describe_verification(report, run),
        "",
        *("## Training", "", *training_lines(run, report)),
        "",
        *calibration_lines(run),
        "## Limitations",
        "",
        "The output is always one of these classes, for any image. " + describe_limits(report, run),
        "",
    ]
    return "\n".join(lines)


def describe_verification(report: dict[str, Any], run: dict[str, Any] | None) -> str:
    """Return sentences on the images and the results of the verification."""
    verification = report["verification"]
    if verification["top1"] is None:
        return (
            f"Compared with the Keras model alone on {describe_images(verification)}. No labels "
            "were given, so the accuracy is not measured. Each file ran in its own process."
        )
    images = f"{verification['images']:,} images of the test split" if run else None
    return (
        f"Accuracy on {images or describe_images(verification)}. Each file ran in its "
        f"own process. The Keras model has {verification['top1']:.2%} on these images at this "
        "size."
    )


def describe_images(images: dict[str, Any]) -> str:
    """Return the number and the origin of images in export.json as text."""
    if images["data"] is None:
        return f"{images['images']:,} {images['split']} images"
    name = in_markdown(data_name(images["data"]))
    part = "" if images["split"] == "all" else f", {images['split']} split"
    return f"{images['images']:,} images of {name}{part}"


def training_lines(run: dict[str, Any] | None, report: dict[str, Any]) -> list[str]:
    """Return the lines on the training and the calibration."""
    if run is None:
        images = describe_images(report["calibration"])
        return [
            "- The model was not trained by a recorded run. Its training data are unknown.",
            f"- Calibration of integer files: {images}",
        ]
    recipe, metrics, images = run["recipe"], run["metrics"], run["images"]
    test, validation = metrics["test"], metrics["validation"]
    is_learned = report.get("int8_ranges") == "learned"
    learned = ". The ranges of the int8 file were learned in training" if is_learned else ""
    return [
        f"- Recipe: {in_markdown(model_name(recipe.model))}, {recipe.outline}, "
        f"{recipe.optimizer}, seed {recipe.seed}",
        f"- Training: {images['train']:,} images of {in_markdown(data_name(recipe.dataset))}",
        f"- Checkpoint: epoch {metrics['best_epoch']}, chosen on {images['validation']:,} "
        f"validation images ({validation['top1']:.2%} accuracy)",
        f"- Test accuracy: {test['top1']:.2%} on {test['images']:,} images, evaluated once",
        f"- Calibration of integer files: {report['calibration']['images']} training images without "
        f"augmentation{learned}",
        "- model.keras opens with Keras 3.15 or newer, without keras_arch",
    ]


def calibration_lines(run: dict[str, Any] | None) -> list[str]:
    """Return the section on the probabilities of a run that keras-arch calibrate wrote."""
    calibration = run.get("calibration") if run else None
    if run is None or calibration is None:
        return []
    metrics = run["metrics"]
    lines = [
        "## Confidence",
        "",
        f"- Temperature: {calibration['temperature']:.4g}, fitted on "
        f"{metrics['validation']['images']:,} validation images. It is part of the weights.",
    ]
    if (row := calibration.get("recommended")) and row["threshold"]:
        lines.append(
            f"- Recommended threshold: {row['threshold']:g}. A probability of at least this accepts "
            f"{row['share']:.1%} of the test images, and {accuracy_text(row)} of them are correct."
        )
    return [
        *lines,
        "",
        "| probability at least | accepted test images | accuracy |",
        "|---|---|---|",
        *(
            f"| {row['threshold']:g} | {row['share']:.1%} | {accuracy_text(row)} |"
            for row in calibration["accepted"]
        ),
        "",
    ]


def accuracy_text(row: dict[str, Any]) -> str:
    """Return the accuracy of accepted images as text. Without images there is none."""
    return f"{row['accuracy']:.2%}" if "accuracy" in row else "-"


def describe_limits(report: dict[str, Any], run: dict[str, Any] | None) -> str:
    """Return a sentence on the data for which the accuracy is known."""
    if run:
        name = in_markdown(data_name(run["recipe"].dataset))
        return f"Accuracy was measured only on the test split of {name}."
    if report["verification"]["top1"] is None:
        return "Its accuracy is unknown."
    return f"Accuracy was measured only on {describe_images(report['verification'])}."


def file_line(row: dict[str, Any]) -> str:
    """Return the line of a file in the table."""
    metrics = row["metrics"]
    if metrics["drop_interval"] is None:
        numbers = (f"{metrics['agreement']:.2%}", f"{metrics['max_difference']:.1e}")
    else:
        low, high = metrics["drop_interval"]
        numbers = (f"{metrics['top1']:.2%}", f"{metrics['drop']:.2f} ({low:.2f} to {high:.2f})")
    image, probabilities = describe_tensor(row["inputs"][0]), describe_tensor(row["outputs"][-1])
    return (
        f"| `{row['file']}` | {row['purpose']} | {image} | {probabilities} | "
        f"{row['bytes'] / 1e6:.2f} MB | {' | '.join(numbers)} |"
    )


def describe_tensor(tensor: dict[str, Any]) -> str:
    """Return an input or output as text, such as `uint8 1x28x28x3`, with n for any size."""
    sides = ("n" if side is None else str(side) for side in tensor["shape"])
    return f"{tensor['type']} {'x'.join(sides)}"
