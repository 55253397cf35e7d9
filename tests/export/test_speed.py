"""What makes an export fast must not change a byte of a file."""

import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_arch
from keras_arch.export import classifier
from keras_arch.export import second_process as second
from keras_arch.export.tflite import (
    build_tflite_model,
    configure,
    convert,
    open_converter,
    representative_dataset,
    stretch_contrast,
    trace,
)
from keras_arch.export.verification import process as probes
from keras_arch.formats import FORMATS, ExportSettings

NAMES = ("cat", "dog", "horse", "ship")
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)).astype("uint8")
TFLITE = [name for name, form in FORMATS.items() if form.kind == "tflite" and name != "int4"]


@pytest.fixture(scope="module")
def model():
    return keras_arch.ResNet8(input_shape=(16, 16, 3), classes=4)


@pytest.fixture(scope="module")
def traced(model):
    with trace(build_tflite_model(model)) as folder:
        yield folder


@pytest.fixture(scope="module")
def converter(traced):
    return open_converter(traced)


@pytest.mark.parametrize("name", TFLITE)
def test_one_converter_writes_all_formats(name, converter, traced):
    """The reference: a new converter for each file, with all calibration images each time."""
    form = FORMATS[name]
    reference = tf.lite.TFLiteConverter.from_saved_model(traced)
    reference.target_spec.supported_ops = [tf.lite.OpsSet[form.operators]]
    if form.weights != "float32":
        reference.optimizations = [tf.lite.Optimize.DEFAULT]
    if form.weights == "float16":
        reference.target_spec.supported_types = [tf.float16]
    if form.calibrated:
        reference.representative_dataset = representative_dataset(stretch_contrast(IMAGES))
        reference.inference_input_type = tf.as_dtype(form.input_type)
        reference.inference_output_type = tf.as_dtype(form.output_type)
    assert convert(converter, form, IMAGES) == reference.convert()


def test_the_trace_is_that_of_keras(model, converter, tmp_path):
    """`keras.export.ExportArchive` is slower. The converter writes the same file."""
    tflite_model, archive = build_tflite_model(model), keras.export.ExportArchive()
    archive.track(tflite_model)
    signature = [tf.TensorSpec(tflite_model.input_shape, tf.float32, name="image")]
    archive.add_endpoint("serve", lambda image: tflite_model(image, training=False), signature)
    archive.write_out(tmp_path / "archive", verbose=False)
    reference = configure(open_converter(str(tmp_path / "archive")), FORMATS["float32"], None)
    assert convert(converter, FORMATS["float32"], None) == reference.convert()


def test_a_converter_that_calibrates_once_gets_all_images(converter, monkeypatch):
    seen = []

    def calibrate_once(self):
        seen.append(len(list(self.representative_dataset())))
        return b"file"

    monkeypatch.setattr(type(converter), "convert", calibrate_once)
    assert convert(converter, FORMATS["int16x8"], IMAGES) == b"file"
    assert seen[-1] == len(IMAGES)


@pytest.fixture
def started(monkeypatch):
    """Start a second process also for a small model."""
    monkeypatch.setattr(second, "LONG", 0)
    monkeypatch.setattr(second, "available_cores", lambda: 2)


def test_the_second_process_writes_the_same_files(model, traced, converter, started):
    with second.second_process(traced, model, FORMATS, IMAGES) as content_of:
        for name in ("dynamic", "int16x8"):
            assert content_of(FORMATS[name]) == convert(converter, FORMATS[name], IMAGES)
        assert content_of(FORMATS["int8"]) is None


def test_a_failure_of_the_second_process_is_no_failure_of_the_export(model, started, tmp_path):
    with second.second_process(str(tmp_path), model, FORMATS, IMAGES) as content_of:
        assert content_of(FORMATS["int16x8"]) is None


@pytest.fixture
def processes(monkeypatch):
    """Return a list of the Python processes that start from now on."""
    found = []

    class Recorded(second.subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__(command, **options)
            if command[0] == sys.executable:
                found.append(self)

    monkeypatch.setattr(second.subprocess, "Popen", Recorded)
    return found


def test_an_error_ends_the_second_process(model, traced, started, processes):
    with pytest.raises(KeyboardInterrupt), second.second_process(traced, model, FORMATS, IMAGES):
        raise KeyboardInterrupt
    assert processes[0].returncode is not None


def test_the_processes_of_a_saved_model_start_before_it_is_written(
    model, processes, tmp_path, monkeypatch
):
    before = []
    export_model = classifier.export_model
    monkeypatch.setattr(
        classifier,
        "export_model",
        lambda *arguments: before.append(len(processes)) or export_model(*arguments),
    )
    settings = ExportSettings(formats=("saved_model", "float32"))
    keras_arch.export_and_verify(model, tmp_path / "export", NAMES, IMAGES, settings=settings)
    assert before == [len(probes.THREADS)]
    kinds = [process.args[-1] for process in processes]
    assert kinds == ["saved_model"] * 2 + ["tflite"] * 2
    assert [process.returncode for process in processes] == [0] * 4  # none was stopped


def test_an_error_ends_the_processes_that_started_early(processes):
    with pytest.raises(KeyboardInterrupt), probes.start_early(["saved_model", "tflite"]):
        raise KeyboardInterrupt
    assert [process.returncode for process in processes] == [-signal.SIGKILL] * 2


def test_nothing_starts_early_without_a_saved_model_or_memory(processes, monkeypatch):
    with probes.start_early(["tflite", "onnx"]) as early:
        assert not early
    monkeypatch.setattr(probes, "available_memory", lambda: 1e9)
    with probes.start_early(["saved_model"]) as early:
        assert not early
    assert not processes


@pytest.mark.parametrize(
    ("status", "expected"),
    [("VmSize:\t900 kB\nVmHWM:\t  300 kB\n", 300 * 1024), ("VmSize:\t900 kB\n", None)],
)
def test_some_systems_do_not_count_the_peak_memory(status, expected):
    """The probe's functions, in a process that can import nothing of this package."""
    code = (
        "import builtins, io, runpy, sys\n"
        "sys.argv, sys.stdin, sys.stdout = ['probe.py', 'tflite'], io.StringIO(), io.StringIO()\n"
        f"names = runpy.run_path({str(probes.PROBE)!r})\n"
        f"builtins.open = lambda path: io.StringIO({status!r})\n"
        "print(names['peak_memory'](), file=sys.__stdout__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{expected}\n", done.stderr


def test_a_process_that_ends_is_an_error_of_its_file():
    process = probes.start_process("tflite")
    probes.wait_for_import(process)
    process.kill()
    probes.wait_for_import(process)  # returns
    assert "its process ended with status -9" in probes.run_job(process, {})["error"]


@pytest.mark.parametrize(
    ("formats", "images", "cores", "memory", "expected"),
    [
        (("float32", "int16x8"), 100, 2, 1e10, True),
        (("float32", "int8"), 100, 2, 1e10, False),  # int8 has all work to do
        (("dynamic", "int16x8"), 100, 2, 1e10, False),  # the first process has none
        (("float32", "int16x8"), 10, 2, 1e10, False),
        (("float32", "int16x8"), 100, 1, 1e10, False),
        (("float32", "int16x8"), 100, 2, 1e9, False),
    ],
)
def test_when_a_second_process_saves_time(
    formats, images, cores, memory, expected, model, monkeypatch
):
    monkeypatch.setattr(second, "available_cores", lambda: cores)
    monkeypatch.setattr(second, "available_memory", lambda: memory)
    monkeypatch.setattr(second, "LONG", 50 * keras_arch.cost(model).multiply_adds)
    assert second.saves_time(model, formats, images) == expected
