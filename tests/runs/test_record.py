"""Damaged run directories: the one-line error names the file and the field."""

import dataclasses
import json
import re
from typing import get_type_hints

import keras
import pytest

import keras_arch
from keras_arch.class_names import read_labels
from keras_arch.recipes import Recipe
from keras_arch.runs.fields import check_fields
from keras_arch.runs.history import read_history
from keras_arch.runs.record import read_run

RIGHT = {"images": 360, "top1": 0.9}
RUN = {
    "recipe": dataclasses.asdict(Recipe("resnet8", "digits", epochs=2, learning_rate=0.1)),
    "data_dir": None,
    "precision": "float32",
    "images": {"train": 8, "validation": 1, "test": 1},
    "metrics": {"best_epoch": 1, "training_seconds": 3, "validation": RIGHT, "test": RIGHT},
}
WHOLE = json.dumps(RUN)
HISTORY = "epoch,loss,accuracy,val_loss,val_accuracy,seconds\n1,2,.5,2.5,.4,1\n2,1,.7,1.5,.6,1\n"


def changed(path, value):
    """Return RUN as JSON with another value at a dotted path, or without it for KeyError."""
    run = json.loads(json.dumps(RUN))
    *above, last = path.split(".")
    place = run
    for name in above:
        place = place[name]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return json.dumps(run)


CHANGES = [
    ("recipe", None, "`recipe` must be a JSON object. Received: recipe=None"),
    ("recipe.dataset", None, "`recipe.dataset` must be a string. Received: recipe.dataset=None"),
    ("recipe.dataset", 7, "`recipe.dataset` must be a string. Received: recipe.dataset=7"),
    (
        "recipe.dataset",
        ["digits"],
        r"`recipe.dataset` must be a string. Received: recipe.dataset=\['digits'\]",
    ),
    ("recipe.dataset", KeyError, "`recipe.dataset` is missing"),
    ("recipe.model", True, "`recipe.model` must be a string. Received: recipe.model=True"),
    ("recipe.epochs", 2.5, "`recipe.epochs` must be an integer. Received: recipe.epochs=2.5"),
    ("recipe.epochs", True, "`recipe.epochs` must be an integer. Received: recipe.epochs=True"),
    ("recipe.epochs", 0, "`recipe.epochs` must be an integer from 1"),
    (
        "recipe.learning_rate",
        float("nan"),
        "`recipe.learning_rate` must be a finite number. Received: recipe.learning_rate=nan",
    ),
    (
        "recipe.learning_rate",
        10**400,
        "`recipe.learning_rate` must be a finite number. Received: recipe.learning_rate=1000.*",
    ),
    (
        "recipe.ema",
        "x" * 9999,
        "`recipe.ema` must be a finite number. Received: recipe.ema='xxxx.*'",
    ),
    (
        "recipe.optimizer",
        "adam",
        "recipe.optimizer.* 'adam'.*adamw",
    ),
    (
        "recipe.stem",
        [],
        r"`recipe.stem` must be one of imagenet, cifar, cifar_stride2. Received: recipe.stem=\[\]",
    ),
    ("recipe.modle", "resnet8", "unexpected keyword argument 'modle'"),
    ("data_dir", KeyError, "`data_dir` is missing"),
    ("data_dir", 3, "`data_dir` must be a string. Received: data_dir=3"),
    ("images", "many", "`images` must be a JSON object. Received: images='many'"),
    ("precision", {}, "`precision` must be a string. Received: precision={}"),
    ("data_fingerprint", 1, "`data_fingerprint` must be a string. Received: data_fingerprint=1"),
    ("metrics", None, "`metrics` must be a JSON object. Received: metrics=None"),
    ("metrics", [1], r"`metrics` must be a JSON object. Received: metrics=\[1\]"),
    ("metrics.test", KeyError, "`metrics.test` is missing"),
    ("metrics.test", 0.9, "`metrics.test` must be a JSON object. Received: metrics.test=0.9"),
    ("metrics.test.top1", KeyError, "`metrics.test.top1` is missing"),
    (
        "metrics.validation.top1",
        "90%",
        "`metrics.validation.top1` must be a finite number. Received: metrics.validation.top1='90%'",
    ),
    ("metrics.training_seconds", KeyError, "`metrics.training_seconds` is missing"),
]
FILES = {
    "a list": ("[1, 2]", r"`content` must be a JSON object. Received: content=\[1, 2\]"),
    "null": ("null", "`content` must be a JSON object. Received: content=None"),
    "half a file": (json.dumps(RUN)[:50], "Unterminated|Expecting"),
    "empty": ("", "Expecting value"),
    "deep nesting": ("[" * 100_000, "recursion"),
    "deep values": ('{"recipe": ' * 100_000, "recursion"),
    "a long number": ("9" * 5000, "digits"),
    "latin-1": ('{"recipe": "\xe9"}'.encode("latin-1"), "utf-8"),
}
HISTORIES = {
    "no column": (HISTORY.replace("loss,", "lost,", 1), "no column loss"),
    "no column of validation": (HISTORY.replace("val_accuracy", "x"), "no column val_accuracy"),
    "no epoch": (HISTORY.splitlines()[0], "it has no epochs"),
    "empty": ("", "it has no epochs"),
    "text": (
        HISTORY.replace("2.5", "x" * 9999),
        "column 'val_loss' must hold numbers. Received: 'xxx",
    ),
    "empty field": (
        HISTORY.replace("2.5", ""),
        "column 'val_loss' must hold numbers. Received: ''",
    ),
    "a long field": (HISTORY.replace("2.5", "1" * 200_000), "field larger than field limit"),
    "cut": (HISTORY[:-8], "its rows have different lengths"),
    "zeros": (HISTORY.replace("2.5", "\0"), "NUL|numbers"),
    "latin-1": (HISTORY.replace("2.5", "\xe9").encode("latin-1"), "decode"),
}


@pytest.fixture
def folder(tmp_path):
    def write(run=WHOLE, history=HISTORY):
        for name, content in (("run.json", run), ("history.csv", history)):
            (tmp_path / name).write_bytes(
                content if isinstance(content, bytes) else content.encode()
            )
        return tmp_path

    return write


def refusal_of(read, folder):
    with pytest.raises(keras_arch.InputError) as refused:
        read(folder)
    (line,) = str(refused.value).splitlines()
    assert len(line) < 300 + len(str(folder))
    return line


@pytest.mark.parametrize(
    ("path", "value", "message"),
    CHANGES,
    ids=[f"{path}={value!r:.20}" for path, value, _ in CHANGES],
)
def test_a_changed_field_is_named(folder, path, value, message):
    assert_matches(refusal_of(read_run, folder(changed(path, value))), "run.json", message)


@pytest.mark.parametrize("case", FILES)
def test_a_damaged_run_json_is_named(folder, case):
    content, message = FILES[case]
    assert_matches(refusal_of(read_run, folder(content)), "run.json", message)


@pytest.mark.parametrize("case", HISTORIES)
def test_a_damaged_history_is_named(folder, case):
    content, message = HISTORIES[case]
    assert_matches(refusal_of(read_history, folder(history=content)), "history.csv", message)


def assert_matches(line, file, message):
    assert re.search(rf"/{file} is damaged or from another version: .*({message})", line), line


def test_run_json_and_history_are_read(folder):
    run = read_run(folder())
    assert run == {**RUN, "recipe": Recipe("resnet8", "digits", epochs=2, learning_rate=0.1)}
    assert read_history(folder()) == {
        "loss": [2, 1],
        "accuracy": [0.5, 0.7],
        "val_loss": [2.5, 1.5],
        "val_accuracy": [0.4, 0.6],
        "seconds": [1, 1],
    }
    assert "metrics" not in read_run(folder(changed("metrics", KeyError)))


def test_every_field_of_a_recipe_is_checked():
    for name, annotation in get_type_hints(Recipe, include_extras=True).items():
        with pytest.raises(keras_arch.InputError, match=f"`{name}` must be"):
            check_fields(name, object(), annotation)


def test_compare_names_the_damaged_run(folder, script, tmp_path, tmp_path_factory, capfd):
    other = tmp_path_factory.mktemp("other")
    for name, content in (("run.json", changed("metrics.test", None)), ("history.csv", HISTORY)):
        (other / name).write_text(content)
    image = keras.Input((8, 8, 1))
    keras.Model(image, keras.layers.Flatten()(image)).save(tmp_path / "model.keras")
    assert script("compare.py", folder(), other, "--output", tmp_path / "both.png") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert (
        f"{other / 'run.json'} is damaged or from another version: `metrics.test` must be" in line
    )
    assert not (tmp_path / "both.png").exists()


def test_labels_must_be_text(tmp_path):
    (tmp_path / "labels.txt").write_bytes("caf\xe9\n".encode("latin-1"))
    with pytest.raises(
        keras_arch.InputError, match=r"labels.txt cannot be read.*must be UTF-8 text"
    ):
        read_labels(tmp_path / "labels.txt")
