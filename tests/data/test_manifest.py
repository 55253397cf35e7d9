"""CSV manifests: the data set of the same images as a folder, and errors with row numbers."""

import csv
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import keras_arch
from keras_arch.data import check
from keras_arch.data.folders import is_unsplit
from keras_arch.data.manifest import refuse_images
from keras_arch.data.splits import InFiles
from keras_arch.errors import DataWarning
from keras_arch.runs.record import read_run

SPLITS = ("train", "validation", "test")
CLASSES = ("10", "2", "Köln, Dom")  # numbers stay text and are sorted as text


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "CACHE", tmp_path / "memory")


def save(path, number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (6, 8, 3)).astype("uint8")
    Image.fromarray(noise).save(path)


def write(path, rows, header=("path", "label"), **options):
    """Write a CSV file as Python's csv module does, with CRLF."""
    with open(path, "w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        csv.writer(file, **options).writerows([header, *rows])
    return path


@pytest.fixture
def folder(tmp_path):
    """36 images of three classes."""
    for number in range(36):
        save(tmp_path / "images" / CLASSES[number % 3] / f"{number} ü.png", number)
    return tmp_path / "images"


@pytest.fixture
def rows(folder):
    """[path, label] of each image, in an order that is not sorted."""
    files = sorted(folder.rglob("*.png"), key=lambda path: path.name)
    return [[os.path.relpath(file, folder.parent), file.parent.name] for file in files]


def assert_same_data(one, other):
    assert one.class_names == other.class_names
    assert one.image_shape == other.image_shape
    assert one.fingerprint == other.fingerprint
    for split in SPLITS:
        np.testing.assert_array_equal(getattr(one, split).images, getattr(other, split).images)
        np.testing.assert_array_equal(getattr(one, split).labels, getattr(other, split).labels)


@pytest.mark.parametrize(
    "options",
    [{}, {"encoding": "utf-8-sig", "lineterminator": "\n"}, {"quoting": csv.QUOTE_ALL}],
    ids=["CRLF", "byte order mark", "quoted"],
)
def test_a_manifest_is_the_data_set_of_the_same_folder(folder, rows, options):
    manifest = write(folder.parent / "birds.csv", rows, **options)
    dataset = keras_arch.load_dataset(manifest)
    assert dataset.name == "birds"
    assert dataset.class_names == CLASSES
    assert_same_data(dataset, keras_arch.load_dataset(folder))
    assert is_unsplit(manifest)


def test_splits_and_columns_in_any_order(folder, rows, tmp_path):
    """All names of the splits are accepted. Absolute paths stay as they are."""
    names = ("Train", "val", "TEST", "train", "dev", "testing")
    named = [
        [f" {names[number // 3 % 6]}", number, label, str(tmp_path / path)]
        for number, (path, label) in enumerate(rows)
    ]
    (tmp_path / "elsewhere").mkdir()
    manifest = write(tmp_path / "elsewhere" / "m.CSV", named, ("SPLIT", "id", " Label", "path"))
    for split, _, label, path in named:
        shown = {"t": "train", "v": "val", "d": "val"}[split.strip().lower()[0]]
        shown = "test" if "test" in split.lower() else shown
        target = tmp_path / "split" / shown / label / os.path.basename(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    with pytest.warns(DataWarning, match=r"Columns of .*m\.CSV that are not used: id\.$") as warned:
        dataset = keras_arch.load_dataset(manifest)
    assert len(warned) == 1
    assert dataset.sizes == {"train": 12, "validation": 12, "test": 12}
    assert_same_data(dataset, keras_arch.load_dataset(tmp_path / "split"))
    assert not is_unsplit(manifest)


def test_paths_are_relative_to_the_real_directory_of_the_manifest(rows, tmp_path, monkeypatch):
    write(tmp_path / "m.csv", [[f"elsewhere/../{path}", label] for path, label in rows])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link.csv").symlink_to(tmp_path / "m.csv")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", 0)
    dataset = keras_arch.load_dataset("link.csv")
    assert isinstance(dataset.train, InFiles)
    assert sum(dataset.sizes.values()) == 36
    assert all(map(os.path.isabs, dataset.train.paths))


def test_a_missing_test_split_is_held_out(rows, tmp_path):
    split = ["validation" if number < 6 else "train" for number in range(36)]
    named = [[*row, name] for row, name in zip(rows, split, strict=True)]
    dataset = keras_arch.load_dataset(write(tmp_path / "m.csv", named, ("path", "label", "split")))
    assert dataset.sizes["validation"] == 6
    assert dataset.train.count + dataset.test.count == 30
    assert set(dataset.test.labels) == {0, 1, 2}


def test_empty_rows_are_skipped(rows, tmp_path):
    manifest = write(tmp_path / "m.csv", [*rows[:9], [], ["", ""], *rows[9:], []])
    assert sum(keras_arch.load_dataset(manifest).sizes.values()) == 36


def test_spaces_around_cells_are_removed(folder, rows, tmp_path):
    lines = ["path , label", *(f'"{path}", " {label} "' for path, label in rows)]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    assert_same_data(keras_arch.load_dataset(tmp_path / "m.csv"), keras_arch.load_dataset(folder))


# --- the checks of image folders ---


def error_of(manifest, **options):
    with pytest.raises(keras_arch.InputError) as refused:
        keras_arch.load_dataset(manifest, **options)
    assert len(str(refused.value)) < 300
    return refused.value


def test_unreadable_images_are_listed_or_skipped(rows, tmp_path):
    (tmp_path / "passwd").write_text("root:x:0:0")
    (tmp_path / "in").mkdir()
    manifest = write(
        tmp_path / "in" / "m.csv",
        [["../passwd", "2"], *([f"../{path}", label] for path, label in rows)],
    )
    error = error_of(manifest)
    assert "cannot be used as a data set. Received: 1 problems" in str(error)
    assert "/../passwd (" in error.details[0]
    with pytest.warns(DataWarning, match=r"not used: 1 \(\.\./passwd\)\."):
        dataset = keras_arch.load_dataset(manifest, skip_unreadable=True)
    assert sum(dataset.sizes.values()) == 36


def test_copies_are_found(rows, tmp_path):
    named = [[path, label, SPLITS[number // 3 % 3]] for number, (path, label) in enumerate(rows)]
    path, label, _ = named[0]
    shutil.copy(tmp_path / path, tmp_path / "copy.png")
    header = ("path", "label", "split")
    manifest = write(tmp_path / "m.csv", [*named, ["copy.png", label, "test"]], header)
    assert error_of(manifest).details == [
        f"an image in two splits: {tmp_path / path} and {tmp_path / 'copy.png'}"
    ]
    with pytest.warns(DataWarning, match="also in another split: 1 of 12 from train"):
        dataset = keras_arch.load_dataset(manifest, allow_duplicates=True)
    assert dataset.sizes == {"train": 11, "validation": 12, "test": 13}
    write(manifest, [*rows, ["copy.png", "3"]])
    assert error_of(manifest).details == [
        f"an image in two classes: {tmp_path / 'copy.png'} and {tmp_path / path}"
    ]


def test_a_class_that_is_not_in_all_splits(rows, tmp_path):
    named = [[*row, "test" if row[1] == "2" else "train"] for row in rows]
    error = error_of(write(tmp_path / "m.csv", named, ("path", "label", "split")))
    assert "a class that is not in all splits: 2 (not in train)" in error.details


def test_one_class_is_enough_for_evaluation(rows, tmp_path):
    manifest = write(tmp_path / "m.csv", [[path, "2"] for path, _ in rows])
    message = str(error_of(manifest))
    assert "two classes or more. Received: 1 classes in its rows" in message
    assert keras_arch.load_dataset(manifest, allow_absent_classes=True).class_names == ("2",)


# --- bad input ---

INVALID = {  # content after the header path,label: message
    "a missing image": ("a.png,x\nb.jpg,y\n", r"row 3: 'b\.jpg' does not exist\. Correct"),
    "a directory": ("a.png,x\ndirectory,y\n", r"row 3: 'directory' is not a file"),
    "a NUL": ("a\0.png,x\n", r"row 2: 'a\\x00\.png' does not exist"),
    "a long path": (f"{'x' * 9999},x\n", r"row 2: 'xxx.* does not exist"),
    "no path": ("a.png,x\n,y\n", r"row 3: no path\."),
    "no label": ("a.png,x\nb.png, \n", r"row 3: no label\."),
    "a line break": ('a.png,"x\ny"\n', r"row 2: the label 'x\\ny' is not one line of text"),
    "a comma": ("a.png,x,y\n", r"row 2: 3 cells instead of 2\."),
    "two labels": ("a.png,x\n\n./a.png,y\n", r"row 4: '\./a\.png' is also in row 2, .* label 'x'"),
    "two rows": ("a.png,x\na.png,x\n", r"row 3: 'a\.png' is also in row 2, .* label 'x'"),
    "no rows": ("\n", r"rows of the training split\. Received: no rows after the header\."),
    "one class": ("a.png,x\nb.png,x\n", r"two classes or more\. Received: 1 classes"),
    "an open quote": (
        'a.png,"x\n',
        r"must be a CSV file\. Received: unexpected end of data \(line 2\)\.",
    ),
    "a long cell": (f"a.png,{'x' * 200_000}\n", r"must be a CSV file\. Received: field larger"),
    "a long label": (f"a.png,{'x' * 9999}\n,\nb.png,x\nc,y\n", r"row 5: 'c' does not exist"),
}


@pytest.mark.parametrize("case", INVALID)
def test_a_bad_row_is_an_error_with_its_number(case, tmp_path):
    content, message = INVALID[case]
    for number, name in enumerate(("a.png", "b.png", "directory/c.png")):
        save(tmp_path / name, number)
    (tmp_path / "m.csv").write_text(f"path,label\n{content}")
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        keras_arch.load_dataset(tmp_path / "m.csv")
    assert len(str(refused.value)) < 300
    assert refused.value.details == []


FILES = {  # content of the file: message
    "empty": (b"", r"must name the columns path and label.* Received: ''\."),
    "without header": (b"a.png,x\n", r"must name the columns .* Received: 'a\.png,x'\."),
    "semicolons": (b"path;label\n", r"Received: 'path;label'\. Separate names by commas\."),
    "no label": (b"path,class\na.png,x\n", r"must name the columns .* Received: 'path,class'"),
    "two paths": (b"path,path,label\n", r"Received: 'path,path,label'"),
    "Latin-1": (b"path,label\na.png,x\nb.png,caf\xe9\n", r"UTF-8 text.* byte 0xe9 in line 3\."),
    "UTF-16": ("path,label\n".encode("utf-16"), r"UTF-8 text.* byte 0xff in line 1\."),
    "an image": (b"\x89PNG\r\n\x1a\n", r"UTF-8 text\. Received: the byte 0x89 in line 1\."),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_not_a_manifest_is_an_error(case, tmp_path):
    content, message = FILES[case]
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.load_dataset(tmp_path / "m.csv")


def test_a_missing_manifest_is_an_error(tmp_path):
    with pytest.raises(keras_arch.InputError, match=r"m\.csv does not exist\. Pass an existing"):
        keras_arch.load_dataset(tmp_path / "m.csv")


def test_the_first_bad_rows_are_listed(rows, tmp_path):
    error = error_of(write(tmp_path / "m.csv", [*rows, *([f"{n}.jpg", "x"] for n in range(30))]))
    assert "Received: row 38: '0.jpg' does not exist, and 29 more." in str(error)
    assert error.details[0] == "row 38: '0.jpg' does not exist"
    assert error.details[19:] == ["row 57: '19.jpg' does not exist", "10 more rows"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train", "holdout"), r"row 3: the split 'holdout' is not train, validation or test"),
        (("test", "val"), r"rows of the training split\. Received: rows of other splits"),
        (("train", ""), r"row 3: no split\."),
    ],
)
def test_bad_splits(rows, names, message, tmp_path):
    named = [[*row, name] for row, name in zip(rows, names, strict=False)]
    write(tmp_path / "m.csv", named, ("path", "label", "split"))
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.load_dataset(tmp_path / "m.csv")


# --- scripts ---


def test_a_figure_does_not_replace_an_image(folder, rows, script, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "m.csv", rows)
    before = (tmp_path / rows[5][0]).read_bytes()
    assert script("show_data.py", "m.csv", "--output", rows[5][0]) == 2
    assert "must not replace" in capfd.readouterr().err
    assert (tmp_path / rows[5][0]).read_bytes() == before
    refuse_images(tmp_path / "images" / "new.png", "m.csv")  # a new file is fine


@pytest.mark.parametrize("output", ["images", "."])
def test_a_run_does_not_replace_the_images(folder, rows, output, script, tmp_path, capfd):
    """Not even in a directory that was a run directory once."""
    (folder / "run.json").write_text("{}")
    write(tmp_path / "m.csv", rows)
    typed = ["quickstart", "--dataset", tmp_path / "m.csv", "--output", tmp_path / output]
    assert script("train.py", *map(str, typed), "--overwrite") == 2
    assert ("must not replace" if output == "images" else "holds") in capfd.readouterr().err


@pytest.mark.slow
def test_train_on_a_manifest(folder, rows, script, tmp_path, monkeypatch, capfd):
    """The run records the absolute path. Its evaluation uses the test split, other data all."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "birds.csv", rows)
    write(tmp_path / "new.csv", rows[:7])
    words = "--epochs 1 --batch-size 8 --image-size 16"
    assert script("train.py", "quickstart", "--dataset", "birds.csv", *words.split()) == 0
    run = tmp_path / "saved_models" / "resnet8-birds"
    assert read_run(run)["recipe"].dataset == str(tmp_path / "birds.csv")
    capfd.readouterr()
    sizes = keras_arch.load_dataset("birds.csv").sizes
    for dataset, images in (
        ("birds.csv", f"test split, {sizes['test']}"),
        ("new.csv", "all splits, 7"),
    ):
        assert script("evaluate.py", str(run), "--dataset", dataset) == 0
        assert f"{images} images" in capfd.readouterr().out
