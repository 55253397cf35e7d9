"""Test images of a page: whose they are, which ones are chosen, and their background."""

import json
import shutil

import numpy as np
import pytest
from conftest import digits_read_once
from demo_files import make_report, write_export
from PIL import Image

import keras_arch
from keras_arch.demo.samples import choose_images, load_samples, median_of_border

# --- which images ---


@pytest.mark.parametrize(
    ("labels", "side", "count"),
    [
        (np.arange(200) % 10, 64, 12),
        (np.arange(200) % 10, 65, 6),
        (np.arange(200) % 10, 8, 12),
        (np.array([1, 0, 1, 1, 1]), 8, 5),
        (np.array([3]), 8, 1),
        (np.repeat([0, 1], [500, 1]), 8, 12),
        (np.arange(100) % 50, 8, 12),
        (np.arange(100) % 50, 224, 6),
    ],
)
def test_one_image_of_each_class_comes_first(labels, side, count):
    chosen = choose_images(labels, side)
    assert len(chosen) == len(set(chosen.tolist())) == count
    classes = len(set(labels.tolist()))
    first = labels[chosen[:classes]].tolist()
    assert len(set(first)) == min(classes, count)
    np.testing.assert_array_equal(chosen, choose_images(labels, side))


def test_the_median_of_the_border_counts_each_pixel_once():
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 4, 1), "uint8")
    border = [
        image[row, column, 0]
        for image in images
        for row in range(5)
        for column in range(4)
        if row in (0, 4) or column in (0, 3)
    ]
    assert median_of_border(images) == int(np.median(border))
    # The corners are 4 of 8 pixels.
    corners = np.full((1, 3, 3, 1), 10, "uint8")
    corners[0, ::2, ::2] = 200
    corners[0, 0, 0] = 10
    assert median_of_border(corners) == 10
    assert median_of_border(np.full((1, 1, 1, 1), 255, "uint8")) == 255


# --- whose images ---


def test_the_images_of_a_run_are_those_of_its_test_split(quickstart):
    report = json.loads((quickstart / "export/export.json").read_text())
    record = json.loads((quickstart / "run.json").read_text())
    with digits_read_once():
        samples = load_samples(quickstart / "export", report, None, None)
        digits = keras_arch.load_dataset("digits", record["data_dir"], (8, 8))
    assert samples.pixels.shape == (12, 8, 8, 1)
    assert sorted(samples.class_names[:10]) == [*"0123456789"]
    assert samples.ground == 0
    for pixels, name in zip(samples.pixels, samples.class_names, strict=True):
        same = (digits.test.images == pixels).all(axis=(1, 2, 3))
        assert name in {digits.class_names[label] for label in digits.test.labels[same]}


def test_a_run_with_other_data_is_refused(quickstart, tmp_path):
    for name in ("run.json", "labels.txt"):
        shutil.copy(quickstart / name, tmp_path)
    report = write_export(tmp_path / "export", data="digits")
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "data_fingerprint": "other"}))
    with (
        digits_read_once(),
        pytest.raises(keras_arch.InputError, match=r"trained on other data.*other contents"),
    ):
        load_samples(tmp_path / "export", report, None, None)


def write_images(folder, colors):
    """Write images of one color: {path: RGB or gray}."""
    for number, (path, color) in enumerate(colors.items()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB" if isinstance(color, tuple) else "L", (8, 8), color)
        image.putpixel((number, 3), 0)  # no two images are equal
        image.save(folder / path)


@pytest.fixture
def split_folder(tmp_path):
    """An image folder with a red image for training, a green and a blue one for testing."""
    colors = {
        "train/a/1.png": (255, 0, 0),
        "train/b/1.png": (255, 0, 0),
        "validation/a/1.png": (255, 0, 0),
        "test/a/1.png": (0, 255, 0),
        "test/b/1.png": (0, 0, 255),
    }
    write_images(tmp_path / "split", colors)
    return tmp_path / "split"


def colors_of(samples):
    """Return {class name: color of the last pixel}."""
    return dict(zip(samples.class_names, map(tuple, samples.pixels[:, -1, -1]), strict=True))


def test_the_images_of_a_model_file_are_those_in_export_json(split_folder, tmp_path):
    report = make_report(data=split_folder)
    samples = load_samples(tmp_path, report, None, None)
    assert colors_of(samples) == {"a": (0, 255, 0), "b": (0, 0, 255)}
    assert samples.ground is None
    report = make_report(data=split_folder, split="train")  # calibration images verified it
    assert colors_of(load_samples(tmp_path, report, None, None)) == {
        "a": (255, 0, 0),
        "b": (255, 0, 0),
    }


def test_the_images_have_the_size_of_the_export(split_folder, tmp_path):
    report = make_report(data=split_folder, image_size=[4, 6])
    assert load_samples(tmp_path, report, None, None).pixels.shape == (2, 4, 6, 3)


def test_all_images_of_a_folder_without_splits_are_used(tmp_path):
    write_images(tmp_path / "plain", {"a/1.png": 100, "b/1.png": 100, "b/2.png": 100})
    samples = load_samples(tmp_path, make_report(), str(tmp_path / "plain"), None)
    assert sorted(samples.class_names) == ["a", "b", "b"]
    assert samples.pixels.shape == (3, 8, 8, 1)
    assert samples.ground == 100


def test_test_replaces_the_images_of_the_export(split_folder, tmp_path):
    report = make_report(data=tmp_path / "removed")
    samples = load_samples(tmp_path, report, str(split_folder), None)
    assert sorted(samples.class_names) == ["a", "b"]


def test_an_export_that_arrays_verified_needs_test(tmp_path):
    with pytest.raises(keras_arch.InputError, match=r"--test is required for .*arrays of images"):
        load_samples(tmp_path, make_report(), None, None)


def test_a_split_without_images_is_refused(tmp_path):
    write_images(
        tmp_path / "data",
        {"train/a/1.png": 9, "train/b/1.png": 9, "validation/a/1.png": 9},
    )
    (tmp_path / "data/test/a").mkdir(parents=True)
    with pytest.raises(keras_arch.InputError, match="no images"):
        load_samples(tmp_path, make_report(), str(tmp_path / "data"), None)


def test_images_that_do_not_exist_any_more_are_refused(tmp_path):
    report = make_report(data=tmp_path / "removed")
    with pytest.raises(keras_arch.InputError, match="removed does not exist"):
        load_samples(tmp_path, report, None, None)
