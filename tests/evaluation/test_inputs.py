"""The images of files, directories and manifests, and slices of them."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from keras_arch.errors import InputError
from keras_arch.evaluation.inputs import list_images, parse_slice


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.png"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    return tmp_path


def write(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_directories_are_sorted_and_manifests_keep_their_order(folder):
    """Only the column path is read. Paths are relative to the manifest and may not exist."""
    (folder / "lists").mkdir()
    rows = [("label", "Path"), ("", "../b.png"), ("x", "/missing.png"), ("x", "../b.png")]
    manifest = write(folder / "lists/one.CSV", *rows)
    single = write(folder / "lists/two.csv", ("path",), ("a.png",))
    expected = [folder / "a.png", folder / "b.png", folder / "lists/../b.png"]
    expected += [Path("/missing.png"), folder / "lists/../b.png", folder / "lists/a.png"]
    with pytest.warns(UserWarning, match="Unused files: 2"):
        assert list_images([folder, manifest, single]) == expected
    (folder / "link.csv").symlink_to(single)
    assert list_images([folder / "link.csv"]) == [folder.resolve() / "lists/a.png"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "must name the column path. Received: ''"),
        ([("file",), ("a.png",)], "must name the column path. Received: 'file'"),
        ([("path",)], "has no images. Received: only a header."),
        ([("path", "label"), ("", "x")], "Received: row 2: no path."),
        ([("label", "path"), ("x", "a.png"), ("x",)], "Received: row 3: no path."),
    ],
)
def test_manifests_without_images_are_refused(folder, rows, message):
    with pytest.raises(InputError, match=message):
        list_images([write(folder / "list.csv", *rows)])


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12, 40])
def test_slices_have_each_image_once_and_about_the_same_number(count):
    paths = [Path(f"{number}.png") for number in range(12)]
    slices = [parse_slice(f"{number}/{count}").of(paths) for number in range(1, count + 1)]
    assert sorted(path for part in slices for path in part) == sorted(paths)
    assert {len(part) for part in slices} <= {12 // count, -(-12 // count)}


@pytest.mark.parametrize(
    "text",
    ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "1.0/3", "a/b", " 1/3", "1/9999999", "٣/٣"],
)
def test_other_slices_are_refused(text):
    with pytest.raises(InputError, match="--shard must be K/N with K from 1 to N"):
        parse_slice(text)
