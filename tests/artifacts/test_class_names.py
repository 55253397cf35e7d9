"""Class names keep their order in image folders, labels.txt and .tflite files."""

import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import keras_arch
from keras_arch.class_names import (
    LABELS,
    check_class_order,
    find_class_names,
    read_labels,
    read_packed_labels,
    write_labels,
)
from keras_arch.data.folders import find_files
from keras_arch.export.metadata import pack_labels

# Any UTF-8 text in any order, without line breaks and byte order marks.
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\ufeff"), min_size=1),
    min_size=2,
    max_size=12,
    unique=True,
)
FILE_NAMES = st.lists(
    st.text(
        st.characters(categories=["L", "N", "P"], exclude_characters="/."), min_size=1, max_size=20
    ),
    min_size=2,
    max_size=5,
    unique=True,
)


@settings(deadline=None)
@given(names=NAMES)
def test_names_keep_their_order(names):
    with tempfile.TemporaryDirectory() as path:
        labels, model = Path(path) / LABELS, Path(path) / "model.tflite"
        write_labels(labels, names)
        assert read_labels(labels) == tuple(names)
        model.write_bytes(b"the flatbuffer of a model")
        pack_labels(model, labels)
        assert read_packed_labels(model) == names


@settings(deadline=None)
@given(names=NAMES, data=st.data())
def test_another_order_is_refused(names, data):
    other = data.draw(st.permutations(names))
    with tempfile.TemporaryDirectory() as path:
        write_labels(Path(path) / LABELS, names)
        artifact = SimpleNamespace(
            path=Path(path) / "model.keras", kind="keras", classes=len(names)
        )
        if other == names:
            check_class_order(artifact, other)
        else:
            with pytest.raises(keras_arch.InputError, match="in the same order"):
                check_class_order(artifact, other)


@settings(deadline=None, max_examples=15)
@given(names=FILE_NAMES)
def test_an_image_has_the_label_of_its_folder(names):
    """The pixels are the number of the folder. The order of creation does not matter."""
    with tempfile.TemporaryDirectory() as path:
        for number, name in enumerate(names):
            (Path(path) / name).mkdir()
            for copy in range(3):
                Image.new("L", (2, 2 + copy), number).save(Path(path) / name / f"{copy}.png")
        class_names, splits, _ = find_files(path)
        assert list(class_names) == sorted(names)
        for files in splits.values():
            for picture, label in zip(files.paths, files.labels, strict=True):
                with Image.open(picture) as image:
                    assert names[image.getpixel((0, 0))] == class_names[label]


@pytest.mark.parametrize(
    "name", ["b\nc", "b\rc", "b\r", "\ufeffb", "", "caf\udce9", "b\n" + "c" * 5000]
)
def test_a_name_that_cannot_be_a_line_is_refused(name, tmp_path):
    with pytest.raises(
        keras_arch.InputError, match=r"Class names must be .*line breaks.* Rename"
    ) as refused:
        write_labels(tmp_path / LABELS, ["a", name])
    assert len(str(refused.value)) < 300
    assert list(tmp_path.iterdir()) == []


EDITED = {  # editor: text of the file
    "none": "rot\n grün \nx\x85y\n",
    "an editor of Windows": "rot\r\n grün \r\nx\x85y\r\n",
    "an editor that adds a byte order mark": "\ufeffrot\r\n grün \r\nx\x85y",
    "an editor that ends no last line": "rot\n grün \nx\x85y",
}


@pytest.mark.parametrize("editor", EDITED)
def test_edited_labels_are_read(editor, tmp_path):
    content = EDITED[editor].encode()
    (tmp_path / LABELS).write_bytes(content)
    assert read_labels(tmp_path / LABELS) == ("rot", " grün ", "x\x85y")
    pack(tmp_path / "model.tflite", content)
    assert read_packed_labels(tmp_path / "model.tflite") == ["rot", " grün ", "x\x85y"]


def pack(path, labels=b"red\ngreen\nblue\n", compression=zipfile.ZIP_STORED):
    path.write_bytes(b"the flatbuffer of a model")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(LABELS, labels, compression)


def with_bad_checksum(path):
    pack(path)
    path.write_bytes(path.read_bytes().replace(b"green", b"groan"))


def with_password(path):
    """Set bit 0 of the flags in the header of the file and in the directory."""
    pack(path)
    content = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    path.write_bytes(content)


def with_latin_1(path):
    pack(path, "rot\ngrün\nblau\n".encode("latin-1"))


def with_a_cut_directory(path):
    pack(path)
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")
    path.write_bytes(content[:directory] + content[directory + 20 :])


def with_damaged_compression(path):
    pack(path, b"a name\n" * 100, zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    start = content.index(LABELS.encode()) + len(LABELS)
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        with_bad_checksum,
        with_password,
        with_latin_1,
        with_a_cut_directory,
        with_damaged_compression,
    ],
)
def test_packed_labels_that_cannot_be_read_are_refused(damage, tmp_path):
    path = tmp_path / "model.tflite"
    damage(path)
    artifact = SimpleNamespace(path=path, kind="tflite", classes=3)
    with pytest.raises(
        keras_arch.InputError, match=r"class names in .*model\.tflite .* Received: "
    ) as refused:
        find_class_names(artifact)
    assert len(str(refused.value).replace(str(tmp_path), "")) < 300
    assert "\n" not in str(refused.value)


def test_a_file_of_labels_that_is_no_utf_8_is_refused(tmp_path):
    (tmp_path / LABELS).write_bytes("rot\ngrün\nblau\n".encode("latin-1"))
    artifact = SimpleNamespace(path=tmp_path / "model.keras", kind="keras", classes=3)
    with pytest.raises(
        keras_arch.InputError, match=r"class names in .*labels\.txt .* Received: .*utf-8"
    ):
        find_class_names(artifact)


def test_packed_labels_are_read(tmp_path):
    artifact = SimpleNamespace(path=tmp_path / "model.tflite", kind="tflite", classes=3)
    pack(artifact.path)
    assert find_class_names(artifact) == ("red", "green", "blue")
    artifact.path.write_bytes(b"the flatbuffer of a model")
    assert find_class_names(artifact) is None
