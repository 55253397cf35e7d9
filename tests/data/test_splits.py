"""Splits of image folders, copies in two splits, and fingerprints."""

import dataclasses
import hashlib
import os
import random
import re
import shutil
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_arch
from keras_arch.data import check
from keras_arch.data.digits import Digits
from keras_arch.data.duplicates import warn_of_duplicates
from keras_arch.data.folder_splits import hold_out
from keras_arch.data.folders import find_files
from keras_arch.data.splits import InStream
from keras_arch.errors import DataWarning

SPLITS = ("train", "validation", "test")


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setattr(check, "CACHE", tmp_path / "memory")


def save(path, number):
    """Save an image of one pixel. Its bytes do not depend on a library."""
    header = struct.pack(
        "<2sIHHIIiiHHIIiiII", b"BM", 58, 0, 0, 54, 40, 1, 1, 1, 24, 0, 4, 2835, 2835, 0, 0
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + bytes([number % 256, number // 256, 7, 0]))


def folder_of(folder, classes):
    """Save FOLDER/CLASS/NUMBER.bmp for {class: numbers}."""
    for name, numbers in classes.items():
        for number in numbers:
            save(folder / name / f"{number}.bmp", number)
    return folder


def contents(files):
    """Return (label, digest) of each image, sorted."""
    return sorted(zip(files.labels, files.digests, strict=True))


# --- properties of hold_out ---

CLASSES = st.dictionaries(
    st.sampled_from("abc"), st.sets(st.integers(0, 10**6), max_size=30), min_size=1
)
MISSING = st.sampled_from([("test", "validation"), ("validation",), ("test",), ()])


def divide(classes, missing, seed=0, copies=1):
    """Return {split: {class: numbers}}. Each number is a content with `copies` files."""
    checked = {
        f"{name}/{number}/{copy}": check.CheckedImage(
            None, hashlib.sha256(f"{name} {number}".encode()).hexdigest()
        )
        for name, numbers in classes.items()
        for number in numbers
        for copy in range(copies)
    }
    paths = list(checked)
    random.Random(seed).shuffle(paths)
    shuffled = {name: [path for path in paths if path.split("/")[0] == name] for name in classes}
    found = hold_out(shuffled, checked, missing)
    held = [path for names in found.values() for paths in names.values() for path in paths]
    assert sorted(held) == sorted(checked)  # every file in one split, once
    return {
        split: {name: {int(path.split("/")[1]) for path in paths} for name, paths in names.items()}
        for split, names in found.items()
    }


@settings(deadline=None)  # the machine may be busy
@given(CLASSES, MISSING, st.integers(1, 3), st.integers(0, 9))
def test_every_content_is_in_one_split_for_any_order_of_files(classes, missing, copies, seed):
    found = divide(classes, missing, seed, copies)
    assert set(found) == {*missing, "train"}
    for name, numbers in classes.items():
        parts = [found[split][name] for split in found]
        assert sum(map(len, parts)) == len(numbers)
        assert set().union(*parts) == numbers
        if len(numbers) > 2:
            assert all(parts)
        else:
            assert found["train"][name] == numbers
    assert found == divide(classes, missing)


@settings(deadline=None)  # the machine may be busy
@given(CLASSES, CLASSES, MISSING)
def test_new_images_do_not_move_images_out_of_training(classes, added, missing):
    grown = {
        name: classes.get(name, set()) | added.get(name, set()) for name in {**classes, **added}
    }
    before, after = divide(classes, missing), divide(grown, missing)
    for name, numbers in classes.items():
        if len(numbers) > 2 and len(before["train"][name]) > 1:
            assert before["train"][name] <= after["train"][name]
        if grown[name] == numbers:  # another class has grown
            assert all(before[split][name] == after[split][name] for split in before)


def test_a_tenth_is_held_out_on_average():
    found = divide({"a": range(20_000)}, ("test", "validation"))
    deviation = (20_000 * 0.1 * 0.9) ** 0.5
    for split in ("test", "validation"):
        assert abs(len(found[split]["a"]) - 2000) < 4 * deviation


def test_names_in_each_split(tmp_path, memory):
    """Compare with positions computed separately: in class b, 100 has 0.14 and 103 has 0.62."""
    folder = folder_of(
        tmp_path / "data", {"a": range(24), "b": range(100, 104), "c": range(200, 202)}
    )
    found = find_files(folder)[1]
    names = {
        split: {os.path.relpath(path, folder) for path in files.paths}
        for split, files in found.items()
    }
    assert names["test"] == {"a/5.bmp", "a/2.bmp", "b/100.bmp"}
    assert names["validation"] == {"a/20.bmp", "a/9.bmp", "a/13.bmp", "b/103.bmp"}
    assert len(names["train"]) == 30 - 7


def test_names_and_copies_have_no_effect(tmp_path, memory):
    classes = {"a": range(30), "b": range(100, 130)}
    folder, renamed = folder_of(tmp_path / "one", classes), tmp_path / "two"
    for name, numbers in classes.items():
        for number in numbers:
            for copy in ("", "copy of "):
                save(renamed / name / "below" / f"{copy}{1000 - number}.bmp", number)
    before, after = find_files(folder)[1], find_files(renamed)[1]
    for split in SPLITS:
        assert contents(after[split]) == sorted(2 * contents(before[split]))
        assert after[split].digests[::2] == before[split].digests  # and in the same order
    assert sum(len(files.paths) for files in after.values()) == 120


# --- copies in split directories ---


@pytest.fixture
def copied(tmp_path, memory):
    """Class a: train has 3 of 4 test images and 1 of validation, validation has 1 of test."""
    folder = tmp_path / "copied"
    for split, a in {
        "test": range(4),
        "validation": (0, 10, 11, 12),
        "train": (0, 1, 2, 10, 20, 21),
    }.items():
        folder_of(folder / split, {"a": a, "b": (100 * (1 + SPLITS.index(split)),)})
    return folder


def test_an_image_in_two_splits_is_an_error(copied):
    with pytest.raises(
        keras_arch.InputError, match=r"Received: 5 problems\. Correct them, or pass --allow-dup"
    ) as refused:
        keras_arch.load_dataset(copied)
    assert "--skip-unreadable" not in str(refused.value)
    assert refused.value.details == [
        f"an image in two splits: {copied}/{path} and {copied}/{other}"
        for path, other in (
            ("train/a/0.bmp", "test/a/0.bmp"),
            ("train/a/1.bmp", "test/a/1.bmp"),
            ("train/a/10.bmp", "validation/a/10.bmp"),
            ("train/a/2.bmp", "test/a/2.bmp"),
            ("validation/a/0.bmp", "test/a/0.bmp"),
        )
    ]


def test_allow_duplicates_removes_copies(copied):
    with pytest.warns(
        DataWarning, match="also in another split: 4 of 7 from train, 1 of 5 from validation"
    ) as warned:
        found = find_files(copied, allow_duplicates=True)[1]
    assert len(warned) == 1
    assert {
        split: [os.path.relpath(path, copied / split) for path in found[split].paths]
        for split in SPLITS
    } == {
        "train": sorted_by_content(copied, "train", "a/20.bmp", "a/21.bmp", "b/100.bmp"),
        "validation": sorted_by_content(
            copied, "validation", "a/10.bmp", "a/11.bmp", "a/12.bmp", "b/200.bmp"
        ),
        "test": sorted_by_content(
            copied, "test", "a/0.bmp", "a/1.bmp", "a/2.bmp", "a/3.bmp", "b/300.bmp"
        ),
    }


def sorted_by_content(folder, split, *paths):
    return sorted(
        paths,
        key=lambda path: (path[0], hashlib.sha256((folder / split / path).read_bytes()).digest()),
    )


def test_a_class_with_only_copies_is_an_error(copied):
    shutil.rmtree(copied / "train" / "b")
    save(copied / "train" / "b" / "1.bmp", 300)
    with pytest.raises(
        keras_arch.InputError, match=r"without images\. Received: 1 classes"
    ) as refused:
        find_files(copied, allow_duplicates=True)
    assert refused.value.details == ["b in train"]


@pytest.mark.slow
def test_scripts_use_allow_duplicates_of_the_recipe(copied, script, tmp_path, capfd):
    """Training, export and evaluation read the same images."""
    words = (
        "quickstart",
        "--dataset",
        copied,
        "--image-size",
        "8",
        "--epochs",
        "1",
        "--batch-size",
        "3",
    )
    words += ("--output", tmp_path / "run")
    assert script("train.py", *words) == 2
    assert "--allow-duplicates" in capfd.readouterr().err
    assert script("train.py", *words, "--allow-duplicates") == 0
    assert capfd.readouterr().err.startswith("warning: ")
    assert script("evaluate.py", tmp_path / "run") == 0
    assert "5 images" in capfd.readouterr().out
    with pytest.warns(DataWarning, match="4 of 7"):
        assert data_of_run(tmp_path / "run").sizes == {"train": 3, "validation": 4, "test": 5}
    assert (
        script("show_data.py", copied, "--allow-duplicates", "--output", tmp_path / "data.png") == 0
    )


def data_of_run(folder):
    from keras_arch.export.run import open_run
    from keras_arch.formats import ExportSettings

    return open_run(folder, ExportSettings())[2]


# --- copies in .npz and TFDS data ---


def arrays(seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (60, 4, 4)).astype("uint8")
    return {
        "x_train": images[:40],
        "y_train": np.arange(40) % 2,
        "x_test": images[40:],
        "y_test": np.arange(20) % 2,
    }


def test_npz_with_copies_causes_one_warning(tmp_path):
    parts = arrays()
    np.savez(tmp_path / "clean.npz", **parts)
    clean = keras_arch.load_dataset(tmp_path / "clean.npz")
    in_training, in_validation = clean.train.images[:3, ..., 0], clean.validation.images[:1, ..., 0]
    parts["x_test"] = np.concatenate([in_training, in_validation, parts["x_test"][4:]])
    np.savez(tmp_path / "copies.npz", **parts)
    expected = "copies: 3 of 20 test images are also in the train split, 1 of 20 test images are also in the validation"
    with pytest.warns(DataWarning, match=expected) as warned:
        dataset = keras_arch.load_dataset(tmp_path / "copies.npz", allow_duplicates=True)
    assert len(warned) == 1
    assert dataset.sizes == clean.sizes


def generate_copies(builder, dl_manager):
    """Generate 80 training and 25 test images. Five are in both."""
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 1)).astype("uint8")
    examples = [(image, number % 10) for number, image in enumerate(images)]
    parts = {"train": examples[:80], "test": examples[80:] + examples[:5]}
    return {split: builder._generate_examples(part) for split, part in parts.items()}


def test_tfds_data_in_memory_are_compared_and_streams_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(Digits, "_split_generators", generate_copies)
    with pytest.warns(DataWarning, match="of 25 test images are also in the") as warned:
        keras_arch.load_dataset("digits", tmp_path)
    (message,) = [str(one.message) for one in warned]
    assert (
        sum(map(int, re.findall("([0-9]+) of 25 test images", message))) == 5
    )  # TFDS shuffles the data before the split
    assert keras_arch.load_dataset("digits", tmp_path, keep=("test",)).test.count == 25
    monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", 0)
    assert isinstance(keras_arch.load_dataset("digits", tmp_path).test, InStream)


def test_comparing_60000_images_takes_less_than_a_second(digits):
    split = dataclasses.replace(
        digits.train,
        images=np.random.default_rng(0).integers(0, 256, (60_000, 28, 28, 1)).astype("uint8"),
        labels=np.zeros(60_000, "int64"),
    )
    smaller = dataclasses.replace(
        split, images=split.images[:10_000] ^ 1, labels=split.labels[:10_000]
    )
    started = time.process_time()
    warn_of_duplicates(
        dataclasses.replace(digits, train=split, validation=smaller, test=digits.test)
    )
    assert time.process_time() - started < 1


# --- fingerprints ---


def test_fingerprint_of_an_image_folder(tmp_path, memory):
    folder = folder_of(tmp_path / "one", {"a": range(20), "b": range(100, 120)})
    fingerprint = keras_arch.load_dataset(folder).fingerprint
    assert keras_arch.load_dataset(folder, image_size=3, keep=()).fingerprint == fingerprint
    (folder / "a" / "1.bmp").rename(folder / "a" / "other.bmp")
    assert keras_arch.load_dataset(folder).fingerprint == fingerprint
    save(folder / "a" / "other.bmp", 999)
    replaced = keras_arch.load_dataset(folder).fingerprint
    (folder / "a").rename(folder / "c")
    assert len({fingerprint, replaced, keras_arch.load_dataset(folder).fingerprint}) == 3


def test_fingerprint_of_arrays(tmp_path):
    def fingerprint(**changes):
        np.savez(tmp_path / "a.npz", **{**arrays(), **changes})
        return keras_arch.load_dataset(tmp_path / "a.npz").fingerprint

    same, parts = fingerprint(), arrays()
    assert fingerprint() == same
    assert fingerprint(x_test=parts["x_test"] ^ 1) != same
    assert fingerprint(y_train=1 - parts["y_train"]) != same


@pytest.mark.slow
def test_fingerprint_of_tfds_data(digits, tmp_path, monkeypatch):
    before = keras_arch.load_dataset("digits", tmp_path)
    assert (
        before.fingerprint
        == digits.fingerprint
        == keras_arch.load_dataset("digits", tmp_path, 9).fingerprint
    )
    monkeypatch.setattr(Digits, "_split_generators", generate_copies)
    other = keras_arch.load_dataset("digits", tmp_path / "other", keep=("test",))
    assert other.fingerprint != before.fingerprint
    assert len(other.fingerprint) == 64


def test_a_changed_image_of_equal_size_and_time_is_found(tmp_path, memory):
    folder = folder_of(tmp_path / "one", {"a": range(5), "b": range(100, 105)})
    before, path = keras_arch.load_dataset(folder).fingerprint, folder / "a" / "1.bmp"
    times = path.stat()
    time.sleep(0.01)
    save(path, 77)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert keras_arch.load_dataset(folder).fingerprint != before
