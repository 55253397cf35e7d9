"""The examples, run with tiny settings and compared with independent numbers."""

import dataclasses
import json
import re

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT, weights_of

import keras_arch


@pytest.fixture
def loaded(monkeypatch, digits):
    """Replace `load_dataset` by the digits in the test directory."""
    monkeypatch.setattr(keras_arch, "load_dataset", {"digits": digits}.__getitem__, raising=False)
    return digits


@pytest.mark.slow
def test_fine_tune_trains_the_head_and_then_all_layers(example, small_digits, monkeypatch, capsys):
    fine_tune = example("fine_tune")
    learn, phases = fine_tune.learn, []

    def watched(model, *arguments):
        before = weights_of(model)
        accuracy = learn(model, *arguments)
        after = weights_of(model)
        phases.append(
            (
                before,
                after,
                {path for path in before if not np.array_equal(before[path], after[path])},
            )
        )
        return accuracy

    monkeypatch.setattr(fine_tune, "learn", watched)
    with pytest.warns(keras_arch.DataWarning, match="layers from scratch: predictions"):
        fine_tune.main(["--epochs", "1"])
    (_, learned, _), (transferred, _, of_head), (_, _, of_all) = phases
    assert of_head == {"predictions/kernel", "predictions/bias"}
    assert all(
        np.array_equal(transferred[path], learned[path])
        for path in learned
        if "predictions" not in path
    )
    assert transferred["predictions/bias"].shape == (4,)
    assert of_all == set(transferred)
    printed = capsys.readouterr().out.splitlines()
    assert [line[:6] for line in printed] == ["0 to 5", "6 to 9", "6 to 9"]


def test_fine_tune_begins_with_given_weights(example, small_digits, monkeypatch, tmp_path):
    fine_tune, seen = example("fine_tune"), []
    keras.utils.set_random_seed(7)
    model = keras_arch.ResNet8(input_shape=(8, 8, 1), classes=10)
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(fine_tune, "learn", lambda tuned, *_: seen.append(weights_of(tuned)) or 0.5)
    with pytest.warns(keras_arch.DataWarning, match="layers from scratch: predictions"):
        fine_tune.main(["--weights", str(tmp_path)])
    assert len(seen) == 2  # nothing was trained on 0 to 5
    for path, values in weights_of(model).items():
        assert np.array_equal(seen[0][path], values) == (
            "predictions/kernel" not in path and path != "predictions/bias"
        )


def test_fine_tune_picks_digits(example, digits):
    images, labels = example("fine_tune").pick(digits.test, [6, 7, 8, 9])
    expected = [
        (image, label - 6)
        for image, label in digits.test.examples.as_numpy_iterator()
        if label >= 6
    ]
    np.testing.assert_array_equal(images, [image for image, _ in expected])
    np.testing.assert_array_equal(labels, [label for _, label in expected])


@pytest.mark.slow
def test_custom_resnet(example, loaded, capsys):
    custom_resnet = example("custom_resnet")
    fresh = custom_resnet.build_model((8, 8, 1), 10)
    before_blocks = keras.Model(
        fresh.input, [fresh.get_layer("stem").output, fresh.get_layer("stage1_block2_out").output]
    )
    stem, after = before_blocks(loaded.test.images[:4].astype("float32"))
    # Blocks start as identity mappings. The ReLU of the stem leaves no negative values.
    np.testing.assert_array_equal(stem, after)
    assert sum("drop" in layer.name for layer in fresh.layers) == 4
    _, accuracy = custom_resnet.main(["--epochs", "3"])
    assert accuracy > 0.5  # guessing is right for one in ten
    assert f"{accuracy:.1%}" in capsys.readouterr().out


def test_feature_extractor(example, small_digits, tmp_path, capsys):
    keras.utils.set_random_seed(7)
    model = keras_arch.ResNet8(input_shape=(8, 8, 1), classes=10)
    model.save(tmp_path / "model.keras")
    _, (train, test) = example("feature_extractor").main(
        ["--weights", str(tmp_path / "model.keras")]
    )
    assert train.shape == (160, 64)
    # The vectors are the input of the complete network's classifier.
    kernel, bias = model.get_layer("predictions").get_weights()
    scores = np.exp(test @ kernel + bias)
    whole = model.predict(small_digits.test.images, verbose=0)
    np.testing.assert_allclose(
        scores / scores.sum(axis=1, keepdims=True), whole, rtol=1e-3, atol=1e-5
    )
    logistic, nearest = capsys.readouterr().out.splitlines()
    # The nearest neighbor in numpy: distances of all test images to all training images.
    pixels = [
        split.images.reshape(split.count, -1).astype("int64")
        for split in (small_digits.test, small_digits.train)
    ]
    distances = ((pixels[0][:, None] - pixels[1]) ** 2).sum(axis=2)
    right = small_digits.train.labels[distances.argmin(axis=1)] == small_digits.test.labels
    assert nearest.endswith(f"{right.mean():.1%} from pixels")
    assert logistic.startswith("logistic regression")


def test_feature_extractor_trains_its_backbone(example, small_digits):
    backbone = keras_arch.ResNet8(include_top=False, pooling="avg", input_shape=(8, 8, 1))
    before = weights_of(backbone)
    example("feature_extractor").train(backbone, small_digits, 1)
    assert all(
        not np.array_equal(values, before[path]) for path, values in weights_of(backbone).items()
    )


@pytest.fixture
def notebook():
    """The cells of the notebook."""
    path = ROOT / "examples" / "quickstart.ipynb"
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def run_cell(cell, namespace):
    """Run a code cell. A line `%pip ...` calls `namespace["pip"]` with its words."""
    lines = re.sub(r"%pip (.*)", lambda line: f"pip({line[1].split()!r})", "".join(cell["source"]))
    exec(compile(lines, cell["id"], "exec"), namespace)


@pytest.mark.slow
def test_notebook_runs_outside_the_clone(notebook, digits, monkeypatch, capsys, tmp_path):
    """Run every cell in order in an empty directory and compare with the saved outputs."""
    cells = [cell for cell in notebook if cell["cell_type"] == "code"]
    monkeypatch.chdir(tmp_path)
    data = dataclasses.replace(digits, class_names=tuple(f"digit {name}" for name in range(10)))
    monkeypatch.setattr(keras_arch, "load_dataset", {"digits": data}.__getitem__, raising=False)
    # Eight epochs are enough for the assertions below.
    few = dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=8)
    monkeypatch.setitem(keras_arch.RECIPES, "quickstart", few)
    installed, printed = [], []
    namespace = {"__name__": "__main__", "pip": installed.append}
    with matplotlib.rc_context({"backend": "agg"}):
        for cell in cells:
            run_cell(cell, namespace)
            printed.append(capsys.readouterr().out)
            if plt.get_fignums():
                assert any("image/png" in output.get("data", {}) for output in cell["outputs"])
            plt.close("all")
    assert installed == []
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert [bool(text) for text in printed] == [
        any("text" in output for output in cell["outputs"]) for cell in cells
    ]
    first, second, *_ = printed[-1].splitlines()
    true = data.class_names[data.test.sample(1, seed=0)[1][0]]
    assert first == f"true class {true}"
    assert second.startswith(f"{true} ")
    assert printed[-2].count("; ok") == 2
    assert namespace["metrics"].top1 > 0.9


def test_notebook_installs_the_package_if_it_is_missing(notebook, monkeypatch):
    installed = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run_cell(notebook[1], {"pip": installed.append})
    (words,) = installed
    assert words[:2] == ["install", "--quiet"]
    assert words[2].startswith('"keras_arch[all]')


def test_short_examples():
    for name in ("custom_resnet", "feature_extractor", "fine_tune"):
        assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) <= 70, name
