"""Numeric options have finite ranges, which scripts and dataclasses check first."""

import dataclasses
import math
import typing

import pytest
from conftest import ROOT
from harness import Work, options_of, start_working

import keras_arch
from keras_arch.formats import ExportSettings
from keras_arch.options import Range, check_options, ranges_of
from keras_arch.recipes import Recipe

BEYOND = (10**19, -(10**19), math.inf, -math.inf, math.nan, -1, 0)
COMMANDS = {  # words before the option: first work of the script
    "train.py quickstart": "keras_arch.load_dataset",
    "calibrate.py run": "keras_arch.files.shared_lock",
    "export.py run": "keras_arch.export.run.open_run",
    "cost.py resnet8": "keras_arch.build",
    "demo.py run": "keras_arch.demo.contents.find_export",
    "predict.py model.keras picture.png": "keras_arch.images.find.find_images",
    "show_data.py digits": "keras_arch.load_dataset",
    "evaluate.py model.keras": "keras_arch.open_artifact",
    "compare.py one two": "keras_arch.runs.record.read_run",
}
PARTS = {"recipe": Recipe, "settings": ExportSettings}  # fields that are dataclasses of options
FROZEN = ["--freeze", "backbone", "--model", "resnet18", "--weights", "imagenet"]
INT8 = ["--quantize-aware", "int8"]
WITH = {  # {script: {option: other words that it needs}}
    "export.py": {"height": ["--width", "8"], "width": ["--height", "8"]},
    "train.py": {
        "width": ["--model", "googlenet"],
        "freeze_epochs": [*FROZEN, "--epochs", "100000"],
        "fine_tuning_rate": [*FROZEN, "--freeze-epochs", "1"],
        "early_epochs": ["--early-size", "4", "--epochs", "100000"],
        "quantize_epochs": [*INT8, "--epochs", "100000", *FROZEN[2:]],
        "quantize_rate": INT8,
        "temperature": ["--teacher", "cifar10_jpeg"],
        "teacher_weight": ["--teacher", "cifar10_jpeg"],
    },
}
NEEDED = {  # {field of Recipe: other fields that it needs}
    "freeze_epochs": {"freeze": "backbone", "epochs": 100_000},
    "fine_tuning_rate": {"freeze": "backbone", "freeze_epochs": 1},
    "early_epochs": {"early_size": 4, "epochs": 100_000},
    "quantize_epochs": {"quantize_aware": "int8", "epochs": 100_000},
    "quantize_rate": {"quantize_aware": "int8"},
}


def numbers_in(kind):
    """Return {name: int or float} of the numeric fields of a dataclass, from its annotations."""
    kinds = {
        name: [hint, *typing.get_args(hint)] for name, hint in typing.get_type_hints(kind).items()
    }
    return {
        name: hints[-2 if type(None) in hints else 0]
        for name, hints in kinds.items()
        if {int, float} & {*hints}
    }


def numeric_options(path):
    """Return {name: (int or float, Range)} of all numeric options of a script."""
    options = options_of(path)
    found = {}
    for kind in [
        options,
        *(PARTS[field.name] for field in dataclasses.fields(options) if field.name in PARTS),
    ]:
        assert set(numbers_in(kind)) == set(ranges_of(kind)), kind
        found |= {
            name: (number, ranges_of(kind)[name]) for name, number in numbers_in(kind).items()
        }
    return found


def test_every_script_is_tested():
    assert {typed.split()[0] for typed in COMMANDS} == {
        path.name for path in (ROOT / "scripts").glob("*.py")
    }


@pytest.mark.parametrize("typed", COMMANDS)
def test_numbers_out_of_range_are_refused_before_any_work(
    typed, script, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(COMMANDS[typed], start_working)
    monkeypatch.chdir(tmp_path)
    first, *words = typed.split()
    for option, (kind, limits) in numeric_options(ROOT / "scripts" / first).items():
        assert math.isfinite(limits.low)
        assert math.isfinite(limits.high)
        extra = WITH.get(first, {}).get(option, [])
        for number in {limits.low, limits.high, *BEYOND}:
            accepted = limits.low <= number <= limits.high and number == kind(number)
            arguments = [*words, f"--{option.replace('_', '-')}", str(number), *extra]
            if accepted:
                with pytest.raises(Work):
                    script(first, *arguments)
                capfd.readouterr()
                continue
            assert script(first, *arguments) == 2, arguments
            lines = capfd.readouterr().err.splitlines()
            assert len(lines) == 1, arguments
            assert lines[0].startswith("error: ")
            assert len(lines[0]) < 300
            assert option.replace("_", "-") in lines[0].replace("_", "-")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [Recipe, ExportSettings])
def test_dataclasses_check_the_same_ranges(kind):
    settings = {"height": 8, "width": 8} if kind is ExportSettings else {}
    options = keras_arch.RECIPES["quickstart"] if kind is Recipe else kind(**settings)
    for name, number in numbers_in(kind).items():
        limits = ranges_of(kind)[name]
        for end in (limits.low, limits.high):
            changes = {name: number(end), **NEEDED.get(name, {})}
            assert getattr(dataclasses.replace(options, **changes), name) == end
        for wrong in (limits.low - 1, limits.high * 2, *BEYOND):
            if limits.low <= wrong <= limits.high:
                continue
            with pytest.raises(keras_arch.InputError, match=f"`{name}` must be") as refused:
                dataclasses.replace(options, **{name: wrong})
            assert len(str(refused.value)) < 300


def test_a_range_includes_both_ends():
    @dataclasses.dataclass(frozen=True)
    class Options:
        share: typing.Annotated[float, Range(0.5, 2)] = 1

        def __post_init__(self):
            check_options(self)

    assert [Options(share).share for share in (0.5, 2)] == [0.5, 2]
    for share in (0.49, 2.01):
        with pytest.raises(
            keras_arch.InputError, match=rf"a number from 0.5 to 2\. Received: share={share}\."
        ):
            Options(share)
