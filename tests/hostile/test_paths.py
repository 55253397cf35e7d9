"""Bad paths of every path option are refused."""

import functools
import itertools
import os
import pkgutil

import pytest
from harness import check_refused, give_away, parameters, start_working, without_permissions, world  # noqa: F401

ARTIFACT, IMAGES, STORE, FOLDER, FILE = "artifact", "images", "store", "folder", "file"
READ = (ARTIFACT, IMAGES)
WRITE = (FOLDER, FILE)  # outputs
ALL = (*READ, STORE, *WRITE)  # a store is read, or created if it does not exist

OPTIONS = [  # (command, use of the path BAD, suffixes that make a difference)
    ("train.py BAD", ARTIFACT, ("",)),
    ("train.py quickstart --dataset BAD", IMAGES, ("", ".npz", ".csv")),
    ("train.py quickstart --weights BAD", ARTIFACT, ("", ".keras", ".weights.h5")),
    ("train.py quickstart --teacher BAD", ARTIFACT, ("", ".keras")),
    ("train.py quickstart --data-dir BAD", STORE, ("",)),
    ("train.py quickstart --output BAD", FOLDER, ("",)),
    ("predict.py BAD digit.png", ARTIFACT, ("", ".keras", ".tflite", ".onnx")),
    ("predict.py run BAD", IMAGES, ("", ".png", ".csv")),
    ("predict.py run digit.png --explain BAD", FOLDER, ("",)),
    ("predict.py run digit.png --output BAD", FILE, (".csv",)),
    ("evaluate.py BAD", ARTIFACT, ("", ".keras", ".tflite", ".onnx")),
    ("evaluate.py run BAD", ARTIFACT, ("",)),
    ("evaluate.py run --dataset BAD", IMAGES, ("", ".npz", ".csv")),
    ("evaluate.py run --data-dir BAD", STORE, ("",)),
    ("evaluate.py run --output BAD", FOLDER, ("",)),
    ("calibrate.py BAD", ARTIFACT, ("",)),
    ("calibrate.py run --data-dir BAD", STORE, ("",)),
    ("calibrate.py run --output BAD", FOLDER, ("",)),
    ("export.py BAD", ARTIFACT, ("",)),
    ("export.py BAD --calibration digits --labels run/labels.txt", ARTIFACT, (".keras",)),
    ("export.py run/model.keras --calibration digits --labels BAD", ARTIFACT, ("",)),
    ("export.py run/model.keras --labels run/labels.txt --calibration BAD", IMAGES, ("", ".npz")),
    (
        "export.py run/model.keras --labels run/labels.txt --calibration images --test BAD",
        *(IMAGES, ("", ".npz")),
    ),
    (
        "export.py run/model.keras --labels run/labels.txt --calibration digits --output BAD",
        *(FOLDER, ("",)),
    ),
    ("export.py run --data-dir BAD", STORE, ("",)),
    ("demo.py BAD", ARTIFACT, ("",)),
    ("demo.py run --test BAD", IMAGES, ("", ".npz", ".csv")),
    ("demo.py run --data-dir BAD", STORE, ("",)),
    ("demo.py run --output BAD", FILE, (".html",)),
    ("compare.py run BAD", ARTIFACT, ("",)),
    ("compare.py run other --output BAD", FILE, (".png",)),
    ("show_data.py BAD", IMAGES, ("", ".npz", ".csv")),
    ("show_data.py digits --data-dir BAD", STORE, ("",)),
    ("show_data.py digits --output BAD", FILE, (".png",)),
]

KINDS = {  # kind of bad path: uses for which it is bad
    "missing": READ,
    "line\nbreak\x1b[31m": READ,
    "not utf-8 \udcff": READ,
    "text": (*READ, STORE, FOLDER),
    "empty": (*READ, STORE, FOLDER),
    "directory": (*READ, FILE),
    "fifo": ALL,
    "loop": ALL,
    "dangling": ALL,
    "null": ALL,
    "zero": ALL,
    "text/below": ALL,
    "x" * 300: ALL,
    "unreadable": READ,
    "locked": ALL,
    "locked/below": ALL,
    "sealed/new": (STORE, *WRITE),
}
MAKE = {
    "text": lambda path: path.write_text("nothing of use"),
    "empty": lambda path: path.touch(),
    "directory": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "loop": lambda path: path.symlink_to(path),
    "dangling": lambda path: path.symlink_to("nowhere/at/all"),
    "null": lambda path: path.symlink_to("/dev/null"),
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "unreadable": lambda path: (path.write_text("secret"), path.chmod(0)),
    "locked": lambda path: path.mkdir(0),
    "sealed": lambda path: (path.mkdir(), path.chmod(0o555)),
}
PERMISSIONS = ("unreadable", "locked", "locked/below", "sealed/new", "/")  # root ignores them
ELSEWHERE = {
    "": ALL,
    ".": (ARTIFACT, FILE),
    "/": (ARTIFACT, FOLDER, FILE, STORE),
}  # paths outside the directory of bad paths

FIRST_WORK = {
    "train.py": "keras_arch.training.precision.choose_precision",
    "predict.py": "keras_arch.evaluation.predictions.explain",
    "evaluate.py": "keras_arch.evaluation.evaluate.compare",
    "calibrate.py": "keras_arch.evaluation.calibrate.calibrate_model",
    "export.py": "keras_arch.export.classifier.write_export",
    "demo.py": "keras_arch.demo.contents.open_artifact",
    "compare.py": "keras_arch.reports.figures.draw_curves",
    "show_data.py": "keras_arch.data.dataset.count_images",
}
BEFORE_OUTPUT = {  # work that must not start before the output is checked
    "train.py": "keras_arch.load_dataset",
    "predict.py": "keras_arch.images.find.find_images",
    "evaluate.py": "keras_arch.open_artifact",
    "calibrate.py": "keras_arch.export.run.load_keras",
    "export.py": "keras_arch.export.model_file.load_keras",
    "demo.py": "keras_arch.demo.runtime.load_runtime",
    "compare.py": "keras_arch.runs.record.read_run",
    "show_data.py": "keras_arch.load_dataset",
}

INSIDE = [  # outputs inside inputs, and inputs inside outputs
    "train.py quickstart --dataset images --output images",
    "train.py quickstart --dataset images --output images/run",
    "train.py quickstart --dataset images --output .",
    "train.py quickstart --dataset images/class0/0.png --output images/class0",
    "predict.py run images --explain images",
    "predict.py run images --explain images/class0",
    "predict.py run images --output images/class0/new.csv",
    "evaluate.py run --dataset images --output images",
    "evaluate.py run --dataset images --output images/class0/new",
    "export.py run/model.keras --calibration images --output images",
    "export.py run/model.keras --calibration digits --test images --output images/class0/new",
    "calibrate.py run --output run",
    "calibrate.py run --output run/export --overwrite",
    "calibrate.py run --output run/new --overwrite",
    "calibrate.py run --output . --overwrite",
    "demo.py run --test images --output images/page.html",
    "demo.py run --test images --output images/class0/page.html",
    "show_data.py images --output images/class0/data.png",
    "show_data.py images --output images/data.png",
    "compare.py run run",
    "compare.py run run/../run",
    "compare.py run run/",
]


def cases():
    for typed, use, suffixes in OPTIONS:
        for suffix, (kind, uses) in itertools.product(suffixes, KINDS.items()):
            if use in uses:
                yield typed, f"bad/{kind}{suffix}"
        for path, uses in ELSEWHERE.items():
            if use in uses:
                yield typed, path


CASES = list(cases())


@pytest.fixture(scope="module")
def bad(world):  # noqa: F811
    """The world with a directory of bad paths."""
    (world / "bad").mkdir()
    for suffix in sorted({suffix for _, _, suffixes in OPTIONS for suffix in suffixes}):
        for name, make in MAKE.items():
            make(world / "bad" / f"{name}{suffix}")
        for folder in ("text", "locked", "sealed"):  # parents of paths such as text/below.png
            assert (world / "bad" / folder).exists()
    give_away(world)
    with pytest.MonkeyPatch.context() as patch:  # most cases open the same good model
        opened = ("open_artifact", "export.run.load_keras", "export.model_file.load_keras")
        for name in (f"keras_arch.{one}" for one in opened):
            patch.setattr(name, functools.cache(pkgutil.resolve_name(name)))
        yield world
    for path in (world / "bad").glob("locked*"):
        path.chmod(0o755)


QUICK = ("", ".npz", ".png", ".keras", ".html")  # suffixes


def is_quick(typed, path):
    return os.path.splitext(path)[1] in QUICK


@pytest.mark.parametrize(
    ("typed", "path"),
    parameters(CASES, [f"{typed}: {path!a:.40}" for typed, path in CASES], is_quick),
)
def test_a_bad_path_is_refused_in_one_line(typed, path, bad, monkeypatch, capfd):
    script, *words = [path if word == "BAD" else word for word in typed.split()]
    use = next(use for option, use, _ in OPTIONS if option == typed)
    monkeypatch.setattr((BEFORE_OUTPUT if use in WRITE else FIRST_WORK)[script], start_working)
    monkeypatch.chdir(bad)
    monkeypatch.setenv("TFDS_DATA_DIR", str(bad / "data"))
    if any(path.removeprefix("bad/").startswith(kind) for kind in PERMISSIONS):
        with without_permissions():
            return check_refused([script, *words], bad, capfd)
    check_refused([script, *words], bad, capfd)


@pytest.mark.parametrize("typed", INSIDE)
def test_outputs_inside_inputs_are_refused(typed, bad, monkeypatch, capfd):
    monkeypatch.setattr(FIRST_WORK[typed.split()[0]], start_working)
    monkeypatch.chdir(bad)
    check_refused(typed.split(), bad, capfd)
