"""Fixtures of all tests: the scripts, digits, one trained and exported run, and its page."""

import dataclasses
import gc
import importlib
import os
import runpy
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in the scripts

# Test files of more than ten seconds start first, so both workers end at about the same time.
# test_export.py creates the quickstart run that several files use.
FIRST = (
    "test_interruptions",
    "test_export",
    "test_resume",
    "test_contract",
    "test_fit",
    "test_architectures",
    "test_weights",
    "test_browser",
    "test_examples",
    "test_fit_inputs",
    "test_scripts",
    "test_damaged_files",
    "test_pixels",
    "test_load",
    "test_export_checks",
    "test_paths",
    "test_file_operations",
    "test_folders",
    "test_fast_copy",
    "test_any_model",
    "test_cifar10",
)
ROOT = Path(__file__).parent.parent
DIGITS: dict = {}  # {(name, directories and options): data set} of this process
PATIENCE = 300  # seconds to wait until another worker has created the quickstart run


def pytest_addoption(parser):
    parser.addoption(
        "--auto-precision",
        choices=["float32", "mixed_bfloat16"],
        help='precision that "auto" chooses on any processor',
    )


def pytest_configure(config):
    """Use TensorFlow and a temporary cache directory, also in processes that tests start."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "PYTEST_XDIST_WORKER" not in os.environ:
        os.environ["KERAS_ARCH_USER_CACHE"] = os.environ.get("XDG_CACHE_HOME", "")
        config.cache_home = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(
            prefix="keras_arch-cache-"
        )


def pytest_unconfigure(config):
    if hasattr(config, "cache_home"):
        shutil.rmtree(config.cache_home, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def auto_precision(pytestconfig):
    """Write measured speeds to the cache that make the precision of --auto-precision faster."""
    wanted = pytestconfig.getoption("auto_precision")
    if wanted is not None:
        from keras_arch.files import cache_folder, write_json
        from keras_arch.training.precision import machine_key

        speeds = {"float32": 1.0, "bfloat16": 2.0 if wanted == "mixed_bfloat16" else 0.5}
        write_json(cache_folder() / "precision.json", {machine_key(): speeds})


def pytest_terminal_summary(terminalreporter):
    """Print the outcomes that tests recorded. With workers, pytest drops what tests print."""
    properties = [
        pair for report in terminalreporter.getreports("passed") for pair in report.user_properties
    ]
    if outcomes := [text for name, text in properties if name == "outcome"]:
        terminalreporter.section("outcomes")
        for text in outcomes:
            terminalreporter.write_line(text)


def pytest_collection_finish():
    """Reduce garbage collection, which takes a tenth of the time of the tests."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_collection_modifyitems(items):
    items.sort(
        key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST)
    )


@contextmanager
def digits_read_once():
    """Cache the digits data set between scripts: TFDS takes more than a second to read it."""
    from keras_arch.data import load

    read = load.load_tfds

    def read_once(name, data_dir, *options):
        key = name, str(data_dir), os.environ.get("TFDS_DATA_DIR"), *options
        if name != "digits":
            return read(name, data_dir, *options)
        if key not in DIGITS:
            DIGITS[key] = read(name, data_dir, *options)
        return DIGITS[key]

    with mock.patch.object(load, "load_tfds", read_once):
        yield


def run_script(name, *arguments):
    """Run a script in this process and return its exit status."""
    before = sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        with digits_read_once():
            runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
    except SystemExit as stop:
        return stop.code or 0
    finally:
        sys.argv = before
    return 0


def write_tflite(model, path):
    """Write a model as a float32 .tflite file without metadata."""
    from keras_arch.export.tflite import build_tflite_model, convert, open_converter, trace
    from keras_arch.formats import FORMATS

    with trace(build_tflite_model(model, keep_channels=True)) as source:
        path.write_bytes(convert(open_converter(source), FORMATS["float32"], None))


def weights_of(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def latin_1_folder(parent, name):
    """Create a directory whose name is encoded in Latin-1, as on old systems."""
    folder = parent / os.fsdecode(name.encode("latin-1"))
    try:
        folder.mkdir()
    except OSError:  # macOS
        pytest.skip("the file system refuses names that are not UTF-8")
    return folder


@contextmanager
def zero_kernels():
    """Initialize kernels with zeros, which is faster, for tests that do not depend on values."""
    import keras

    def zeros(self, shape, dtype=None, **options):
        return keras.ops.zeros(shape, dtype)

    with mock.patch.object(keras.initializers.VarianceScaling, "__call__", zeros):
        yield


@pytest.fixture(name="zero_kernels")
def zero_kernels_of_a_test():
    with zero_kernels():
        yield


@pytest.fixture
def script():
    return run_script


@pytest.fixture
def example(monkeypatch):
    """Return a function that imports an example by name, as `python examples/NAME.py` does."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


@pytest.fixture(scope="session")
def test_data():
    """The directory of prepared data sets. CONTRIBUTING.md lists its content."""
    if not os.environ.get("KERAS_ARCH_TEST_DATA"):
        pytest.skip("KERAS_ARCH_TEST_DATA is not set: no prepared data sets")
    return Path(os.environ["KERAS_ARCH_TEST_DATA"])


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def digits(data_dir):
    import keras_arch

    return keras_arch.load_dataset("digits", data_dir)


@pytest.fixture
def small_digits(monkeypatch, digits):
    """Replace `load_dataset` by 160 digits, and train eagerly, which is faster for few steps."""
    import keras

    import keras_arch
    from keras_arch.data.splits import InMemory

    compile_model = keras.Model.compile
    monkeypatch.setattr(
        keras.Model,
        "compile",
        lambda *args, **kwargs: compile_model(*args, run_eagerly=True, **kwargs),
    )
    few = InMemory(digits.train.images[:160], digits.train.labels[:160])
    some = dataclasses.replace(digits, train=few)
    monkeypatch.setattr(keras_arch, "load_dataset", {"digits": some}.__getitem__, raising=False)
    return some


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory, worker_id, data_dir):
    """The trained and exported run of `make quickstart`. Tests must not change it.

    The first worker creates it for all workers.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "saved_models"
    folder, ready = shared / "quickstart", shared / "ready"
    try:
        shared.mkdir()
    except FileExistsError:
        deadline = time.monotonic() + PATIENCE
        while not ready.exists():
            assert time.monotonic() < deadline, (
                "the other worker has not created the quickstart run"
            )
            time.sleep(0.2)
        return folder
    assert run_script("train.py", "quickstart", "--output", folder, "--data-dir", data_dir) == 0
    assert run_script("export.py", folder) == 0
    ready.touch()
    return folder


@pytest.fixture(scope="session")
def confident_run(tmp_path_factory, digits, data_dir):
    """A finished run whose model is too confident. Tests must not change it."""
    from run_files import confident_model, make_run

    folder = tmp_path_factory.mktemp("confident") / "run"
    make_run(folder, digits, confident_model(digits))
    return folder


@pytest.fixture(scope="session")
def calibrated_run(confident_run, data_dir):
    """What keras-arch calibrate writes for `confident_run`. Tests must not change it."""
    output = confident_run.with_name("run-calibrated")
    assert run_script("calibrate.py", confident_run, "--data-dir", data_dir) == 0
    return output


@pytest.fixture(scope="session")
def browser():
    """A headless browser for the pages of all tests of this process."""
    from browser import Browser  # next to the tests of the page

    with Browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def runtime():
    """LiteRT.js from the user's cache, so that it is downloaded once for all runs of the tests."""
    from browser import skip_or_fail

    from keras_arch.demo.runtime import load_runtime
    from keras_arch.errors import InputError

    with mock.patch.dict(os.environ, XDG_CACHE_HOME=os.environ["KERAS_ARCH_USER_CACHE"]):
        try:
            return load_runtime()
        except InputError as error:
            skip_or_fail(str(error), "required", "all")


@pytest.fixture(scope="session")
def demo_page(browser, runtime, quickstart, digits, tmp_path_factory):
    """The page of the quickstart run, a path. Open it with `browser.open(demo_page.as_uri())`."""
    from keras_arch.demo.contents import open_files, read_export
    from keras_arch.demo.page import compose_page
    from keras_arch.demo.samples import select_samples

    folder = quickstart / "export"
    contents = open_files(folder, read_export(folder), select_samples(digits, "test"))
    path = tmp_path_factory.mktemp("page") / "demo.html"
    path.write_text(compose_page(contents, runtime), encoding="utf-8")
    return path
