"""Train every documented option on digits: none loses more than 3 points of validation accuracy.

The first test fails if a documented option or a field of `Recipe` is missing in the tables below.
"""

import dataclasses
import functools
import re
import types
import typing

import keras
import pytest
from conftest import ROOT

import keras_arch
from keras_arch.cli import parse
from keras_arch.runs.history import best_epoch

# Trains for about two seconds to 99% validation accuracy, with fixed precision and seed.
BASE = keras_arch.Recipe(
    "small", "digits", 5, learning_rate=0.1, batch_size=32, precision="float32"
)
LOSES = 0.03  # four of 144 images


@dataclasses.dataclass(frozen=True)
class Trial:
    """One option, the first of `changes`, compared with a base run without it."""

    changes: dict
    base: dict = dataclasses.field(default_factory=dict)  # changes of both runs
    loses: float = LOSES

    @property
    def option(self):
        return next(iter(self.changes.items()))

    @property
    def name(self):
        return "{}={}".format(*self.option)


# Mirrored digits take more epochs to learn.
MIRRORED = {"augment": "flip_crop", "epochs": 30}
# Adaptive optimizers need other learning rates.

TRIALS = [
    Trial({"class_weights": "balanced"}),
    Trial({"ema": 0.999}),
    Trial({"schedule": "onecycle", "warmup_epochs": 2}),
    Trial({"label_smoothing": 0.1}),
    Trial({"optimizer": "adamw", "learning_rate": 3e-3}),
    Trial({"optimizer": "lamb", "learning_rate": 0.01}),
    Trial({"clip_norm": 1}),
    Trial({"ema": 0.99}),
    Trial({"schedule": "step"}),
    Trial({"schedule": "constant"}),
    Trial({"warmup_epochs": 2}),
    Trial({"learning_rate": 0.01}),
    Trial({"batch_size": 64}),
    Trial({"accumulate": 2}),
    Trial({"weight_decay": 5e-3}),
    Trial({"patience": 10}, {"epochs": 30}),
    Trial({"image_size": 16}),
    Trial({"early_size": 16}, {"model": "resnet8", "image_size": 24, "epochs": 6}),
    Trial(
        {"early_epochs": 2}, {"model": "resnet8", "image_size": 24, "epochs": 6, "early_size": 16}
    ),
    Trial({"augment": "crop"}),
    Trial({"augment": "flip"}, {"epochs": 30}, loses=0.05),  # a mirrored 2 is not a 2
    Trial({"augment": "flip_shift"}, {"epochs": 30}, loses=0.05),
    Trial({"augment": "flip_crop"}, {"epochs": 30}, loses=0.05),  # a mirrored 2 is not a 2
    Trial({"augment": "inception_crop"}, MIRRORED),
    Trial({"augment": "trivial_augment"}, MIRRORED),
    Trial({"augment": "random_erasing"}, MIRRORED),
    Trial({"augment": "mixup"}, MIRRORED),
    Trial({"augment": "cutmix"}, MIRRORED),
    Trial({"augment": "dihedral"}, MIRRORED, loses=0.2),  # a rotated 6 is a 9
    Trial({"quantize_aware": "int8"}),
    Trial({"quantize_epochs": 3}, {"quantize_aware": "int8"}),
    Trial({"quantize_rate": 0.001}, {"quantize_aware": "int8"}),
    Trial({"weights": "RUN"}),
    Trial({"freeze": "backbone"}, {"weights": "RUN"}),
    Trial({"freeze_epochs": 2}, {"weights": "RUN", "freeze": "backbone"}),
    Trial({"fine_tuning_rate": 0.05}, {"weights": "RUN", "freeze": "backbone", "freeze_epochs": 2}),
    Trial({"teacher": "RUN"}),
    Trial({"temperature": 4}, {"teacher": "RUN"}),
    Trial({"teacher_weight": 0.9}, {"teacher": "RUN"}),
    Trial(
        {"auxiliary_heads": True},
        {"model": "googlenet", "stem": "cifar", "width": 0.125, "image_size": 16},
    ),
]
# Options or values that are not trained here, with the reason.
NOT_TRAINED = {
    "model": "names the network: tests/architectures/test_contract.py, tests/test_builders.py",
    "model_options": "builds another network: tests/test_builders.py",
    "stem": "builds another network: tests/architectures/test_architectures.py",
    "width": "builds another network: tests/architectures/test_architectures.py",
    "kernel_5x5": "builds another network: tests/architectures/test_architectures.py",
    "callback": "adds Python code: tests/scripts/test_extend.py",
    "dataset": "names the data: tests/data/test_load.py, tests/data/test_folders.py",
    "skip_unreadable": "changes the data: tests/data/test_folders.py",
    "allow_duplicates": "changes the data: tests/data/test_splits.py",
    "early_size=20": "digits are of 8 pixels; 16 is trained",
    "image_size=64": "digits are of 8 pixels; 16 is trained",
    "image_size=224": "digits are of 8 pixels; 16 is trained",
    "weights=imagenet": "needs a download: tests/weights/test_weights.py",
    "weights=cifar10": "needs a download: tests/weights/test_cifar10.py",
    "batch_size=2048": "is for many GPUs; digits have fewer images",
    "learning_rate=0.8": "is for the batch size of many GPUs; others are trained",
    "warmup_epochs=5.0": "is longer than these runs need; others are trained",
    "accumulate=4": "is slower; 2 is trained, and tests/training/test_accumulate.py",
    "class_weights=CLASS": "stands for a class: tests/training/test_class_weights.py",
    "class_weights=3": "changes the loss: tests/training/test_class_weights.py",
    "augment=POLICY": "stands for each policy",
    "augment=augment.py": "is a function of a user: tests/scripts/test_extend.py",
    "epochs": "is how long a run takes",
    "precision": "is fixed here: tests/training/test_fast_copy.py, tests/training/test_fit.py",
    "seed": "is fixed here: tests/data/test_pipeline.py",
}


def kind_of(option):
    """Return the annotation of a field of `Recipe` without None."""
    annotation = typing.get_type_hints(keras_arch.Recipe)[option]
    kinds = typing.get_args(annotation)
    return kinds[0] if types.NoneType in kinds else annotation


def values_of(option):
    """Return the values of a Literal option; () for other types."""
    kinds = (kind_of(option), *typing.get_args(kind_of(option)))  # Literal, or Literal | tuple
    literals = [kind for kind in kinds if typing.get_origin(kind) is typing.Literal]
    return typing.get_args(literals[0]) if literals else ()


def documented(text):
    """Return {(option, value or None)} of keras-arch train in the code of a Markdown text."""
    blocks = re.findall(r"^```.*?^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(
        r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    )
    code = [line for block in blocks for line in block.splitlines()] + inline
    code = [
        line
        for line in code
        if "keras-arch train" in line or not re.search(r"keras-arch|\b\w+\.(py|ipynb)\b", line)
    ]
    found = set()
    for option, value in re.findall(r"--([a-z][a-z0-9-]*)(?:[ =]([\w./+]+))?", "\n".join(code)):
        option = option.replace("-", "_")
        if option in keras_arch.Recipe.__dataclass_fields__:
            found.add((option, True if kind_of(option) is bool else typed(value, option)))
    return found


def typed(value, option):
    kind = kind_of(option)
    return None if value in ("", "None") else kind(value) if kind in (int, float) else value


def claims():
    """Return {(option, value or None)} of the documentation and the fields of `Recipe`."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = set().union(*(documented(page.read_text()) for page in pages))
    for option in keras_arch.Recipe.__dataclass_fields__:
        found |= {(option, None), *((option, value) for value in values_of(option))}
    return found


def missing(claimed):
    """Return the entries of `claimed` that are in no table and differ from the base."""
    tried = {trial.option for trial in TRIALS}
    return sorted(
        f"{option}={value}"
        for option, value in claimed
        if (option, value) not in tried
        and not (value is None and option in dict(tried))
        and not {option, f"{option}={value}"} & set(NOT_TRAINED)
        and value != getattr(BASE, option)
    )


def test_every_documented_option_is_in_a_table():
    text = "`--ema 0.9`, `--patience`\n```\nkeras-arch train digits --ema 0.999 --auxiliary-heads\n"
    text += "keras-arch export RUN --seed 3\n```\n--epochs 7"
    found = documented(text)
    assert found == {("ema", 0.9), ("ema", 0.999), ("patience", None), ("auxiliary_heads", True)}
    assert missing({*found, ("optimizer", "muon"), ("optimizer", "sgd")}) == [
        "ema=0.9",
        "optimizer=muon",
    ]
    assert len(claims()) > 50
    assert missing(claims()) == []


def small_network(input_shape, classes):
    """Build a network of two convolutions that learns digits in seconds."""
    x = image = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 255)(x)
    for number, filters in enumerate((32, 64)):
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{number}")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"bn{number}")(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(
        image, keras.layers.Dense(classes, activation="softmax", name="predictions")(x)
    )


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """Return a cached function from changes of BASE to (run directory, validation accuracy)."""

    @functools.cache
    def train(changes):
        recipe, folder = dataclasses.replace(BASE, **dict(changes)), tmp_path_factory.mktemp("run")
        data = keras_arch.load_dataset("digits", data_dir, recipe.image_size)
        keras.utils.set_random_seed(0)
        shape, classes = data.image_shape, len(data.class_names)
        if recipe.model == "small":
            model = small_network(shape, classes)
        else:
            model = keras_arch.build(
                recipe.model, input_shape=shape, classes=classes, **recipe.builder_options
            )
        if recipe.weights:
            assert keras_arch.transfer_weights(model, train(())[0], recipe.model) == set()
        teacher = recipe.teacher and keras.models.load_model(train(())[0] / "model.keras")
        history = keras_arch.fit(model, data, recipe, folder, teacher=teacher)
        return folder, history["val_accuracy"][best_epoch(history)]

    return lambda changes: train(tuple(sorted(changes.items())))


@pytest.mark.slow
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_documented_option_keeps_the_accuracy(trained, trial):
    _, without = trained(trial.base)
    _, found = trained({**trial.base, **trial.changes})
    assert without >= 0.95
    assert found >= without - trial.loses


@pytest.mark.parametrize("name", ["train.py quickstart", "evaluate.py", "predict.py", "compare.py"])
def test_help_is_80_columns_wide_without_none(name, script, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    file, *recipe = name.split()
    assert script(file, *recipe, "--help") == 0
    _, _, text = capfd.readouterr().out.partition("\n")
    assert not re.search(r"\bNone\b|default: (False)?\)", text)
    assert max(map(len, text.splitlines())) <= 80


def test_option_can_be_reset_to_none():
    default = keras_arch.RECIPES["cifar10-resnet20-modern"]
    recipe = parse(keras_arch.Recipe, ["--ema", "None", "--kernel-5x5", "3"], default=default)
    assert (recipe.ema, recipe.kernel_5x5) == (None, 3)
