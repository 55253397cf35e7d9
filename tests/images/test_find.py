"""Images, split directories and unused files of an image folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_arch.data import check
from keras_arch.data.folders import find_files
from keras_arch.errors import DataWarning, InputError
from keras_arch.images.find import find_images


@pytest.fixture(autouse=True)
def memory(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(check, "CACHE", tmp_path_factory.mktemp("memory"))


def save(folder, *names):
    """Save different small images. All are PNG files, for any suffix."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (
            np.random.default_rng(list(str(path).encode()))
            .integers(0, 256, (4, 4, 3))
            .astype("uint8")
        )
        Image.fromarray(pixels).save(path, format="PNG")


def save_classes(folder, *classes, count=3):
    for name in classes:
        save(folder, *(f"{name}/{number}.png" for number in range(count)))


def classes_found(folder, **options):
    """Return {class: number of images in all splits}."""
    names, found, _ = find_files(folder, **options)
    return {
        name: sum(files.labels.count(label) for files in found.values())
        for label, name in enumerate(names)
    }


def paths_found(folder, split):
    return {str(Path(path).relative_to(folder)) for path in find_files(folder)[1][split].paths}


def error_text(folder, **options):
    with pytest.raises(InputError) as refused:
        find_files(folder, **options)
    assert len(str(refused.value).replace(str(folder), "")) < 300
    assert "\n" not in str(refused.value)
    return "\n".join([str(refused.value), *refused.value.details])


def warning(folder, **options):
    with pytest.warns(DataWarning) as warned:
        find_files(folder, **options)
    (only,) = warned
    assert "\n" not in str(only.message)
    return str(only.message)


# --- names of split directories ---


@pytest.mark.parametrize(
    "names",
    [
        ("train", "validation", "test"),
        ("Train", "Val", "Test"),
        ("training", "valid", "testing"),
        ("TRAINING", "dev", "TEST"),
        ("train", "Validation", None),
        ("Training", None, "Testing"),
        ("training", None, None),
    ],
)
def test_names_of_split_directories(tmp_path, names):
    for name in filter(None, names):
        save_classes(tmp_path / name, "cat", "dog")
    assert classes_found(tmp_path) == {
        "cat": 3 * (3 - names.count(None)),
        "dog": 3 * (3 - names.count(None)),
    }
    for split, name in zip(("train", "validation", "test"), names, strict=True):
        parts = {path.split("/")[0] for path in paths_found(tmp_path, split)}
        assert parts == {name or names[0]}


@pytest.mark.parametrize("pair", [("val", "valid"), ("train", "Training"), ("test", "testing")])
def test_two_directories_for_one_split_are_an_error(tmp_path, pair):
    for name in ("train", *pair):
        save_classes(tmp_path / name, "cat", "dog")
    text = error_text(tmp_path)
    assert all(name in text for name in pair)
    assert "more than one directory" in text


def test_other_directories_cause_a_warning(tmp_path):
    for name in ("train/cat", "train/dog", "unlabeled", "holdout/cat"):
        save_classes(tmp_path, name)
    save(tmp_path / "test", "1.png")  # test images without labels
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "make.py").write_text("")
    text = warning(tmp_path)
    assert "holdout, test, unlabeled" in text
    assert "scripts" not in text
    with pytest.warns(DataWarning):
        assert classes_found(tmp_path) == {"cat": 3, "dog": 3}


@pytest.mark.parametrize("names", [("test", "val"), ("Test", "dev"), ("test",)])
def test_splits_without_a_training_directory_are_an_error(tmp_path, names):
    for name in names:
        save_classes(tmp_path / name, "cat", "dog")
    save_classes(tmp_path, "cat", "dog")
    text = error_text(tmp_path)
    assert f"Received: {', '.join(sorted(names))}" in text


def test_splits_without_classes_are_an_error(tmp_path):
    save_classes(tmp_path, "Train", "Test")
    assert "Received: Test, Train" in error_text(tmp_path)


@pytest.mark.parametrize(
    "classes", [("train", "plane"), ("Training", "running"), ("valid", "invalid"), ("dev", "ops")]
)
def test_classes_can_have_names_of_splits(tmp_path, classes):
    save_classes(tmp_path, *classes)
    assert classes_found(tmp_path) == dict.fromkeys(sorted(classes), 3)


def test_an_empty_split_is_an_error(tmp_path):
    save_classes(tmp_path / "train", "cat", "dog")
    (tmp_path / "test").mkdir()
    assert "cat (not in test)" in error_text(tmp_path)


# --- unused files ---


def test_unused_files_are_counted(tmp_path):
    save_classes(tmp_path, "cat", "dog")
    save(tmp_path, "cat/1.psd", "cat/deep/2.PSD", "dog/notes.txt", "dog/LICENSE", "top.png")
    for hidden in (
        ".DS_Store",
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "dog/desktop.ini",
        "dog/.git/x.txt",
        "README.md",
    ):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_text("")
    save(tmp_path, "__MACOSX/cat/._1.png", ".cache/1.png")
    text = warning(tmp_path)
    assert text.startswith("Unused files: 5 (.psd: 2, such as cat/1.psd; ")
    for part in (
        ".txt: 1, such as dog/notes.txt",
        "no suffix: 1, such as dog/LICENSE",
        f"image outside a class directory: 1, such as {tmp_path.name}/top.png",
    ):
        assert part in text
    with pytest.warns(DataWarning):
        assert classes_found(tmp_path) == {"cat": 3, "dog": 3}


def test_images_outside_a_class_are_counted(tmp_path):
    save_classes(tmp_path / "train", "cat", "dog")
    save(tmp_path, "train/1.png", "2.png")
    assert warning(tmp_path).startswith("Unused files: 2 (image outside a class directory: 2, ")


def test_many_kinds_of_unused_files_are_one_line(tmp_path):
    save_classes(tmp_path, "cat", "dog")
    save(tmp_path / "cat", *(f"{number}.x{number % 20}" for number in range(100)))
    text = warning(tmp_path)
    assert text.startswith("Unused files: 100 (")
    assert text.endswith("; other: 75).")
    assert len(text) < 300


def test_find_images_uses_the_same_rule(tmp_path):
    save(tmp_path, "b/2.png", "a.png", "notes.txt", ".hidden.png", "Thumbs.db")
    (tmp_path / "b" / "link").symlink_to(tmp_path)
    with pytest.warns(
        DataWarning, match=r"^Unused files: 2 \(circular link: 1, such as b/link; \.txt: 1, such"
    ):
        found = find_images([tmp_path, tmp_path / "notes.txt"])
    assert found == [
        tmp_path / "a.png",
        tmp_path / "b" / "2.png",
        tmp_path / "notes.txt",
    ]  # a file is returned unchanged


# --- links ---


def test_links_to_directories_are_followed(tmp_path):
    save_classes(tmp_path / "elsewhere", "more", "bird", "deep/er")
    folder = tmp_path / "pictures"
    save_classes(folder, "cat/some", "dog")
    (folder / "cat" / "some" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (folder / "dog" / "deep").symlink_to(tmp_path / "elsewhere" / "deep")
    (folder / "bird").symlink_to(tmp_path / "elsewhere" / "bird")
    assert classes_found(folder) == {"bird": 3, "cat": 6, "dog": 6}
    assert all(path.startswith(str(folder)) for path in find_files(folder)[1]["train"].paths)
    split = tmp_path / "split"
    save_classes(tmp_path / "far", "cat", "dog")
    save_classes(split / "train", "cat", "dog")
    (split / "Test").symlink_to(tmp_path / "far")
    assert paths_found(split, "test") == {
        f"Test/{name}/{n}.png" for name in ("cat", "dog") for n in range(3)
    }


def test_circular_and_broken_links_are_counted(tmp_path):
    save_classes(tmp_path, "cat", "dog/inside")
    (tmp_path / "again").symlink_to(tmp_path)  # a second `ln -s` makes such a link
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "dog" / "inside" / "up").symlink_to("..")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "dog" / "self.png").symlink_to(tmp_path / "dog" / "self.png")
    (tmp_path / "bird").symlink_to(tmp_path / "not mounted")
    text = warning(tmp_path)
    assert text.startswith("Unused files: 6 (")
    assert "broken link: 3, such as " in text
    assert "circular link: 3, such as " in text
    with pytest.warns(DataWarning):
        assert classes_found(tmp_path) == {"cat": 3, "dog": 3}


def test_two_links_to_a_directory_are_not_circular(tmp_path):
    save_classes(tmp_path / "elsewhere", "x")
    save_classes(tmp_path / "pictures", "cat", "dog")
    for name in ("one", "two"):
        (tmp_path / "pictures" / "cat" / name).symlink_to(tmp_path / "elsewhere" / "x")
    assert find_images([tmp_path / "pictures" / "cat"]) == [
        tmp_path / "pictures" / "cat" / place / f"{number}.png"
        for place in (".", "one", "two")
        for number in range(3)
    ]


# --- images that cannot be decoded ---


def test_a_class_without_readable_images_is_an_error(tmp_path):
    save_classes(tmp_path, "cat", "dog")
    for path in (tmp_path / "dog").iterdir():
        path.write_bytes(b"no picture")
    text = error_text(tmp_path, skip_unreadable=True)
    assert f"an empty class: {tmp_path / 'dog'} (none of its 3 images can be decoded)" in text


def test_a_class_of_a_split_without_readable_images_is_an_error(tmp_path):
    for split in ("train", "test"):
        save_classes(tmp_path / split, "cat", "dog")
    for path in (tmp_path / "test" / "cat").iterdir():
        path.write_bytes(b"no picture")
    assert f"an empty class: {tmp_path / 'test' / 'cat'} (none" in error_text(
        tmp_path, skip_unreadable=True
    )


def test_skipped_images_are_counted(tmp_path):
    save_classes(tmp_path, "cat", "dog", count=8)
    for number in range(5):
        (tmp_path / "dog" / f"{number}.png").write_bytes(b"no picture")
    assert warning(tmp_path, skip_unreadable=True) == (
        "Unreadable images that are not used: 5 (dog/0.png, dog/1.png, dog/2.png and 2 more)."
    )
    with pytest.warns(DataWarning):
        assert classes_found(tmp_path, skip_unreadable=True) == {"cat": 8, "dog": 3}


# --- scripts ---


@pytest.mark.slow
def test_each_command_warns_once(script, tmp_path, capfd, monkeypatch):
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 100, (8, 8, 3)) + 150 * (number % 2)
        path = tmp_path / "pictures" / ("dark", "bright")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.astype("uint8")).save(path)
    (tmp_path / "pictures" / "dark" / "notes.txt").write_text("")
    (tmp_path / "pictures" / "dark" / "broken.png").write_text("")
    monkeypatch.chdir(tmp_path)
    train = "train.py quickstart --dataset pictures --epochs 1 --batch-size 8 --augment none --skip-unreadable"
    commands = [
        (*train.split(), "--output", "run"),
        ("export.py", "run", "--formats", "float32"),
        ("evaluate.py", "run"),
    ]
    for command in commands:
        assert script(*command) == 0
        lines = [
            line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")
        ]
        assert lines == [
            "warning: Unused files: 1 (.txt: 1, such as dark/notes.txt).",
            "warning: Unreadable images that are not used: 1 (dark/broken.png).",
        ], command[0]
    assert script("predict.py", "run", "pictures") == 2  # the broken image
    err = capfd.readouterr().err
    assert err.count("warning: Unused files: 1 (.txt: 1, such as dark/notes.txt).") == 1
