"""Damaged .weights.h5 files raise an error of one line. The model is unchanged."""

import h5py
import numpy as np
import pytest

import keras_arch

KIND = "resnet8"


@pytest.fixture(scope="module")
def model():
    return keras_arch.ResNet8(input_shape=(8, 8, 1))


@pytest.fixture(scope="module")
def content(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.weights.h5"
    model.save_weights(path)
    return path.read_bytes()


def noise(content, seed, end, count):
    """Return `content` with `count` random bytes before `end` and after the HDF5 signature."""
    random = np.random.default_rng(seed)
    changed = np.frombuffer(content, "uint8").copy()
    changed[random.integers(8, end, count)] = random.integers(0, 256, count)
    return changed.tobytes()


DAMAGES = {
    "empty": lambda content: b"",
    "text": lambda content: b"no weights at all",
    "the signature alone": lambda content: content[:8],
    "the first 600 bytes": lambda content: content[:600],
    "half": lambda content: content[: len(content) // 2],
    "the last 100 bytes cut": lambda content: content[:-100],
    **{
        f"noise in the header {seed}": lambda content, seed=seed: noise(content, seed, 4000, 40)
        for seed in range(8)
    },
    **{
        f"noise anywhere {seed}": lambda content, seed=seed: noise(
            content, seed, len(content), 4000
        )
        for seed in range(4)
    },
}


def check(model, path):
    before = model.get_weights()
    for load in (
        lambda: keras_arch.transfer_weights(model, path, KIND),
        lambda: keras_arch.ResNet8(input_shape=(8, 8, 1), weights=path),
    ):
        with pytest.raises(keras_arch.InputError, match="weights") as excinfo:
            load()
        text = str(excinfo.value)
        assert path.name in text
        assert "\n" not in text
        assert len(text) - len(str(path)) < 300
    for ours, theirs in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged(damage, model, content, tmp_path):
    path = tmp_path / "damaged.weights.h5"
    path.write_bytes(DAMAGES[damage](content))
    check(model, path)


@pytest.mark.parametrize(
    "change", ["nothing in it", "other keys", "numbers for a group", "text for numbers"]
)
def test_other_contents(change, model, content, tmp_path):
    path = tmp_path / "other.weights.h5"
    path.write_bytes(content)
    with h5py.File(path, "a") as file:
        names: list[str] = []
        file.visit(names.append)
        kernel = next(name for name in names if isinstance(file[name], h5py.Dataset))
        shape = file[kernel].shape
        if change == "text for numbers":
            del file[kernel]
            file[kernel] = np.full(shape, b"x")
        else:
            del file["layers"]
        if change == "other keys":
            file["encoder/kernel"] = np.zeros(shape)
        elif change == "numbers for a group":
            file["layers"] = np.zeros(3)
    check(model, path)


def test_complete(model, content, tmp_path):
    path = tmp_path / "complete.weights.h5"
    path.write_bytes(content)
    other = keras_arch.ResNet8(input_shape=(8, 8, 1), weights=path)
    for ours, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_train_says_one_line(script, tmp_path, data_dir, digits, capfd):
    (tmp_path / "damaged.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(3000))
    words = (
        "quickstart",
        "--weights",
        tmp_path / "damaged.weights.h5",
        "--data-dir",
        data_dir,
        "--output",
        tmp_path / "run",
    )
    assert script("train.py", *words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "damaged.weights.h5" in line
    assert not (tmp_path / "run").exists()
