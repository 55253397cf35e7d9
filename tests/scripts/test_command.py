"""The command keras-arch runs the scripts, and each script names the extra that it needs."""

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import ROOT, run_script

import keras_arch
from keras_arch import command, extras
from keras_arch.runs.record import find_recipe

SCRIPTS = {path.name for path in (ROOT / "scripts").glob("*.py")}


def run_command(*arguments):
    """Run the command in this process and return its exit status."""
    before = sys.argv
    sys.argv = ["/usr/bin/keras-arch", *map(str, arguments)]
    try:
        command.main()
    except SystemExit as stop:
        return stop.code or 0
    finally:
        sys.argv = before
    return 0


def test_every_script_is_a_command():
    assert {command.script_of(name).name for name in command.COMMANDS} == SCRIPTS
    assert all(command.script_of(name).is_file() for name in command.COMMANDS)


@pytest.mark.parametrize("name", command.COMMANDS)
def test_a_command_has_the_help_of_its_script(name, capfd):
    script = command.script_of(name).name
    recipe = ["digits"] if name == "train" else []
    assert run_command(name, *recipe, "--help") == 0
    text = capfd.readouterr().out
    assert text.startswith(f"usage: keras-arch {' '.join([name, *recipe])} [-h]")
    assert run_script(script, *recipe, "--help") == 0
    assert text.split("\n", 1)[1] == capfd.readouterr().out.split("\n", 1)[1]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(arguments, capfd):
    assert run_command(*arguments) == 0
    text = capfd.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for name, description in command.COMMANDS.items():
        assert f"  {name:<12}{description}\n" in text


@pytest.mark.parametrize(
    ("arguments", "limit"), [(["--help"], 0.3), (["train", "digits", "--help"], 1)]
)
def test_help_is_fast(arguments, limit):
    """CPU time does not depend on other processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-m", "keras_arch.command", *arguments]
    subprocess.run(words, check=True, capture_output=True, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < limit


def test_version(capfd):
    assert run_command("--version") == 0
    assert capfd.readouterr().out == f"keras-arch {keras_arch.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "Expected a command of keras-arch. Received: 'trian'. Did you mean train?"),
        (["show_data", "digits"], "Did you mean show-data?"),
        (
            ["--resume"],
            "Use one of train, export, demo, evaluate, calibrate, predict, compare, cost, show-data.",
        ),
        (["train", "ROOT/tests"], "is not a run directory: it has no run.json."),
        (["cost", "resnet9"], "Did you mean"),
        (["train", "saved_models/no such run"], "saved_models/no such run does not exist. Pass a"),
        (["train", "nothing"], "keras-arch train --help lists the recipes."),
        (["train", ""], "Arguments must not be empty."),
        (["train", "x" * 5000], "4,096 characters or fewer"),
        (["--tyro-print-completion"], "one shell: bash, zsh, fish, tcsh"),
        (["--tyro-print-completion", "bassh"], "Did you mean bash?"),
        (["--tyro-print-completion", "bash", "more"], "one shell: bash"),
    ],
)
def test_invalid_words_are_one_line(arguments, message, capfd):
    assert run_command(*(word.replace("ROOT", str(ROOT)) for word in arguments)) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def complete(script, *words):
    """Return bash's completions for the last of `words` after keras-arch."""
    code = f'{script}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tyro_keras_arch\n'
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    # On stdin, because the script is longer than an argument may be.
    found = subprocess.run(
        ["bash", "-s", "keras-arch", *words], input=code, capture_output=True, text=True
    )
    return set(found.stdout.split())


def test_bash_completes_commands_recipes_and_options(capfd):
    assert run_command("--tyro-print-completion", "bash") == 0
    script = capfd.readouterr().out
    assert complete(script, "") >= set(command.COMMANDS)
    assert complete(script, "train", "fashion") == {
        name for name in keras_arch.RECIPES if name.startswith("fashion")
    }
    assert complete(script, "train", "digits", "--label") == {"--label-smoothing"}
    assert complete(script, "export", "--int8-output", "") == {"uint8", "float32"}


# --- extras ---


NEEDS = {
    "train.py quickstart --output OUT": "train",
    "calibrate.py RUN": "train",
    "export.py RUN": "export",
    "demo.py demo": "predict",
    "evaluate.py RUN --output OUT": "train",
    "predict.py RUN examples/digit.png": "predict",
    "compare.py RUN RUN --output OUT.png": "train",
    "cost.py resnet8": None,
    "show_data.py digits --output OUT.png": "train",
}


def test_the_table_has_every_script():
    assert {words.split()[0] for words in NEEDS} == SCRIPTS


def hide(modules, monkeypatch):
    """Make modules look as if they were not installed."""
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name in modules else find(name))


@pytest.mark.parametrize(
    ("words", "extra"), [(words, extra) for words, extra in NEEDS.items() if extra]
)
def test_a_script_names_a_missing_extra_before_any_work(
    words, extra, tmp_path, monkeypatch, capfd, data_dir
):
    module = "ai_edge_litert" if extra == "predict" else "tensorflow"
    hide([module], monkeypatch)
    words = words.replace("RUN", str(tmp_path / "run")).replace("OUT", str(tmp_path / "out"))
    assert run_script(*words.split()) == 2
    printed = capfd.readouterr()
    assert printed.err.splitlines() == [
        f"error: Optional packages are not installed. Received: no {module}. "
        f'Run pip install "keras_arch[{extra}]".'
    ]
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", NEEDS)
def test_without_tyro_a_script_is_one_line(words, monkeypatch, capfd):
    hide(["tyro"], monkeypatch)
    assert run_script(*words.split()) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f'no tyro. Run pip install "keras_arch[{NEEDS[words] or "predict"}]"' in line


WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import keras_arch
try:
    USE
except keras_arch.InputError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("hidden", "use", "message"),
    [
        ("tensorflow", "keras_arch.ResNet8", "Keras needs a backend. Received: no tensorflow."),
        pytest.param(
            *("tensorflow_datasets", "keras_arch.load_dataset", '"keras_arch[train]"'),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("flatbuffers", "keras_arch.export_model", '"keras_arch[export]"'),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_public_name_names_the_missing_extra(hidden, use, message):
    code = WITHOUT.replace("HIDDEN", repr({hidden})).replace("USE", use)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    (line,) = found.stdout.splitlines()
    assert f"no {hidden}." in line
    assert message in line


def test_a_missing_backend_names_its_extra():
    code = WITHOUT.replace("HIDDEN", "{'jax'}").replace("USE", "keras_arch.ResNet8")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert found.stdout == (
        "Keras needs a backend. Received: no jax. Set KERAS_BACKEND to tensorflow, jax or torch, "
        'and run pip install "keras_arch[jax]" for jax.\n'
    )


# --- a run as the recipe ---


def test_a_run_is_found_with_its_precision_and_data_dir(quickstart):
    recipe, found = find_recipe(str(quickstart))
    recorded = read(quickstart)
    assert recipe == replace(keras_arch.RECIPES["quickstart"], precision=recorded["precision"])
    assert found == recorded["data_dir"]
    assert find_recipe("digits") == (keras_arch.RECIPES["digits"], None)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory, data_dir):
    folder = tmp_path_factory.mktemp("runs") / "first"
    words = ("quickstart", "--epochs", 1, "--precision", "float32", "--data-dir", data_dir)
    assert run_command("train", *words, "--output", folder) == 0
    return folder


def read(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.mark.slow
def test_train_repeats_a_run_to_the_bit(short_run, tmp_path):
    assert run_command("train", short_run, "--output", tmp_path / "second") == 0
    first, second = read(short_run), read(tmp_path / "second")
    assert second["recipe"] == first["recipe"]
    assert second["data_dir"] == first["data_dir"]
    assert second["metrics"]["weights_sha256"] == first["metrics"]["weights_sha256"]


@pytest.mark.slow
def test_train_varies_a_run(short_run, tmp_path):
    words = ("--seed", 1, "--output", tmp_path / "other")
    assert run_command("train", short_run, *words) == 0
    first, other = read(short_run), read(tmp_path / "other")
    assert other["recipe"] == {**first["recipe"], "seed": 1}
    assert other["metrics"]["weights_sha256"] != first["metrics"]["weights_sha256"]


def test_train_does_not_replace_the_run_that_it_repeats(quickstart, capfd):
    before = (quickstart / "run.json").read_bytes()
    assert run_command("train", quickstart, "--output", quickstart) == 2
    assert "--overwrite" in capfd.readouterr().err
    assert (quickstart / "run.json").read_bytes() == before
