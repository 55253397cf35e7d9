"""Image folders and .npz files: finding, splitting, checking and errors."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, latin_1_folder
from PIL import Image
from sklearn.datasets import load_digits

import keras_arch
from keras_arch.data import check
from keras_arch.data.augment import POLICIES
from keras_arch.data.folders import find_files
from keras_arch.data.pipeline import training_batches
from keras_arch.data.splits import InFiles, InMemory
from keras_arch.errors import DataWarning

NAMES = ("zero", "eins Ä", ".hidden")


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "CACHE", tmp_path / "memory")


def save(path, number=0, size=(20, 12), mode="RGB", **options):
    """Save noise that depends on `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3)).astype("uint8")
    Image.fromarray(noise).convert(mode).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "my pictures"
    for number in range(40):
        save(
            folder
            / NAMES[number % 3]
            / f"bild {number} ü.{('jpg', 'png', 'bmp', 'gif', 'webp')[number % 5]}",
            number,
        )
    (folder / "zero" / ".DS_Store").write_text("")
    (folder / "zero" / ".hidden.png").write_text("")
    (folder / "README").write_text("")
    return folder


def names(files):
    return [path.rsplit("/", 1)[1] for path in files.paths]


def test_class_directories_are_in_all_splits(folder):
    class_names, found, pictures = find_files(folder)
    assert class_names == ["eins Ä", "zero"]
    assert len(pictures) == 27
    assert all(sorted(set(files.labels)) == [0, 1] for files in found.values())
    together = [path for files in found.values() for path in files.paths]
    assert len(set(together)) == 27


def test_split_directories_and_links(tmp_path):
    folder = tmp_path / "split"
    for number in range(12):
        save(
            folder
            / ("train", "validation", "test")[number % 3]
            / "ab"[number // 3 % 2]
            / f"{number}.png",
            number,
        )
    (tmp_path / "elsewhere").mkdir()
    save(tmp_path / "elsewhere" / "linked.png", 99)
    (folder / "train" / "a" / "link.png").symlink_to(tmp_path / "elsewhere" / "linked.png")
    dataset = keras_arch.load_dataset(folder)
    assert dataset.sizes == {"train": 5, "validation": 4, "test": 4}
    assert dataset.class_names == ("a", "b")
    assert dataset.image_shape == (12, 20, 3)
    assert dataset.name == "split"
    shutil.rmtree(folder / "validation")
    for number in range(100, 126):
        save(folder / "train" / "ab"[number % 2] / f"{number}.png", number)
    dataset = keras_arch.load_dataset(folder)
    assert dataset.train.count + dataset.validation.count == 31
    assert set(dataset.validation.labels) == {0, 1}
    assert dataset.test.count == 4


def test_too_few_images_for_held_out_splits(tmp_path):
    for number in range(4):
        save(tmp_path / "ab"[number % 2] / f"{number}.png", number)
    with pytest.raises(
        keras_arch.InputError,
        match=r"needs a class with three images or more.*Received: no images for",
    ):
        keras_arch.load_dataset(tmp_path)


def test_only_kept_splits_are_in_memory(folder):
    dataset = keras_arch.load_dataset(folder, image_size=8, keep=("validation",))
    assert [type(getattr(dataset, split)) for split in ("train", "validation", "test")] == [
        InFiles,
        InMemory,
        InFiles,
    ]


def test_files_and_memory_have_the_same_pixels(folder, monkeypatch):
    in_memory = keras_arch.load_dataset(folder, image_size=8)
    monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", 0)
    in_files = keras_arch.load_dataset(folder, image_size=8)
    assert isinstance(in_memory.train, InMemory)
    assert isinstance(in_files.train, InFiles)
    for split in ("train", "validation", "test"):
        pairs = [
            list(getattr(dataset, split).examples.as_numpy_iterator())
            for dataset in (in_memory, in_files)
        ]
        for (image, label), (other, other_label) in zip(*pairs, strict=True):
            assert label == other_label
            np.testing.assert_array_equal(image, other)
    recipe = keras_arch.Recipe("resnet8", "x", epochs=2, learning_rate=0.1, batch_size=8)
    for policy in ("flip_crop", "inception_crop"):
        runs = [
            list(
                training_batches(
                    in_files, keras_arch.Recipe(**{**vars(recipe), "augment": policy})
                ).as_numpy_iterator()
            )
            for _ in range(2)
        ]
        assert len(runs[0]) == 2 * (in_files.train.count // 8)
        for pair, other in zip(*runs, strict=True):
            np.testing.assert_array_equal(pair[0], other[0])
            np.testing.assert_array_equal(pair[1], other[1])


def test_tensorflow_and_pillow_crop_jpegs_to_the_same_pixels(tmp_path):
    """TensorFlow decodes only the crop. Pillow decodes all, then crops. Only rounding differs."""
    picture = np.asarray(
        Image.fromarray(
            np.random.default_rng(0).integers(0, 256, (9, 12, 3)).astype("uint8")
        ).resize((400, 300))
    )
    Image.fromarray(picture).save(tmp_path / "picture.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    checked = [check.check_image(str(tmp_path / name)) for name in ("picture.jpg", "turned.jpg")]
    assert [result.plain_jpeg for result in checked] == [True, False]
    assert [result.size for result in checked] == [(400, 300), (300, 400)]
    sides = []
    for plain in (True, False):
        split = InFiles(
            [str(tmp_path / "picture.jpg")], np.array([0]), (64, 64, 3), np.array([plain])
        )
        batch = next(
            iter(split.batches(0, tf.data.Dataset.range(1), 1, POLICIES["inception_crop"]))
        )
        sides.append(batch[0].numpy().astype(int))
    assert np.abs(sides[0] - sides[1]).mean() < 4


def test_pillow_reads_a_jpeg_that_tensorflow_rejects(tmp_path, monkeypatch):
    """A restart marker before the end of the file raises InvalidArgumentError in TensorFlow."""
    for number in range(12):
        split = ("train", "validation", "test")[number % 3]
        save(tmp_path / split / "ab"[number // 3 % 2] / f"{number}.jpg", number, quality=95)
    odd = tmp_path / "train" / "a" / "0.jpg"
    content = odd.read_bytes()
    odd.write_bytes(content[:-1] + b"\xff\xd0" + content[-1:])
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.io.decode_jpeg(odd.read_bytes())
    monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", 0)
    dataset = keras_arch.load_dataset(tmp_path)
    assert list(dataset.train.plain_jpegs) == [path != str(odd) for path in dataset.train.paths]
    recipe = keras_arch.Recipe(
        "resnet8", "x", epochs=1, learning_rate=0.1, batch_size=1, augment="inception_crop"
    )
    found = [image.numpy()[0] for image, _ in training_batches(dataset, recipe)]
    through_pillow = dataclasses.replace(dataset.train, plain_jpegs=np.zeros(4, bool))
    expected = training_batches(dataclasses.replace(dataset, train=through_pillow), recipe)
    same = [
        np.array_equal(image, other.numpy()[0])
        for image, (other, _) in zip(found, expected, strict=True)
    ]
    assert sorted(same) == [False, False, False, True]


def test_grayscale_and_rgb_data(tmp_path):
    for number in range(8):
        save(tmp_path / "gray" / "ab"[number % 2] / f"{number}.png", number, mode="L")
        save(
            tmp_path / "mixed" / "ab"[number % 2] / f"{number}.png",
            number,
            mode=("RGB", "L", "RGBA", "P")[number % 4],
        )
    assert keras_arch.load_dataset(tmp_path / "gray").image_shape == (12, 20, 1)
    assert keras_arch.load_dataset(tmp_path / "mixed").image_shape == (12, 20, 3)


# --- names that are not UTF-8 ---


def test_file_names_that_are_not_utf_8(tmp_path, monkeypatch):
    folder, name = latin_1_folder(tmp_path, "Fähren"), os.fsdecode("Köln".encode("latin-1"))
    for number in range(60):
        split = ("train", "validation", "test")[number % 3]
        save(folder / split / "ab"[number // 3 % 2] / f"{name} {number}.jpg", number)
    monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", 0)
    for _ in range(2):  # without and with the cache
        dataset = keras_arch.load_dataset(folder)
        assert dataset.sizes == {"train": 20, "validation": 20, "test": 20}
    recipe = keras_arch.Recipe(
        "resnet8", "x", epochs=1, learning_rate=0.1, batch_size=10, augment="inception_crop"
    )
    assert len(list(training_batches(dataset, recipe))) == 2
    assert len(list(dataset.test.examples)) == 20


@pytest.mark.parametrize(
    ("name", "told"), [(b"caf\xe9", r"'caf\\udce9'"), (b"tea\nspoon", r"'tea\\nspoon'")]
)
def test_a_class_name_that_is_not_a_line_of_utf_8_is_an_error(name, told, tmp_path):
    latin_1_folder(tmp_path, name.decode("latin-1"))
    for number in range(12):
        save(tmp_path / (os.fsdecode(name), "water")[number % 2] / f"{number}.png", number)
    with pytest.raises(
        keras_arch.InputError, match=rf"Class names must be UTF-8 text, .* Received: {told}\."
    ) as refused:
        keras_arch.load_dataset(tmp_path)
    assert len(str(refused.value)) < 300


def test_class_names_are_utf_8_in_any_locale(tmp_path):
    (tmp_path / "café").mkdir()
    code = "import os, sys; from keras_arch.text import file_name_text as text; print(ascii([*map(text, os.listdir())]))"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    found = subprocess.check_output(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True
    )
    assert found.strip() == r"['caf\xe9']"


# --- errors ---


def error_text(folder, **options):
    with pytest.raises(keras_arch.InputError) as refused:
        keras_arch.load_dataset(folder, image_size=8, **options)
    return "\n".join([str(refused.value), *refused.value.details])


def test_unreadable_images_are_listed_or_skipped(folder):
    for number in range(30):
        (folder / "zero" / f"broken {number}.jpg").write_bytes(b"no picture")
    whole = (folder / "zero" / "bild 0 ü.jpg").read_bytes()
    (folder / "zero" / "bild 0 ü.jpg").write_bytes(whole[: len(whole) // 2])
    text = error_text(folder)
    assert "31 problems" in text
    assert "bild 0 ü.jpg (" in text
    assert text.count("cannot be decoded: ") == 21
    assert "11 more" in text
    with pytest.warns(DataWarning, match="Unreadable images that are not used: 31 "):
        assert (
            sum(keras_arch.load_dataset(folder, image_size=8, skip_unreadable=True).sizes.values())
            == 26
        )


def test_an_image_in_two_classes(folder):
    shutil.copy(folder / "zero" / "bild 0 ü.jpg", folder / "eins Ä" / "copy.jpg")
    assert "an image in two classes: " in error_text(folder)
    assert "copy.jpg and " in error_text(folder, skip_unreadable=True)


def test_empty_classes_and_no_classes(folder, tmp_path):
    (folder / "nothing").mkdir()
    assert f"an empty class: {folder / 'nothing'}" in error_text(folder)
    (tmp_path / "bare" / "a").mkdir(parents=True)
    (tmp_path / "bare" / "b").mkdir()
    assert "for two classes or more. Received: 0 class directories" in error_text(tmp_path / "bare")
    assert len(error_text(tmp_path / "bare")) < 150 + len(str(tmp_path))
    assert "does not exist" in error_text(tmp_path / "none")


def test_a_class_in_one_split(tmp_path):
    for number in range(12):
        save(
            tmp_path
            / "s"
            / ("train", "test")[number % 2]
            / "ab"[number // 2 % 2]
            / f"{number}.png",
            number,
        )
    save(tmp_path / "s" / "train" / "c" / "20.png", 20)
    assert "a class that is not in all splits: c (not in test)" in error_text(tmp_path / "s")


def test_different_sizes_require_image_size(folder):
    save(folder / "zero" / "large.png", 77, size=(50, 50))
    with pytest.raises(
        keras_arch.InputError,
        match=r"`image_size` must be given .* Received: 2 sizes in .* Pass --image-size",
    ):
        keras_arch.load_dataset(folder)


def test_results_are_cached(folder, monkeypatch):
    find_files(folder)
    looked = []
    monkeypatch.setattr(
        check,
        "check_image",
        lambda path: looked.append(path) or check.CheckedImage(None, path, (20, 12)),
    )
    find_files(folder)
    assert looked == []
    time.sleep(0.01)
    save(folder / "zero" / "bild 0 ü.jpg", 1000)
    find_files(folder)
    assert [path.rsplit("/", 1)[1] for path in looked] == ["bild 0 ü.jpg"]


@pytest.mark.parametrize(
    ("function", "error"),
    [("read_bytes", PermissionError(13, "Permission denied")), ("decode_file", None)],
)
def test_errors_are_not_cached(folder, monkeypatch, function, error):
    """An error can be temporary, such as missing permissions, while the file does not change."""

    def fail(path):
        if "bild 0 " in str(path):
            raise error or keras_arch.InputError("no such codec")
        return real(path)

    owner = Path if function == "read_bytes" else check
    real = getattr(owner, function)
    with monkeypatch.context() as patched:
        patched.setattr(owner, function, fail)
        text = error_text(folder)
    assert "1 problems" in text
    assert ("Permission denied" if error else "no such codec") in text
    assert len(find_files(folder)[2]) == 27


@pytest.mark.parametrize(
    "content",
    ["[]", "null", '{"PATH": 1}', '{"PATH": {"stamp": STAMP, "checked": [1]}}', "{", "\x00"],
)
def test_a_damaged_cache_is_ignored(folder, content):
    before, path = find_files(folder), str(folder / "zero" / "bild 0 ü.jpg")
    (memory,) = check.CACHE.iterdir()
    memory.write_text(content.replace("PATH", path).replace("STAMP", str(check.file_stamp(path))))
    assert find_files(folder) == before


# --- .npz ---


def test_npz_with_the_arrays_of_keras_datasets(tmp_path):
    digits = load_digits()
    x, y = (digits.images * 15).astype("uint8"), digits.target
    np.savez(
        tmp_path / "my.npz",
        x_train=x[:1000],
        y_train=y[:1000, None],
        x_test=x[1000:],
        y_test=y[1000:, None],
    )
    dataset = keras_arch.load_dataset(tmp_path / "my.npz")
    assert dataset.sizes == {"train": 900, "validation": 100, "test": 797}
    assert dataset.class_names == tuple("0123456789")
    np.testing.assert_array_equal(dataset.test.images[..., 0], x[1000:])
    assert keras_arch.load_dataset(tmp_path / "my.npz", image_size=16).image_shape == (16, 16, 1)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "my.npz").read_bytes()[:5000])
    np.savez(tmp_path / "float.npz", x_train=x / 255, y_train=y, x_test=x, y_test=y)
    np.savez(tmp_path / "bare.npz", x_train=x, y_train=y)
    for name, message in (
        ("cut", "x_train"),
        ("float", "uint8"),
        ("bare", "x_test"),
        ("none", "does not exist"),
    ):
        with pytest.raises(keras_arch.InputError, match=message):
            keras_arch.load_dataset(tmp_path / f"{name}.npz")


@pytest.mark.slow
def test_train_on_a_folder(script, tmp_path, capfd, monkeypatch):
    """Train, export, evaluate and predict with an image folder of dark and bright images."""
    for number in range(60):
        noise = np.random.default_rng(number).integers(0, 100, (16, 16, 3)).astype(
            "uint8"
        ) + 150 * (number % 2)
        path = tmp_path / "pictures" / ("dark", "bright")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.astype("uint8")).save(path)
    monkeypatch.chdir(tmp_path)
    words = "train.py quickstart --dataset pictures --epochs 4 --batch-size 8 --augment flip_crop --learning-rate 0.02"
    assert script(*words.split()) == 0
    assert script("export.py", "saved_models/resnet8-pictures", "--formats", "float32", "int8") == 0
    assert capfd.readouterr().out.endswith("  keras-arch demo saved_models/resnet8-pictures\n")
    assert (
        script(
            "evaluate.py",
            *(
                f"saved_models/resnet8-pictures/{name}"
                for name in ("model.keras", "export/model_int8.tflite")
            ),
        )
        == 0
    )
    sizes = keras_arch.load_dataset("pictures").sizes
    assert f"pictures, test split, {sizes['test']} images" in capfd.readouterr().out
    assert (
        script(
            "predict.py",
            "saved_models/resnet8-pictures/export/model_float32.tflite",
            "pictures/dark/0.png",
        )
        == 0
    )
    assert "dark" in capfd.readouterr().out
    assert script("show_data.py", "pictures", "--augment", "cutmix") == 0
    printed = capfd.readouterr().out
    assert "pictures: 16x16 pixels, RGB" in printed
    counts = [int(line.split("│")[2]) for line in printed.splitlines() if line.startswith("│")]
    assert (len(counts), sum(counts)) == (2, sizes["train"])
    with Image.open("data.png") as picture:
        assert picture.size == (1200, 700)
