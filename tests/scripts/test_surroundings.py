"""The environment of a process: home, cache, locale, streams, memory and settings of Keras."""

import json
import os
import shlex
import subprocess
import sys
import warnings

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image

import keras_arch
from keras_arch import errors, files, machine
from keras_arch.artifacts.tflite import count_workers
from keras_arch.cli import quiet, run
from keras_arch.data.dataset import Dataset
from keras_arch.data.splits import InMemory
from keras_arch.machine import available_memory
from keras_arch.training import precision

GB = 1e9
RECIPE = keras_arch.Recipe(
    "resnet8", "x", epochs=1, learning_rate=0.1, batch_size=4, precision="float32"
)
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1)).astype("uint8")
SPLIT = InMemory(IMAGES, np.arange(12) % 3)
DATA = Dataset("noise", SPLIT, SPLIT, SPLIT, ("a", "b", "c"), (8, 8, 1))


def python(arguments, shell="exec {}", **environment):
    """Run Python in a shell, which may first set a limit or close a stream; return the result."""
    words = shlex.join([sys.executable, *map(str, arguments)])
    kept = {
        name: value for name, value in os.environ.items() if environment.get(name, "") is not None
    }
    changed = {name: str(value) for name, value in environment.items() if value is not None}
    return subprocess.run(
        ["bash", "-c", shell.format(words)],
        env={**kept, "PYTHONPATH": str(ROOT), **changed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
    )


def one_line(found, start, status=2):
    assert found.returncode == status, found.stderr
    (line,) = found.stderr.splitlines()
    assert line.startswith(start)
    assert len(line) < 300
    return line


# --- memory ---


def test_a_batch_larger_than_the_memory_is_refused_first(tmp_path, monkeypatch):
    """The float32 inputs of the two convolutions must fit into the available memory."""
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3, padding="same")(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(
        image,
        keras.layers.Softmax()(keras.layers.Flatten()(keras.layers.Conv2D(3, 8)(x))),
        name="tiny",
    )
    values = 8 * 8 * 1 + 8 * 8 * 2  # inputs of the two convolutions
    monkeypatch.setattr("keras_arch.training.checks.available_memory", lambda: 4 * 4 * values - 1)
    with pytest.raises(
        keras_arch.InputError,
        match=r"4 images of \(8, 8, 1\).*in tiny.*smaller batch_size or image_size \(--batch-size, --image-size\)",
    ) as refused:
        keras_arch.fit(model, DATA, RECIPE, tmp_path)
    assert len(str(refused.value)) < 300
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("keras_arch.training.checks.available_memory", lambda: 4 * 4 * values)
    assert len(keras_arch.fit(model, DATA, RECIPE, tmp_path)["loss"]) == 1


def test_out_of_memory_in_training_is_an_input_error(tmp_path, monkeypatch):
    def fail(*arguments):
        raise tf.errors.ResourceExhaustedError(
            None, None, "OOM when allocating tensor with shape[9,9]"
        )

    monkeypatch.setattr("keras_arch.training.fit.run_epochs", fail)
    with pytest.raises(
        keras_arch.InputError, match=r"memory\. Received: OOM.*smaller batch or image"
    ):
        keras_arch.fit(keras_arch.ResNet8(input_shape=(8, 8, 1), classes=3), DATA, RECIPE, tmp_path)


@pytest.mark.slow
def test_a_failed_allocation_of_tensorflow_is_an_input_error(tmp_path):
    """The system refuses an allocation of 2 PB, which exceeds the address space."""
    image = keras.Input((8, 8, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ZeroPadding2D(8_000_000)(image))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    with pytest.raises(
        keras_arch.InputError,
        match=r"There is not enough memory.*OOM.*smaller batch or image",
    ):
        keras_arch.fit(model, DATA, RECIPE, tmp_path)
    assert list(tmp_path.iterdir()) == []


OUT_OF_MEMORY = {
    "Python": MemoryError(),
    "NumPy": np._core._exceptions._ArrayMemoryError((2**40,), np.dtype("uint8")),
    "TensorFlow": tf.errors.ResourceExhaustedError(
        None, None, "OOM when allocating tensor with shape[9,9]"
    ),
    "NumPy in TensorFlow": tf.errors.UnknownError(
        None, None, "MemoryError: Unable to allocate 1.00 TiB"
    ),
    "JAX": RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4503599627370496 bytes."),
    "PyTorch": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4503599627370496 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "C++": RuntimeError("std::bad_alloc"),
    "a thread": RuntimeError("can't start new thread"),
    "a library": ImportError("libx.so: failed to map segment from shared object"),
    "the system": OSError(12, "Cannot allocate memory"),
}


@pytest.mark.parametrize("cause", OUT_OF_MEMORY)
def test_out_of_memory_is_one_line_in_scripts(cause, capfd):
    def main():
        with quiet():
            os.write(2, b"notices of TensorFlow\n")
            raise OUT_OF_MEMORY[cause]

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: There is not enough memory. Received: ")
    assert "--batch-size" in line
    assert line.count("Received") == 1


def test_other_exceptions_are_not_replaced():
    with pytest.raises(ZeroDivisionError), errors.explain_surroundings():
        _ = 1 / 0
    with (
        pytest.raises(keras_arch.InputError, match=r"^MemoryError: is a name$"),
        errors.explain_surroundings(),
    ):
        raise keras_arch.InputError("MemoryError: is a name")


LIMITED = """
import resource, numpy, psutil
from keras_arch import machine
print(machine.total_memory(), machine.available_memory(), psutil.Process().memory_info().vms)
machine.check_address_space()
"""


def test_ulimit_v_limits_the_memory():
    """With `ulimit -v 2000000`, memory is 2,000,000 KiB, which is not enough for TensorFlow."""
    found = python(["-c", LIMITED], "ulimit -v 2000000; exec {}")
    total, available, taken = map(int, found.stdout.split())
    assert total == 2_000_000 * 1024
    assert abs(total - taken - available) < 10e6
    assert (
        "`ulimit -v` must be at least 4194304 (kB) for TensorFlow. Received: 2000000."
        in found.stderr.splitlines()[-1]
    )


def test_available_memory_is_that_of_the_machine_or_the_container(monkeypatch):
    monkeypatch.setattr(machine, "address_limits", list)
    monkeypatch.setattr(machine, "cgroup_limits", list)
    assert available_memory() == pytest.approx(psutil.virtual_memory().available, abs=GB)
    used = psutil.Process().memory_info().rss
    monkeypatch.setattr(machine, "cgroup_limits", lambda: [10**15, used + 10**8])
    assert available_memory() == pytest.approx(10**8, abs=5e7)
    monkeypatch.setattr(machine, "cgroup_limits", lambda: [1])
    assert available_memory() == 0
    assert count_workers(1000, 1) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "message"), [(1_000_000, "not enough memory"), (6_000_000, "--batch-size, --image")]
)
def test_training_in_a_small_address_space(limit, message, tmp_path, data_dir, digits):
    words = f"scripts/train.py quickstart --batch-size 1293 --image-size 512 --data-dir {data_dir} --output {tmp_path}/run"
    assert message in one_line(python(words.split(), f"ulimit -v {limit}; exec {{}}"), "error: ")
    assert list(tmp_path.iterdir()) == []


# --- home and cache ---


@pytest.fixture
def reset_warning():
    files.warn_without_cache.cache_clear()
    yield
    files.warn_without_cache.cache_clear()


@pytest.fixture
def image_folder(tmp_path):
    for number in range(24):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * number).save(path)
    return tmp_path / "images"


def break_cache(kind, tmp_path, monkeypatch):
    """Make the cache unusable: a file, a directory that cannot be written, or no home."""
    if kind == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(
            files.Path,
            "home",
            classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("No home."))),
        )
        return
    (tmp_path / "file").touch()
    monkeypatch.setenv(
        "XDG_CACHE_HOME", {"a file": str(tmp_path / "file"), "a system folder": "/proc"}[kind]
    )


@pytest.mark.parametrize("kind", ["a file", "a system folder", "no home"])
def test_without_a_cache_there_is_one_warning_and_results_are_right(
    kind, tmp_path, monkeypatch, image_folder, reset_warning
):
    break_cache(kind, tmp_path, monkeypatch)
    monkeypatch.setattr(precision, "measure_speeds", lambda: {"float32": 1.0, "bfloat16": 2.0})

    def use_the_cache():
        for _ in range(2):
            assert keras_arch.load_dataset(image_folder).train.count > 0
            assert precision.remembered_speeds.__wrapped__() == {"float32": 1.0, "bfloat16": 2.0}

    with pytest.warns(
        keras_arch.DataWarning, match=r"The cache cannot be written.*Set XDG_CACHE_HOME"
    ) as issued:
        use_the_cache()
    assert len(issued) == 1
    assert len(str(issued[0].message)) < 300


@pytest.mark.parametrize(
    "content",
    ["[1]", "5", "{", "[" * 100_000, '{"KEY": 5}', '{"KEY": {"float32": "x", "bfloat16": null}}'],
)
def test_a_damaged_cache_is_replaced(content, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "measure_speeds", lambda: {"float32": 1.0, "bfloat16": 2.0})
    path = tmp_path / "keras_arch" / "precision.json"
    path.parent.mkdir()
    path.write_text(content.replace("KEY", precision.machine_key()))
    assert precision.remembered_speeds.__wrapped__() == {"float32": 1.0, "bfloat16": 2.0}
    assert json.loads(path.read_text())[precision.machine_key()] == {
        "float32": 1.0,
        "bfloat16": 2.0,
    }


@pytest.mark.parametrize(
    ("folder", "problem"), [("file/x", "file, which cannot be"), ("~nobody-here/x", "no home")]
)
def test_an_invalid_data_dir_is_an_input_error(folder, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(
        keras_arch.InputError,
        match=rf"'digits' cannot be prepared.*{problem}.*Pass another --data-dir",
    ):
        keras_arch.load_dataset("digits", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_quiet_hides_notices_but_not_warnings(capfd):
    def main():
        with quiet():
            os.write(2, b"notices of TensorFlow\n")
            warnings.warn("the cache is left out", keras_arch.DataWarning, stacklevel=1)
        print("done")

    run(main)
    printed = capfd.readouterr()
    assert printed.err.splitlines() == ["warning: the cache is left out"]
    assert printed.out == "done\n"


@pytest.mark.slow
def test_training_works_with_a_read_only_home(tmp_path, data_dir, digits):
    home = tmp_path / "home"
    home.mkdir()
    if subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "ro", "none", home], capture_output=True
    ).returncode:
        pytest.skip("this user may not mount a file system")
    shell = f"exec unshare -m bash -c 'mount -t tmpfs -o ro none {home} && exec \"$@\"' bash {{}}"
    words = f"scripts/train.py quickstart --epochs 1 --data-dir {data_dir} --output {tmp_path}/run".split()
    found = python(words, shell, HOME=home, XDG_CACHE_HOME=None)
    one_line(found, "warning: The cache cannot be written", status=0)
    found = python(words[:4], shell, HOME=home, XDG_CACHE_HOME=None)
    assert "--data-dir" in one_line(found, "error: 'digits' cannot be prepared")


# --- locale ---


NAMES = """
from pathlib import Path
from keras_arch.text import file_name_text
print(ascii([file_name_text(path.name) for path in sorted(Path("FOLDER").iterdir())]))
"""


def test_file_names_are_the_same_in_every_locale(tmp_path):
    for name in ("a", "\u732b", "\u00c4pfel"):
        (tmp_path / name).mkdir()
    expected = ascii(["a", "\u00c4pfel", "\u732b"])
    for locale in (
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONUTF8": "1"},
    ):
        assert (
            python(["-c", NAMES.replace("FOLDER", str(tmp_path))], **locale).stdout.strip()
            == expected
        )


@pytest.mark.slow
def test_training_works_in_an_ascii_locale(image_folder, tmp_path):
    (image_folder / "a").rename(image_folder / "\u732b")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = tmp_path / "run"
    words = f"scripts/train.py quickstart --epochs 1 --batch-size 4 --precision float32 --dataset {image_folder} --output {run}"
    for command in (
        words,
        f"scripts/export.py {run} --formats saved_model float32 --max-drop 100",
        f"scripts/evaluate.py {run} {run}/export/saved_model",
    ):
        found = python(command.split(), **ascii_only)
        assert (found.returncode, found.stderr) == (0, "")
    assert (run / "labels.txt").read_text("utf-8").split() == ["b", "\u732b"]
    assert (run / "export/labels.txt").read_text("utf-8").split() == ["b", "\u732b"]


# --- streams ---


PRINTS = """
import os, sys, warnings
from keras_arch import cli
from keras_arch.errors import DataWarning, InputError
def main():
    warnings.warn("a warning", DataWarning)
    with cli.quiet():
        os.write(2, b"notices")
    with open("FILE", "w") as file:  # not the file descriptor of a standard stream
        os.write(2, b"native code") if 2 in CLOSED else None
        assert file.fileno() > 2
    print("result")
    raise InputError("a mistake")
cli.run(main)
"""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_standard_streams_may_be_closed(closed, tmp_path):
    code = PRINTS.replace("FILE", str(tmp_path / "file")).replace("CLOSED", str(closed))
    found = python(["-c", code], "exec {} " + " ".join(f"{number}>&-" for number in closed))
    assert found.returncode == 2
    assert found.stdout == ("" if 1 in closed else "result\n")
    assert found.stderr == ("" if 2 in closed else "warning: a warning\nerror: a mistake\n")
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_stdout_is_one_line():
    code = "from keras_arch import cli\ncli.run(lambda: print('result'))"
    found = python(["-c", code], "exec {} >/dev/full")
    assert found.returncode == 2
    assert found.stderr.splitlines()[0].startswith("error: ")
    assert "Traceback" not in found.stderr


# --- Keras ---


FAILS = """
import sys, types
import keras_arch
from keras_arch import InputError
try:
    keras_arch.ResNet8
except InputError as error:
    print(error)
"""


def test_an_unknown_backend_is_an_input_error_at_first_use():
    found = python(["-c", FAILS], KERAS_BACKEND="nosuch")
    (line,) = found.stdout.splitlines()
    assert "Received: Unable to import backend : nosuch. Set KERAS_BACKEND to tensorflow" in line


@pytest.mark.slow
@pytest.mark.parametrize("content", ["[1]", '{"floatx": "float99"}', '{"epsilon": "x"}'])
@pytest.mark.parametrize(
    "words", ["predict.py RUN/model.keras examples/digit.png", "export.py RUN", "cost.py resnet8"]
)
def test_invalid_keras_settings_are_one_line(words, content, quickstart, tmp_path):
    (tmp_path / "keras.json").write_text(content)
    script, *rest = words.replace("RUN", str(quickstart)).split()
    found = python([f"scripts/{script}", *rest], KERAS_HOME=tmp_path)
    assert "keras.json" in one_line(found, "error: Keras cannot be imported. Received: ")


def test_keras_failed_detects_an_incomplete_import(monkeypatch):
    assert not errors.keras_failed()
    monkeypatch.delitem(sys.modules, "keras")
    assert errors.keras_failed()
