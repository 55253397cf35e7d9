"""The examples, run with tiny settings and compared with independent numbers."""

import dataclasses
import importlib
import json
import re

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import keras_arch
from keras_arch.data.splits import InMemory


@pytest.fixture
def example(monkeypatch):
    """Return a function that imports an example by name, as `python examples/NAME.py` does."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module


@pytest.fixture
def loaded(monkeypatch, digits):
    """Replace `load_dataset` by the digits in the test directory."""
    monkeypatch.setattr(keras_arch, "load_dataset", {"digits": digits}.__getitem__, raising=False)
    return digits


@pytest.fixture
def small_digits(monkeypatch, digits):
    """Replace `load_dataset` by 160 digits, and train eagerly, which is faster for few steps."""
    compile_model = keras.Model.compile
    monkeypatch.setattr(
        keras.Model,
        "compile",
        lambda *args, **kwargs: compile_model(*args, run_eagerly=True, **kwargs),
    )
    few = InMemory(digits.train.images[:160], digits.train.labels[:160])
    some = dataclasses.replace(digits, train=few)
    monkeypatch.setattr(keras_arch, "load_dataset", {"digits": some}.__getitem__, raising=False)
    return some


def weights_of(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def test_one_by_one_convolution_computes_costs_and_draws_a_plot(
    example, small_digits, tmp_path, capsys
):
    figure = tmp_path / "plot.svg"
    arguments = [
        "--batch",
        "1",
        "--rounds",
        "2",
        "--epochs",
        "1",
        "--seeds",
        "1",
        "--output",
        str(figure),
    ]
    difference, shrunk, networks = example("one_by_one_convolution").main(arguments)
    assert difference < 1e-4
    pixels, large = 28 * 28, 5 * 5 * 32
    assert [row["multiply_adds"] for row in shrunk] == [
        pixels * 192 * large,
        *(pixels * (192 * channels + channels * large) for channels in (16, 32, 64, 128)),
    ]
    assert all(row["milliseconds"] > 0 and row["share_of_time"] > 0 for row in shrunk)
    nin, plain = networks
    # Kernels and biases of each convolution, for grayscale images and ten classes.
    assert (
        plain["parameters"] == 25 * 192 + 25 * 192 * 192 + 9 * 192 * 192 + 3 * 192 + 192 * 10 + 10
    )
    # 8x8 pixels, pooled to 4x4 and 2x2; the dense layer sees one vector.
    assert (
        plain["multiply_adds"] == 64 * 25 * 192 + 16 * 25 * 192 * 192 + 4 * 9 * 192 * 192 + 192 * 10
    )
    assert nin["parameters"] < plain["parameters"]
    assert nin["accuracies"].shape == plain["accuracies"].shape == (1, 1)
    assert figure.read_text().endswith("</svg>\n")
    assert "1,260,682" in capsys.readouterr().out


def test_one_by_one_convolution_in_numpy(example):
    """Both layers of the example are a sum over channels."""
    maps = np.random.default_rng(0).standard_normal((2, 3, 4, 6), "float32")
    difference, largest = example("one_by_one_convolution").difference_from_dense(maps, 5)
    convolution = keras.layers.Conv2D(5, 1)
    convolved = np.asarray(convolution(maps))
    kernel, bias = convolution.get_weights()
    np.testing.assert_allclose(
        convolved, np.einsum("bhwc,cf->bhwf", maps, kernel[0, 0]) + bias, rtol=1e-4, atol=1e-5
    )
    assert difference < 1e-5 < 0.1 < largest


def test_plain_cnn_normalizes_as_network_in_network(example):
    networks = (keras_arch.NetworkInNetwork, example("one_by_one_convolution").plain_cnn)
    images = np.arange(64, dtype="float32").reshape(1, 8, 8, 1) * 4
    ours, plain = (
        next(
            layer
            for layer in build(input_shape=(8, 8, 1), classes=10).layers
            if "Rescaling" in type(layer).__name__
        )
        for build in networks
    )
    np.testing.assert_allclose(plain(images), ours(images), atol=0.02)


def test_why_resnets_work_records_losses_and_gradient_norms(
    example, small_digits, monkeypatch, tmp_path, capsys
):
    why, figure = example("why_resnets_work"), tmp_path / "curves.svg"
    monkeypatch.setattr(
        keras_arch, "load_dataset", lambda name, data_dir: {"digits": small_digits}[name]
    )
    for title in ("plain 56", "residual 56", "residual 56, zero"):
        monkeypatch.delitem(why.NETWORKS, title)
    rows = why.main(["--images", "64", "--epochs", "2", "--output", str(figure)])
    assert [(row["network"], len(row["loss"]), len(row["gradient_norms"])) for row in rows] == [
        ("plain 20", 2, 19),  # the stem and nine blocks of two
        ("residual 20", 2, 19),
    ]
    assert figure.read_text().endswith("</svg>\n")
    printed = capsys.readouterr().out
    assert "residual block: maximum |output - input| is 0\n" in printed
    assert "plain block: maximum |output| is 0\n" in printed


def test_gradient_norm_is_the_steepest_slope(example, digits):
    """Compare with central differences of the loss in the first kernel."""
    why = example("why_resnets_work")
    keras.utils.set_random_seed(0)
    model = keras_arch.ResNet8(input_shape=(8, 8, 1), classes=10)
    before = weights_of(model)
    norms = why.gradient_norms(model, digits)
    assert all(np.array_equal(values, before[path]) for path, values in weights_of(model).items())
    images, labels = digits.train.sample(why.GRADIENT_IMAGES, seed=1)
    kernel = next(layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)).kernel
    answer = tf.function(lambda: model(images, training=True))

    def loss(value):
        kernel.assign(value)
        return -np.log(answer().numpy()[np.arange(len(labels)), labels]).mean(dtype="float64")

    start, step = kernel.numpy(), 1e-2
    slopes = np.zeros(start.shape)
    for place in np.ndindex(start.shape):
        moved = np.zeros_like(start)
        moved[place] = step
        slopes[place] = (loss(start + moved) - loss(start - moved)) / (2 * step)
    np.testing.assert_allclose(norms[0], np.linalg.norm(slopes), rtol=0.02)


def test_gradient_grows_with_depth_without_skips_alone(example, digits):
    """Batch norm causes this (Yang et al. 2019, arXiv:1902.08129), and skips prevent it."""
    first = {}
    for name in ("plain56", "resnet56"):
        keras.utils.set_random_seed(0)
        model = keras_arch.build(name, input_shape=(8, 8, 1), classes=10)
        first[name] = example("why_resnets_work").gradient_norms(model, digits)[0]
    assert first["plain56"] > 20 * first["resnet56"]


def test_inception_cost_computes_costs_and_draws_a_plot(example, tmp_path, capsys):
    figure = tmp_path / "bars.png"
    rows = example("inception_cost").main(
        ["--batch", "1", "--rounds", "2", "--output", str(figure)]
    )
    pixels = 28 * 28
    assert [row["multiply_adds"] for row in rows] == [
        120_422_400,
        12_443_648,
        pixels * 192 * (64 + 9 * 128 + 25 * 32),
        pixels * (192 * (64 + 96 + 16 + 32) + 9 * 96 * 128 + 25 * 16 * 32),
    ]
    assert [row["channels"] for row in rows] == [32, 32, 64 + 128 + 32 + 192, 64 + 128 + 32 + 32]
    assert [row["share_of_time"] for row in rows][::2] == [1, 1]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "120,422,400" in capsys.readouterr().out


def test_times_are_taken_in_turns(example, monkeypatch):
    turns = []

    def noted(title):
        def model(images, training):
            turns.append(title)
            return images

        return model

    timing = example("timing")
    monkeypatch.setattr(timing.tf, "function", lambda model: model)
    times = timing.time_in_turns(
        {"a": noted("a"), "b": noted("b")}, np.zeros((4, 2, 2, 1), "float32"), 3
    )
    assert turns == ["a", "b"] * 4
    assert {name: found.shape for name, found in times.items()} == {"a": (3,), "b": (3,)}
    # The median of 0.5, 2 and 3, which is not the ratio of the medians 2 and 2.
    assert timing.median_ratio(np.array([1.0, 2.0, 9.0]), np.array([2.0, 1.0, 3.0])) == 2


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
    title, install = notebook[:2]
    link = "https://colab.research.google.com/github/keras-arch/keras_arch/blob/main/"
    assert f"({link}examples/quickstart.ipynb)" in "".join(title["source"])
    installed = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run_cell(install, {"pip": installed.append})
    assert installed == [["install", "--quiet", '"keras_arch[all]"']]


def test_short_examples():
    for name in ("custom_resnet", "feature_extractor", "fine_tune"):
        assert len((ROOT / "examples" / f"{name}.py").read_text().splitlines()) <= 70, name
