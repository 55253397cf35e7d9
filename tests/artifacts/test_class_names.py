"""Class names keep their order in image folders, labels.txt and model files of every kind."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import keras_arch
from keras_arch.class_names import (
    LABELS,
    check_class_order,
    class_names_or_numbers,
    find_class_names,
    pack_labels,
    parse_onnx_metadata,
    read_labels,
    read_packed_labels,
    to_onnx_metadata,
    write_labels,
)
from keras_arch.data.folders import find_files
from keras_arch.data.splits import InMemory
from keras_arch.extras import EXTRAS, find_missing
from keras_arch.formats import FORMATS

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
        pack_labels(model, names)
        assert read_packed_labels(model) == tuple(names)
    metadata = to_onnx_metadata(names)
    assert json.loads(metadata["names"]) == names
    assert parse_onnx_metadata(metadata) == tuple(names)


UNORDERED = {  # kind: names in an order that is not that of a list
    "set": {"cat", "dog"},
    "frozenset": frozenset(["cat", "dog"]),
    "dict": {0: "cat", 1: "dog"},
}
TAKERS = {
    "pack_labels": pack_labels,
    "Reference": lambda path, names: keras_arch.verify(
        path.parent,
        {},
        keras_arch.Reference(np.full((2, 8, 8, 3), 9, "uint8"), None, np.full((2, 2), 0.5), names),
    ),
    "transfer_weights": lambda path, names: keras_arch.transfer_weights(
        keras_arch.ResNet8(input_shape=(8, 8, 3), classes=2), path, "resnet8", names
    ),
    "fit": lambda path, names: keras_arch.fit(
        keras_arch.ResNet8(input_shape=(8, 8, 3), classes=2),
        keras_arch.Dataset("data", *[InMemory(*TWO)] * 3, names, (8, 8, 3)),
        keras_arch.RECIPES["quickstart"],
        path.parent / "run",
    ),
}
TWO = (np.full((2, 8, 8, 3), 9, "uint8"), np.array([0, 1]))


@pytest.mark.parametrize("kind", UNORDERED)
@pytest.mark.parametrize("taker", TAKERS)
def test_names_without_order_are_refused(taker, kind, tmp_path):
    with pytest.raises(
        keras_arch.InputError, match=rf"in the order of .* Received: a {kind}\. Pass a list"
    ):
        TAKERS[taker](tmp_path / "model.tflite", UNORDERED[kind])


def test_keys_and_generators_have_an_order(tmp_path):
    """Keras generators name their classes by `class_indices.keys()`."""
    for names in ({"cat": 0, "dog": 1}.keys(), (name for name in ("cat", "dog")), range(2)):
        expected = tuple(map(str, names)) if not hasattr(names, "send") else ("cat", "dog")
        write_labels(tmp_path / LABELS, names)
        assert read_labels(tmp_path / LABELS) == expected


@settings(deadline=None)
@given(names=NAMES, data=st.data())
def test_another_order_is_refused(names, data):
    other = data.draw(st.permutations(names))
    with tempfile.TemporaryDirectory() as path:
        write_labels(Path(path) / LABELS, names)
        artifact = SimpleNamespace(
            path=Path(path) / "model.keras", class_names=None, classes=len(names)
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
    assert read_packed_labels(tmp_path / "model.tflite") == ("rot", " grün ", "x\x85y")


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
    with pytest.raises(
        keras_arch.InputError, match=r"class names in .*model\.tflite .* Received: "
    ) as refused:
        read_packed_labels(path)
    assert len(str(refused.value).replace(str(tmp_path), "")) < 300
    assert "\n" not in str(refused.value)


def test_a_file_of_labels_that_is_no_utf_8_is_refused(tmp_path):
    (tmp_path / LABELS).write_bytes("rot\ngrün\nblau\n".encode("latin-1"))
    artifact = SimpleNamespace(path=tmp_path / "model.keras", class_names=None, classes=3)
    with pytest.raises(
        keras_arch.InputError, match=r"class names in .*labels\.txt .* Received: .*utf-8"
    ):
        find_class_names(artifact)


def test_packed_labels_are_read(tmp_path):
    path = tmp_path / "model.tflite"
    pack(path)
    assert read_packed_labels(path) == ("red", "green", "blue")
    path.write_bytes(b"the flatbuffer of a model")
    assert read_packed_labels(path) is None


def test_labels_are_packed_without_the_time(tmp_path, monkeypatch):
    path, packed = tmp_path / "model.tflite", []
    for seconds in (10**9, 2 * 10**9):
        monkeypatch.setattr("time.time", lambda seconds=seconds: seconds)
        path.write_bytes(b"a model")
        pack_labels(path, ["cat", "dog"])
        packed.append(path.read_bytes())
    assert packed[0] == packed[1]


ONNX_VALUES = {  # {metadata `names`: class names}
    '["a b", "c"]': ("a b", "c"),
    '["a\\/b", "\\u732b"]': ("a/b", "猫"),
    "{0: 'a b', 1: \"it's\"}": ("a b", "it's"),  # of Ultralytics
    "{1: 'a', 0: 'b'}": ("b", "a"),
    # Other programs may use the key for something else.
    **dict.fromkeys(
        [
            "{1: 'a', 2: 'b'}",
            "{'a': 0}",
            '["a b", "c"',
            "['a'] * 2",
            "a, b",
            "[1.5]",
            '"ab"',
            "[]",
            "[" * 10**5,
            "",
        ]
    ),
}


@pytest.mark.parametrize("value", ONNX_VALUES, ids=lambda value: value[:20])
def test_names_in_the_metadata_of_an_onnx_file(value):
    assert parse_onnx_metadata({"names": value}) == ONNX_VALUES[value]
    assert parse_onnx_metadata({}) is None


def test_class_names_are_packed_once_and_into_an_existing_file(tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(keras_arch.InputError, match=r"model\.tflite does not exist"):
        pack_labels(path, ["a", "b"])
    assert not path.exists()
    path.write_bytes(b"the flatbuffer of a model")
    pack_labels(path, ["a", "b"])
    before = path.read_bytes()
    with pytest.raises(keras_arch.InputError, match="already has class names"):
        pack_labels(path, ["c", "d"])
    assert path.read_bytes() == before


# --- a file alone ---

STRANGE_NAMES = (
    "pizza margherita",
    " blank at both ends ",
    '"q", \\n',
    "it's {0: 'a'}",
    "猫🐱",
    "e\u0301",
    "x\x85y\u2028z",
    "a\tb",
    "a\0",
    "z" * 3000,
)
STEP = 20  # the model outputs class n for an image of pixels STEP * n
KINDS = ["model.keras", *(form.file for form in FORMATS.values())]
SEVERAL = ["model.keras", "saved_model", "model_int8.tflite", "model_float32.onnx"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A directory with a model of every kind, and images of each class."""
    folder, numbers = tmp_path_factory.mktemp("files"), np.arange(len(STRANGE_NAMES))
    image = keras.Input((4, 4, 3), name="image")
    head = keras.layers.Dense(len(numbers), activation="softmax")
    model = keras.Model(image, head(keras.layers.GlobalAveragePooling2D()(image)))
    # Logits -(pixel - STEP * n)^2 / STEP without the common term.
    head.set_weights([np.tile(2 / 3 * numbers, (3, 1)), -1.0 * STEP * numbers**2])
    images = np.full((len(numbers), 4, 4, 3), STEP * numbers.reshape(-1, 1, 1, 1), "uint8")
    model.save(folder / "model.keras")
    pack_labels(folder / "model.keras", STRANGE_NAMES)
    missing = [name for name in ("onnx", "int4") if find_missing(EXTRAS[name])]
    formats = tuple(name for name in FORMATS if name not in missing)
    settings = keras_arch.ExportSettings(formats)
    calibration = np.concatenate([images, np.linspace(0, 255, 48).reshape(1, 4, 4, 3)])
    _, refused = keras_arch.export_model(model, folder, STRANGE_NAMES, calibration, settings)
    assert refused == {}
    np.save(folder / "images.npy", images)
    Image.fromarray(images[4]).save(folder / "cat.png")
    return folder


def copy_alone(source, folder):
    """Copy a file or directory into a directory and return the path of the copy."""
    if not source.exists():
        pytest.skip("the package that writes it is not installed")
    copy = shutil.copytree if source.is_dir() else shutil.copy
    return Path(copy(source, folder / source.name))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_alone_has_the_class_names(kind, files, tmp_path, script, capsys):
    alone, images = copy_alone(files / kind, tmp_path), np.load(files / "images.npy")
    artifact = keras_arch.open_artifact(alone)
    assert artifact.predict(images).argmax(axis=1).tolist() == list(range(len(STRANGE_NAMES)))
    assert artifact.class_names == class_names_or_numbers(artifact) == STRANGE_NAMES
    words = [alone, files / "cat.png", "--top", "1", "--format", "json"]
    assert script("predict.py", *words) == 0
    (found,) = json.loads(capsys.readouterr().out)["classes"]
    assert found["label"] == "猫🐱"


@pytest.mark.parametrize("kind", SEVERAL)
def test_names_in_the_file_precede_those_of_the_run(kind, files, tmp_path):
    alone = copy_alone(files / kind, tmp_path)
    write_labels(tmp_path / LABELS, list("abcdefghij"))
    assert find_class_names(keras_arch.open_artifact(alone)) == STRANGE_NAMES


def replace_names(path, names, encoding="utf-8"):
    """Replace the class names in a model file by the lines `names`."""
    content = "".join(f"{name}\n" for name in names).encode(encoding)
    if path.suffix == ".onnx":
        onnx = pytest.importorskip("onnx")
        model = onnx.load(path)
        del model.metadata_props[:]
        model.metadata_props.add(key="names", value=json.dumps(names))
        onnx.save(model, path)
    elif path.is_dir():
        (path / "assets" / LABELS).write_bytes(content)
    else:
        with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(LABELS, content)


@pytest.mark.parametrize("kind", SEVERAL)
def test_another_number_of_names_is_refused(kind, files, tmp_path):
    alone = copy_alone(files / kind, tmp_path)
    replace_names(alone, ["a", "b"])
    with pytest.raises(
        keras_arch.InputError, match=rf"{kind} must have 10 class names, .* Received: 2\.$"
    ):
        keras_arch.open_artifact(alone)


@pytest.mark.parametrize("kind", SEVERAL[:3])  # JSON in an .onnx file is always UTF-8
def test_names_that_are_no_utf_8_are_refused(kind, files, tmp_path, script, capfd):
    alone = copy_alone(files / kind, tmp_path)
    replace_names(alone, ["grün"] * 10, "latin-1")
    assert script("predict.py", alone, files / "cat.png") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: The class names in ")
    assert "cannot be read. Received: 'utf-8' codec" in line


OPEN = """
import sys, keras, numpy as np
folder = sys.argv[1]
model = keras.models.load_model(folder + "/model.keras")
print(keras.backend.backend(), model.predict(np.load(folder + "/images.npy"), verbose=0).argmax(1))
assert "keras_arch" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_keras_alone_opens_a_file_with_class_names(backend, files, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install {backend}")
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", OPEN, files]
    found = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)
    assert found == f"{backend} {np.arange(10)}\n"
