"""TFDS data: digits, splits, streams, missing labels and errors."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

import keras_arch
from keras_arch.data.digits import Digits
from keras_arch.data.splits import InMemory, InStream
from keras_arch.data.tfds import classification_features, split_instructions
from keras_arch.datasets import DATASETS
from keras_arch.errors import DataWarning
from keras_arch.files import refuse_inside, resolve_existing
from keras_arch.runs.record import resolve_data_dir


def images_of(split):
    return [image.tobytes() for image, _ in split.examples.as_numpy_iterator()]


def test_digits_are_those_of_scikit_learn_in_disjoint_splits(digits):
    assert digits.sizes == {"train": 1293, "validation": 144, "test": 360}
    assert digits.class_names == tuple("0123456789")
    assert digits.image_shape == (8, 8, 1)
    everything = load_digits()
    expected = {
        image.tobytes(): label
        for image, label in zip(
            np.round(everything.images * 255 / 16).astype("uint8"), everything.target, strict=True
        )
    }
    found = [
        pair
        for split in (digits.train, digits.validation, digits.test)
        for pair in split.examples.as_numpy_iterator()
    ]
    assert len(found) == len({image.tobytes() for image, _ in found}) == len(expected) == 1797
    assert all(expected[image.tobytes()] == label for image, label in found)


def test_splits_are_reproducible(digits, tmp_path):
    again = keras_arch.load_dataset("digits", tmp_path)
    for split in ("train", "validation", "test"):
        assert images_of(getattr(again, split)) == images_of(getattr(digits, split))


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("_info", marks=pytest.mark.slow),
        pytest.param("_split_generators", marks=pytest.mark.slow),
        pytest.param("_download_and_prepare", marks=pytest.mark.slow),
    ],
)
def test_two_processes_can_prepare_the_same_data(tmp_path, monkeypatch, step):
    """While one process is at a step, another prepares the data in the same directory."""
    others, original = [], getattr(Digits, step)

    def interrupted(*arguments, **options):
        result = original(*arguments, **options)
        monkeypatch.setattr(Digits, step, original)
        others.append(keras_arch.load_dataset("digits", tmp_path))
        return result

    monkeypatch.setattr(Digits, step, interrupted)
    dataset = keras_arch.load_dataset("digits", tmp_path)
    (other,) = others
    assert dataset.sizes == other.sizes == {"train": 1293, "validation": 144, "test": 360}
    assert images_of(dataset.test) == images_of(other.test)
    assert [path.name for path in (tmp_path / "digits").iterdir()] == ["1.0.0"]


def test_an_error_during_preparation_is_raised(tmp_path, monkeypatch):
    def fail(builder, dl_manager):
        raise OSError("disk full")

    monkeypatch.setattr(Digits, "_split_generators", fail)
    with pytest.raises(OSError, match="disk full"):
        keras_arch.load_dataset("digits", tmp_path)


class Split:
    def __init__(self, count):
        self.num_examples = count


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": 1000, "test": 10}, ("train[:-100]", "train[-100:]", "test")),
        ({"train": 1000, "validation": 10, "test": 10}, ("train", "validation", "test")),
        (
            {"train": 1_281_167, "validation": 50_000},
            ("train[:-10000]", "train[-10000:]", "validation"),
        ),
        ({"train": 1000, "val": 10, "test": 10, "mini": 5}, ("train", "val", "test")),
        ({"train": 1000, "val": 10}, ("train[:-100]", "train[-100:]", "val")),
        ({"train": 1000}, ("train[:-200]", "train[-200:-100]", "train[-100:]")),
    ],
)
def test_split_instructions(splits, expected):
    assert (
        split_instructions("x", {name: Split(count) for name, count in splits.items()}) == expected
    )


@pytest.mark.parametrize("image_size", [None, pytest.param(12, marks=pytest.mark.slow)])
def test_streams_have_the_examples_of_memory(data_dir, image_size, monkeypatch):
    held = keras_arch.load_dataset("digits", data_dir, image_size)
    monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", 0)
    streamed = keras_arch.load_dataset("digits", data_dir, image_size)
    assert (type(held.train), type(streamed.train)) == (InMemory, InStream)
    assert 0 < streamed.train.record_bytes < 1000  # a PNG of 8x8 pixels and its label
    for split in ("train", "validation", "test"):
        found, expected = getattr(streamed, split), getattr(held, split)
        assert found.count == expected.count
        np.testing.assert_array_equal(found.labels, expected.labels)
        for pair, other in zip(found.examples, expected.examples, strict=True):
            np.testing.assert_array_equal(pair[0], other[0])
            assert pair[1] == other[1]


def test_only_kept_splits_are_decoded(data_dir):
    dataset = keras_arch.load_dataset("digits", data_dir, keep=("test",))
    assert [type(getattr(dataset, split)) for split in ("train", "validation", "test")] == [
        InStream,
        InStream,
        InMemory,
    ]


def test_image_size(data_dir):
    assert keras_arch.load_dataset("digits", data_dir, image_size=16).image_shape == (16, 16, 1)


@pytest.mark.slow
def test_fashion_mnist(test_data):
    if not (test_data / "fashion_mnist").is_dir():
        pytest.skip("KERAS_ARCH_TEST_DATA has no prepared fashion_mnist")
    dataset = keras_arch.load_dataset("fashion_mnist", test_data)
    assert dataset.sizes == {"train": 54_000, "validation": 6_000, "test": 10_000}
    assert dataset.class_names[9] == "Ankle boot"
    assert dataset.image_shape == (28, 28, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fashion_mnst", "Did you mean .*fashion_mnist"),
        ("mnist:9.9.9", "does not have this version or config of 'mnist'"),
        ("imdb_reviews", "image classification set"),
    ],
)
def test_unknown_names(name, message, tmp_path):
    with pytest.raises(keras_arch.InputError, match=message):
        keras_arch.load_dataset(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_new_data_set_needs_its_file_and_a_row(tmp_path, monkeypatch, capfd):
    """Its name has precedence over a directory with the same name."""
    monkeypatch.setitem(DATASETS, "grays", "PartlyLabeled")
    grays = SimpleNamespace(PartlyLabeled=PartlyLabeled)
    monkeypatch.setitem(sys.modules, "keras_arch.data.grays", grays)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grays" / "a class").mkdir(parents=True)
    dataset = keras_arch.load_dataset("grays", tmp_path / "data")
    assert dataset.sizes == PartlyLabeled.counts
    np.testing.assert_array_equal(dataset.test.sample(1, seed=0)[0] // 60, 2)
    assert resolve_existing("grays") == "grays"
    refuse_inside(tmp_path / "grays" / "output", ["grays"])
    monkeypatch.delitem(DATASETS, "grays")
    with pytest.raises(keras_arch.InputError):
        refuse_inside(tmp_path / "grays" / "output", ["grays"])
    with pytest.raises(keras_arch.InputError):
        keras_arch.load_dataset("grays", tmp_path / "data")


# --- TFDS splits without labels, such as the test split of imagenet2012 ---


class PartlyLabeled(tfds.core.GeneratorBasedBuilder):
    """Uniform images of different grays. The labels at `unlabeled`, {split: slice}, are -1."""

    VERSION = tfds.core.Version("1.0.0")
    counts: ClassVar = {"train": 40, "validation": 10, "test": 8}
    unlabeled: ClassVar = {}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.counts}

    def _generate_examples(self, split):
        labels = np.arange(self.counts[split]) % 10
        labels[self.unlabeled.get(split, slice(0))] = -1
        for number, label in enumerate(labels):
            image = np.full((8, 8, 1), 60 * list(self.counts).index(split) + number, "uint8")
            yield number, {"image": image, "label": int(label)}


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_images_of_other_types_are_refused(dtype):
    image = tfds.features.Image(shape=(8, 8, 1), dtype=np.dtype(dtype), encoding_format="png")
    features = {"image": image, "label": tfds.features.ClassLabel(num_classes=2)}
    info = SimpleNamespace(supervised_keys=("image", "label"), features=features)
    with pytest.raises(keras_arch.InputError, match=f"must have 8 bits.*Received: {dtype}"):
        classification_features("scans", info)


@pytest.fixture
def partly_labeled(tmp_path, monkeypatch):
    """Function that loads `PartlyLabeled`, from {split: slice} of the labels that are -1."""

    def load(unlabeled):
        monkeypatch.setattr(PartlyLabeled, "unlabeled", unlabeled)
        monkeypatch.setattr(
            "keras_arch.data.tfds.find_builder",
            lambda name, data_dir: PartlyLabeled(data_dir=data_dir),
        )
        return keras_arch.load_dataset("partly_labeled", tmp_path)

    return load


@pytest.mark.parametrize(
    ("unlabeled", "sources", "sizes", "used"),
    [
        (
            ["test"],
            ("train", "train", "validation"),
            (36, 4, 10),
            ("train[:-4]", "train[-4:]", "validation"),
        ),
        (
            ["validation"],
            ("train", "train", "test"),
            (36, 4, 8),
            ("train[:-4]", "train[-4:]", "test"),
        ),
        (
            ["validation", "test"],
            ("train",) * 3,
            (32, 4, 4),
            ("train[:-8]", "train[-8:-4]", "train[-4:]"),
        ),
    ],
)
def test_splits_without_labels_are_not_used(partly_labeled, unlabeled, sources, sizes, used):
    with pytest.warns(DataWarning) as warned:
        dataset = partly_labeled(dict.fromkeys(unlabeled, slice(None)))
    assert [str(one.message) for one in warned] == [
        f"Splits of 'partly_labeled' without labels are not used: {', '.join(unlabeled)}. "
        f"Instead, train is {used[0]!r}, validation is {used[1]!r}, test is {used[2]!r}."
    ]
    assert tuple(dataset.sizes.values()) == sizes
    splits = (dataset.train, dataset.validation, dataset.test)
    for split, source in zip(splits, sources, strict=True):
        assert set(split.images.ravel() // 60) == {list(PartlyLabeled.counts).index(source)}
        assert split.labels.min() >= 0
    assert len({image.tobytes() for split in splits for image in split.images}) == sum(sizes)


@pytest.mark.parametrize(("unlabeled", "share"), [(slice(None), 0), (slice(7, 8), 1)])
def test_training_images_without_labels_are_an_error(partly_labeled, unlabeled, share, monkeypatch):
    monkeypatch.setattr("keras_arch.data.splits.MEMORY_SHARE", share)
    with pytest.raises(
        keras_arch.InputError, match="train split of 'partly_labeled' has images without a label"
    ):
        partly_labeled({"train": unlabeled})


@pytest.mark.parametrize("split", ["train", "test"])
def test_all_labels_of_decoded_splits_are_checked(partly_labeled, split, monkeypatch):
    monkeypatch.setattr("keras_arch.data.tfds.LABELS_READ", 2)
    with pytest.raises(
        keras_arch.InputError, match=f"{split} split of 'partly_labeled' has images without a label"
    ):
        partly_labeled({split: slice(7, 8)})


# --- data in the cloud ---

URL = "gs://bucket-of-nobody/data"


@pytest.fixture
def no_cloud(monkeypatch):
    """Let TFDS fail as without a network. Return the list of directories that it was given."""
    seen = []

    def builder(name, data_dir):
        seen.append(data_dir)
        raise RuntimeError("Failed to construct") from OSError("Could not resolve host")

    monkeypatch.setattr(tfds, "builder", builder)
    return seen


def test_a_url_reaches_tfds_unchanged(no_cloud, script, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    words = ("--dataset", "fashion_mnist", "--data-dir", URL, "--output", tmp_path / "run")
    assert script("train.py", "quickstart", *words) == 2
    assert no_cloud == [URL]
    assert capfd.readouterr().err == (
        f"error: 'fashion_mnist' cannot be read in {URL}. Received: Could not resolve host. "
        "Check the URL, the network and your credentials.\n"
    )
    assert list(tmp_path.iterdir()) == []  # no directory named "gs:"


def test_other_errors_of_tfds_are_not_hidden(no_cloud):
    with pytest.raises(RuntimeError, match="Failed to construct"):
        keras_arch.load_dataset("fashion_mnist", "data")


def test_a_url_without_a_slash_is_refused():
    with pytest.raises(keras_arch.InputError, match=r"must be text.* Received: gs:/bucket"):
        keras_arch.load_dataset("fashion_mnist", Path(URL))


@pytest.mark.parametrize(("given", "recorded"), [(URL, URL), (None, None), ("a", "{here}/a")])
def test_run_json_has_a_url_unchanged(given, recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = recorded and recorded.format(here=tmp_path.resolve())
    assert resolve_data_dir(given) == expected
