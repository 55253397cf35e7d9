"""MODEL_CARD.md."""

from ..text import in_markdown

CLASSES_LISTED = 20  # that a model card names all of


def write_model_card(folder, report, run, class_names):
    """Write MODEL_CARD.md into the folder of an export; see `model_card`."""
    (folder / "MODEL_CARD.md").write_text(model_card(report, run, class_names), encoding="utf-8")


def model_card(report, run, class_names):
    """The text of MODEL_CARD.md."""
    recipe = run["recipe"]
    dataset = in_markdown(recipe.dataset)
    metrics = run["metrics"]
    files = [row for row in report["artifacts"].values() if "top1" in row]
    height, width = report["image_size"]
    names = (
        f": {', '.join(map(in_markdown, class_names))}"
        if len(class_names) <= CLASSES_LISTED
        else ", listed in labels.txt"
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
            f"| `{row['file']}` | {row['purpose']} | {describe_tensor(image)} | {describe_tensor(output)} | {row['bytes'] / 1e6:.2f} MB | "
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


def describe_tensor(end):
    """An input or output as `uint8 1x28x28x3`; n is any number."""
    return f"{end['type']} {'x'.join('n' if side is None else str(side) for side in end['shape'])}"
