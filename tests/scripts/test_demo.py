"""scripts/demo.py: the page is written completely or not at all, and report.html links to it."""

import contextlib
import json
import re
import resource
import shutil
import subprocess
import sys
import time
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from demo_files import RUNTIME, write_export
from PIL import Image

from keras_arch import extras, files
from keras_arch.demo import runtime
from keras_arch.errors import InputError
from keras_arch.extras import EXTRAS
from keras_arch.reports.html import add_export

LINK = '<a href="export/demo.html">'


class Work(BaseException):
    """The script has started its work."""


def start_working(*arguments, **options):
    raise Work


@pytest.fixture
def small_runtime(monkeypatch):
    monkeypatch.setattr(runtime, "load_runtime", lambda: RUNTIME)


@pytest.fixture
def run_folder(quickstart, tmp_path):
    """A copy of the quickstart run that a test may change."""
    ignored = shutil.ignore_patterns("saved_model", "*.keras", "*.png")
    return shutil.copytree(quickstart, tmp_path / "run", ignore=ignored)


def tree_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def error_line(capfd):
    printed = capfd.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    assert len(line) < 300
    assert printed.out == ""
    return line


# --- success ---


def test_the_page_is_written_next_to_the_files_and_linked(
    run_folder, small_runtime, script, tmp_path, capfd
):
    before = tree_of(tmp_path)
    assert script("demo.py", run_folder) == 0
    printed, page = capfd.readouterr(), run_folder / "export/demo.html"
    assert printed.err == ""
    assert printed.out.splitlines() == [
        f"Page saved to {page} ({page.stat().st_size / 1e6:.1f} MB). Open it in a browser.",
        f"On a phone in the same network: run python -m http.server --directory {page.parent}",
        "and open http://ADDRESS:8000/demo.html with the address of this computer.",
    ]
    content = page.read_text(encoding="utf-8")
    assert content.startswith("<!doctype html>")
    assert content.endswith("</html>\n")
    assert "<h1>resnet8 on digits</h1>" in content
    facts = json.loads(re.search('id="facts">(.*?)</script>', content)[1])
    names = [file["name"] for file in facts["files"]]
    assert (len(names), names[0]) == (5, "model_float32.tflite")
    after = tree_of(tmp_path)
    changed = {path for path in after if after[path] != before.get(path)}
    assert changed == {page, run_folder / "report.html"}
    assert (run_folder / "report.html").read_text().count(LINK) == 1

    # A second page replaces the first. Its path is that of the export directory.
    report = (run_folder / "report.html").read_text()
    page.write_text("an older page")
    assert script("demo.py", run_folder / "export") == 0
    assert page.read_text(encoding="utf-8") == content
    assert (run_folder / "report.html").read_text() == report

    # A new export replaces the directory, and has no page.
    page.unlink()
    add_export(run_folder, json.loads((run_folder / "export/export.json").read_text()))
    assert LINK not in (run_folder / "report.html").read_text()


def test_a_page_elsewhere_is_not_linked(run_folder, small_runtime, script, tmp_path, capfd):
    report = (run_folder / "report.html").read_bytes()
    output = tmp_path / "new folder" / "é 猫.html"
    assert script("demo.py", run_folder, "--output", output) == 0
    assert output.is_file()
    assert [path.name for path in output.parent.iterdir()] == ["é 猫.html"]
    assert (run_folder / "report.html").read_bytes() == report
    assert not (run_folder / "export/demo.html").exists()
    assert "http.server" not in capfd.readouterr().out  # it shows all files of the directory


def test_without_report_html_there_is_no_link(run_folder, small_runtime, script):
    (run_folder / "report.html").unlink()
    assert script("demo.py", run_folder) == 0
    assert (run_folder / "export/demo.html").is_file()
    assert not (run_folder / "report.html").exists()


PACKAGED = """
import runpy, sys
from demo_files import RUNTIME
from keras_arch.demo import runtime
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hide())
runtime.load_runtime = lambda: RUNTIME
sys.argv = ["demo.py", "demo"]
runpy.run_path(SCRIPT, run_name="__main__")
"""


def test_the_packaged_model_needs_only_the_extra_predict(tmp_path):
    hidden = {module for modules in EXTRAS.values() for module in modules} - {*EXTRAS["predict"]}
    assert "tensorflow" in hidden
    code = PACKAGED.replace("HIDDEN", repr(hidden))
    code = code.replace("SCRIPT", repr(str(ROOT / "scripts/demo.py")))
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PATH": ""}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith("Page saved to demo.html (")
    assert "<h1>ResNet-20 on CIFAR-10</h1>" in (tmp_path / "demo.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(("opened", "notice"), [(True, ""), (False, "found no browser")])
def test_open_opens_the_page(opened, notice, small_runtime, script, tmp_path, monkeypatch, capfd):
    addresses = []
    monkeypatch.setattr(webbrowser, "open", lambda url: addresses.append(url) or opened)
    monkeypatch.chdir(tmp_path)
    assert script("demo.py", "demo", "--open", "--output", "a b.html") == 0
    assert addresses == [(tmp_path / "a b.html").as_uri()]
    assert addresses[0].endswith("/a%20b.html")
    lines = capfd.readouterr().err.splitlines()
    assert (notice in lines[0]) if notice else not lines


def test_an_export_needs_the_extra_train(script, monkeypatch, capfd):
    find = extras.find_spec
    hidden = lambda name: None if name == "tensorflow" else find(name)  # noqa: E731
    monkeypatch.setattr(extras, "find_spec", hidden)
    assert script("demo.py", "run") == 2
    assert error_line(capfd).endswith('no tensorflow. Run pip install "keras_arch[train]".')


def test_a_directory_called_demo_is_not_the_packaged_model(script, tmp_path, monkeypatch, capfd):
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert script("demo.py", "demo") == 2
    assert "demo must be a run directory with an export" in error_line(capfd)


# --- refusals before any work ---


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, with exports of which no file is opened."""
    write_export(tmp_path / "good", data="digits")
    write_export(tmp_path / "arrays")
    write_export(tmp_path / "failed", data="digits")
    record = json.loads((tmp_path / "failed/export.json").read_text())
    record["artifacts"]["int8"]["problems"] = ["accuracy: 10%"]
    (tmp_path / "failed/export.json").write_text(json.dumps(record))
    write_export(tmp_path / "cut", data="digits")
    (tmp_path / "cut/export.json").write_text('{"model": ')
    (tmp_path / "empty").mkdir()
    (tmp_path / "page.html").mkdir()
    (tmp_path / "file").touch()
    for number, name in enumerate("ab"):
        (tmp_path / "images" / name).mkdir(parents=True)
        image = Image.fromarray(np.full((8, 8, 3), 99 * number, "uint8"))
        image.save(tmp_path / "images" / name / "1.png")
    write_export(tmp_path / "of_images", data=tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    return tmp_path


REFUSED = {
    "missing": "Received: no such directory. Run keras-arch export first.",
    "file": "Received: a file.",
    "empty": "Received: no export.json in it.",
    "good/model_int8.tflite": "Received: a file.",
    "failed": "model_int8.tflite failed verification",
    "cut": "cut/export.json is damaged",
    "good --output page.htm": "--output must be an .html file. Received: page.htm.",
    "good --output page": "--output must be an .html file",
    "good --output page.html": "page.html must be a file. Received: a directory",
    "good --output file/page.html": "file/page.html cannot be written. Received:",
    "demo --output page.html": "page.html must be a file. Received: a directory",
    "good --test images --output images/page.html": "must not be inside the data in images",
    "of_images --output images/a/page.html": "must not be inside the data in",
    "demo --test digits": "--test requires an export. Received: demo,",
    "demo --data-dir empty": "--data-dir requires an export. Received: demo,",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_bad_input_is_refused_before_anything_is_downloaded(
    typed, place, script, monkeypatch, capfd
):
    monkeypatch.setattr(runtime, "load_runtime", start_working)
    before = tree_of(place)
    assert script("demo.py", *typed.split()) == 2
    assert REFUSED[typed] in error_line(capfd)
    assert tree_of(place) == before


def test_an_export_that_arrays_verified_needs_test(place, small_runtime, script, capfd):
    before = tree_of(place)
    assert script("demo.py", "arrays") == 2
    assert "--test is required for arrays." in error_line(capfd)
    assert tree_of(place) == before


def test_a_file_that_is_no_model_is_refused(place, small_runtime, script, capfd):
    before = tree_of(place)
    assert script("demo.py", "arrays", "--test", "images") == 2
    assert "model_int8.tflite" in error_line(capfd)
    assert tree_of(place) == before


@pytest.mark.parametrize("typed", ["good", "demo"])
def test_no_network_is_one_line_before_the_data_are_read(typed, place, script, monkeypatch, capfd):
    monkeypatch.setattr(runtime, "CDN", "http://127.0.0.1:9/")  # no server listens there
    monkeypatch.setenv("PATH", str(place / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setattr("keras_arch.demo.samples.load_samples", start_working)
    before, started = tree_of(place), time.monotonic()
    assert script("demo.py", typed) == 2
    assert time.monotonic() - started < 5
    line = error_line(capfd)
    assert "LiteRT.js 2.5.3 cannot be downloaded. Received: no npm on the PATH; " in line
    assert tree_of(place) == before


# --- failures at the end ---


@pytest.fixture
def old_page(tmp_path, monkeypatch, small_runtime):
    """The current directory, which has a page and nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.html").write_text("an older page")
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["demo.html"]
    assert (tmp_path / "demo.html").read_text() == "an older page"


@contextlib.contextmanager
def file_size_limit(size):
    """Let this process write files of at most `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_the_old_page(old_page, script, capfd):
    with file_size_limit(100_000):
        assert script("demo.py", "demo") == 2
    assert "File too large" in error_line(capfd)


def test_an_interrupt_keeps_the_old_page(old_page, script, monkeypatch, capfd):
    def write_half(path, text, **options):
        path.write_bytes(text.encode()[: len(text) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", write_half)
    assert script("demo.py", "demo") == 130


def test_a_failure_in_the_page_keeps_the_old_page(old_page, script, monkeypatch, capfd):
    monkeypatch.setattr(
        "keras_arch.demo.contents.read_file", lambda *_: (_ for _ in ()).throw(InputError("No."))
    )
    assert script("demo.py", "demo") == 2
    assert error_line(capfd) == "error: No."


# --- another model ---


@pytest.mark.slow
def test_the_page_of_a_model_file_has_its_test_images(small_runtime, script, tmp_path, capfd):
    """They are those that verified the export, or those of --test."""
    import keras

    image = keras.Input((8, 8, 3))
    scaled = keras.layers.Rescaling(1 / 255)(image)
    features = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(scaled))
    model = keras.Model(image, keras.layers.Dense(2, "softmax")(features), name="tiny")
    model.save(tmp_path / "model.keras")
    (tmp_path / "labels.txt").write_text("</script>\nひ\n")
    for split, count in {"train": 12, "validation": 4, "test": 8}.items():
        for number in range(count):
            path = tmp_path / "images" / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([count, number]).integers(0, 256, (8, 8, 3), "uint8")
            Image.fromarray(pixels).save(path)
    words = ["--labels", tmp_path / "labels.txt", "--calibration", tmp_path / "images"]
    words += ["--formats", "float32", "dynamic", "--skip-range-check"]
    assert script("export.py", tmp_path / "model.keras", *words) == 0
    folder = tmp_path / "model_export"
    assert script("demo.py", folder) == 0
    page = (folder / "demo.html").read_text(encoding="utf-8")
    assert "<h1>tiny</h1>" in page
    facts = json.loads(re.search('id="facts">(.*?)</script>', page)[1])
    assert len(facts["samples"]) == 12
    assert script("demo.py", folder, "--test", tmp_path / "images") == 0
    page = (folder / "demo.html").read_text(encoding="utf-8")
    facts = json.loads(re.search('id="facts">(.*?)</script>', page)[1])
    assert len(facts["samples"]) == 8
    # A new export replaces the directory.
    assert script("export.py", tmp_path / "model.keras", *words) == 0
    assert not (folder / "demo.html").exists()


def test_the_link_is_relative_to_the_run(run_folder):
    report = json.loads((run_folder / "export/export.json").read_text())
    (run_folder / "export/demo.html").touch()
    add_export(run_folder, report)
    text = (run_folder / "report.html").read_text()
    (address,) = re.findall('href="([^"]*demo[^"]*)"', text)
    assert (run_folder / address).is_file()
    assert files.real_path(run_folder / address).parent.name == "export"
