"""Invalid words, contradicting options and incomplete command lines are refused."""

import dataclasses
import itertools
import typing

import pytest
from conftest import ROOT
from harness import check_refused, options_of, parameters, start_working, world  # noqa: F401
from test_numbers import COMMANDS, PARTS

TEXTS = {  # options that take the name of something
    "train.py quickstart": ("--model", "--dataset", "--weights", "--teacher"),
    "train.py": ("",),
    "cost.py": ("",),
    "cost.py resnet8": ("",),
    "show_data.py": ("",),
    "evaluate.py run": ("--dataset",),
    "demo.py run": ("--test",),
    "predict.py run digit.png --output new.csv": ("--shard",),
}
WORDS = {
    "unknown": "nosuch",
    "empty": "",
    "space": " ",
    "long": "x" * 100_000,
    "escape": "\x1b[31mred",
    "line break": "one\ntwo",
    "other letters": "größe-模型",
    "right to left": "\u202egpj.exe",
    "not utf-8": "\udcff",
    "markup": "[/red]$x$<b>%s{0}",
    "number": "7e999",
    "slash": "a/b:c",
}

CONTRADICTIONS = [
    "train.py quickstart --freeze backbone",
    "train.py quickstart --freeze backbone --auxiliary-heads --weights run",
    "train.py quickstart --freeze-epochs 3 --weights run",
    "train.py quickstart --freeze backbone --freeze-epochs 30 --weights run",
    "train.py quickstart --freeze backbone --fine-tuning-rate 0.1 --weights run",
    "train.py quickstart --temperature 4",
    "train.py quickstart --teacher-weight 0.9",
    "train.py quickstart --teacher run --image-size 16",
    "train.py quickstart --teacher run --output run --overwrite",
    "train.py quickstart --teacher digit.png",
    "train.py quickstart --model nin --width 0.5",
    "train.py quickstart --kernel-5x5 3",
    "train.py quickstart --auxiliary-heads",
    "train.py quickstart --stem cifar_stride2",
    "train.py quickstart --stem imagenet",
    "train.py quickstart --model googlenet --stem cifar --auxiliary-heads",
    "train.py quickstart --model plain20 --weights run",
    "train.py quickstart --model resnet20 --weights run",
    "train.py quickstart --model resnet18",
    "train.py quickstart --batch-size 1000000",
    "train.py quickstart --batch-size 32 --accumulate 41",
    "train.py quickstart --class-weights 3=2 eleven=2",
    "train.py quickstart --class-weights balanced 3=2",
    "train.py quickstart --model-options stem=cifar",
    "train.py quickstart --model-options variant",
    "train.py quickstart --model-options varaint=d",
    "train.py quickstart --model nosuch.py:build",
    "train.py quickstart --model digit.png.py",
    "train.py quickstart --dataset digits:9.9.9",
    "train.py quickstart --output run",
    "train.py quickstart --output run --resume",
    "train.py quickstart --output images --overwrite",
    "train.py quickstart --weights imagenet",
    "export.py run --height 8",
    "export.py run --width 8",
    "export.py run --keep-float stem_conv --formats float32",
    "export.py run --formats",
    "export.py run --softmax",
    "export.py run --labels run/labels.txt",
    "export.py run --calibration digits",
    "export.py run/model.keras",
    "export.py run/model.keras --calibration digits",
    "export.py run/model.keras --calibration digits --labels digit.png",
    "export.py run/model.keras --calibration digits --labels run/labels.txt --softmax",
    "export.py run/model.keras --calibration digits --labels run/labels.txt --output-name logits",
    "export.py run/model.keras --calibration digits --labels run/labels.txt --test images",
    "export.py run/model.keras --calibration digits --labels run/labels.txt --output images",
    "export.py digit.png",
    "export.py digit.png --calibration digits",
    "calibrate.py",
    "calibrate.py digit.png",
    "calibrate.py run other",
    "calibrate.py run/model.keras",
    "calibrate.py run --output run --overwrite",
    "calibrate.py run --output other",
    "calibrate.py run --at-least 0.5",
    "demo.py",
    "demo.py other",
    "demo.py digit.png",
    "demo.py run/model.keras",
    "demo.py run other",
    "demo.py run --output page",
    "demo.py run --output page.HTML",
    "demo.py run --open yes",
    "demo.py demo --test digits",
    "demo.py demo --data-dir data",
    "predict.py run digit.png --format table json",
    "predict.py run digit.png --shard 1/2",
    "predict.py run digit.png --shard 3/2 --output new.csv",
    "predict.py run digit.png --output new.txt",
    "predict.py run digit.png --output new.csv --format json",
    "predict.py run digit.png --output new.csv --explain maps",
    "predict.py digit.png run",
    "predict.py run",
    "evaluate.py run digit.png",
    "evaluate.py run --dataset digits --data-dir digit.png",
    "compare.py",
    "compare.py run",
    "compare.py run run",
    "compare.py run other --output picture.pdf",
    "compare.py run other --output picture",
    "cost.py",
    "cost.py resnet8 --by-stage --sort size",
    "cost.py resnet50 --image-size 31",
    "show_data.py digits --output data.txt",
    "show_data.py digits --output data.pdf",
    "show_data.py digits --augment mixup cutmix",
    "show_data.py",
    "train.py --resume",
    "train.py quickstart digits",
    "export.py",
    "evaluate.py",
    "predict.py",
]

UNKNOWN = (
    "--nosuch",
    "--nosuch 3",
    "--epoch",
    "-x",
    "-",
    "---",
    "--=",
    "--help-me",
    "\x1b[31m",
    "--\udcff",
    "x" * 9999,
)


def words_for(words):
    """Return bad words for an option with given choices, some of them similar to the first."""
    if not words or not isinstance(words[0], str):
        return {**WORDS, "fraction": "3.0", "neighbor": "4"}
    return {
        **WORDS,
        "short": words[0][:-1],
        "capitals": words[0].upper(),
        "twice": f"{words[0]} {words[0]}",
    }


def choices_of(kind):
    """Return {option: choices} of the fields of a dataclass with a Literal annotation."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        choices = [
            one
            for one in (hint, *typing.get_args(hint))
            if typing.get_origin(one) is typing.Literal
        ]
        if choices:
            found[f"--{name.replace('_', '-')}"] = typing.get_args(choices[0])
    return found


def cases():
    for typed in COMMANDS:
        options = options_of(ROOT / "scripts" / typed.split()[0])
        for kind in (
            options,
            *(PARTS[field.name] for field in dataclasses.fields(options) if field.name in PARTS),
        ):
            for option, choices in choices_of(kind).items():
                yield from (
                    ((*typed.split(), option, word), option, name)
                    for name, word in words_for(choices).items()
                )
    for typed, options in TEXTS.items():
        for option, (name, word) in itertools.product(options, WORDS.items()):
            yield (*typed.split(), *filter(None, [option]), word), "", name
    for typed, extra in itertools.product(COMMANDS, UNKNOWN):
        yield (*typed.split(), *extra.split()), "", f"and {extra!a:.20}"
    for typed in CONTRADICTIONS:
        yield tuple(typed.split()), "", "contradiction"


CASES = list(cases())


QUICK = ("unknown", "empty", "escape", "not utf-8", "short", "capitals")
BUILT = (
    "--model",
    "--auxiliary-heads",
    "--stem",
    "--width",
    "--kernel-5x5",
    "--batch-size",
    "imagenet",
    "resnet8",
    "--softmax",
    "--output-name",
    "--test",
)  # slow: a network or data are built first


def is_quick(typed, names, what):
    return what in QUICK or (what == "contradiction" and not set(BUILT) & {*typed})


@pytest.mark.parametrize(
    ("typed", "names", "what"),
    parameters(CASES, [f"{' '.join(typed)!a:.50}: {what}" for typed, _, what in CASES], is_quick),
)
def test_bad_words_are_refused_in_one_line(typed, names, what, world, monkeypatch, capfd):  # noqa: F811
    script = typed[0]
    late = {
        "train.py": "keras_arch.training.precision.choose_precision",
        "predict.py": "keras_arch.evaluation.predictions.classify",
        "evaluate.py": "keras_arch.evaluation.evaluate.compare",
        "compare.py": "keras_arch.reports.figures.draw_curves",
        "show_data.py": "keras_arch.data.dataset.count_images",
        "cost.py": "keras_arch.cost",
        "calibrate.py": "keras_arch.evaluation.calibrate.calibrate_model",
        "export.py": "keras_arch.export.classifier.write_export",
        "demo.py": "keras_arch.demo.contents.open_artifact",
    }
    monkeypatch.setattr(late[script], start_working)
    monkeypatch.chdir(world)
    monkeypatch.setenv("TFDS_DATA_DIR", str(world / "data"))
    check_refused(typed, world, capfd, names)
