"""Compare ResNet-8 that learns from a teacher with ResNet-8 alone, on Fashion-MNIST.

    keras-arch train fashion-mnist-resnet20 --output r20
    python benchmarks/distillation.py --teacher r20

Both train by the same recipe from the same initial weights, on the same images in the same order.
McNemar's test compares them on the test images, for each seed. The results are written to
results/distillation.json.
"""

import argparse
import dataclasses
import os
import shlex
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Set before TensorFlow is imported. The second enables fast kernels.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"} | os.environ

import numpy as np

import keras_arch
from keras_arch.class_names import check_class_order
from keras_arch.data.splits import InMemory
from keras_arch.evaluation.metrics import mcnemar_test, wilson_interval
from keras_arch.files import write_json
from keras_arch.machine import available_cores, cpu_name
from keras_arch.training.fast_copy import make_repeatable
from keras_arch.training.teacher import TEMPERATURE, WEIGHT, open_teacher

OUTPUT = Path(__file__).parent / "results" / "distillation.json"
PACKAGES = ("keras", "tensorflow", "numpy")


def read_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--teacher", required=True, help="Run directory or .keras file of the teacher.")
    add("--recipe", default="fashion-mnist-resnet20", help="Recipe of both. Default: %(default)s.")
    add("--model", default="resnet8", help="Network of both. Default: %(default)s.")
    add("--data-dir", help="Directory of prepared TFDS data sets.")
    add("--images", type=int, help="First training images to use. Default: all.")
    add("--epochs", type=int, help="Epochs of each training. Default: those of the recipe.")
    add("--seeds", type=int, default=2, help="Number of seeds. Default: 2.")
    add("--temperature", type=float, default=TEMPERATURE, help="Default: %(default)s.")
    add("--teacher-weight", type=float, default=WEIGHT, help="Default: %(default)s.")
    add("--output", type=Path, default=OUTPUT, help="JSON file to write.")
    return parser.parse_args()


def main():
    options = read_options()
    recipe = dataclasses.replace(keras_arch.RECIPES[options.recipe], model=options.model)
    if options.epochs:
        recipe = dataclasses.replace(recipe, epochs=options.epochs)
    data = keras_arch.load_dataset(recipe.dataset, options.data_dir, recipe.image_size)
    if options.images:
        few = InMemory(*(part[: options.images] for part in (data.train.images, data.train.labels)))
        data = dataclasses.replace(data, train=few)
    teacher = open_teacher(options.teacher)
    check_class_order(teacher, data.class_names)
    taught = {"temperature": options.temperature, "teacher_weight": options.teacher_weight}
    right_of_teacher = are_right(teacher.path, data)
    rows = []
    for seed in range(options.seeds):
        seeded = dataclasses.replace(recipe, seed=seed)
        alone = train(seeded, data)
        student = train(dataclasses.replace(seeded, **taught), data, teacher.model)
        rows.append({"seed": seed, **compare(student, alone)})
        print_row(rows[-1], len(alone))
    words = [Path(word).name for word in sys.argv[1:]]  # without directories of this machine
    write_json(
        options.output,
        {
            "command": shlex.join(["python", "benchmarks/distillation.py", *words]),
            "recipe": options.recipe,
            "model": recipe.model,
            "epochs": recipe.epochs,
            **taught,
            "images": data.sizes,
            "teacher": {"accuracy": accuracy(right_of_teacher), "sha256": teacher.sha256},
            "seeds": rows,
            "hardware": {"processor": cpu_name(), "cores": available_cores()},
            "versions": {name: version(name) for name in PACKAGES},
        },
    )


def train(recipe, data, teacher=None):
    """Train a network and return whether it is right for each test image."""
    make_repeatable(recipe.seed)
    classes = len(data.class_names)
    model = keras_arch.build(recipe.model, input_shape=data.image_shape, classes=classes)
    with tempfile.TemporaryDirectory() as folder:
        keras_arch.fit(model, data, recipe, folder, teacher=teacher)
        return are_right(Path(folder) / "model.keras", data)


def are_right(path, data):
    """Return a bool array (images,): whether a .keras file is right for each test image."""
    artifact = keras_arch.open_artifact(path)
    images, labels = data.test.images, data.test.labels
    batches = np.split(images, range(256, len(images), 256))
    found = np.concatenate([artifact.predict(batch).argmax(axis=1) for batch in batches])
    return found == labels


def accuracy(right):
    """Return the share of right images and its 95% interval."""
    return {"top1": float(right.mean()), "interval": wilson_interval(right.sum(), len(right))}


def compare(student, alone):
    """Return the accuracy of both and McNemar's test of their difference."""
    return {
        "taught": accuracy(student),
        "alone": accuracy(alone),
        "difference": float(student.mean() - alone.mean()),
        "mcnemar": dataclasses.asdict(mcnemar_test(student, alone)),
    }


def print_row(row, images):
    """Print the results of a seed."""
    print(f"seed {row['seed']}, {images:,} test images")
    for name in ("taught", "alone"):
        low, high = row[name]["interval"]
        print(f"  {name:10} {row[name]['top1']:.2%} (95%: {low:.2%} to {high:.2%})")
    p = row["mcnemar"]["p"]
    print(f"  difference {100 * row['difference']:+.2f} points, McNemar's exact p = {p:.3g}")


if __name__ == "__main__":
    main()
