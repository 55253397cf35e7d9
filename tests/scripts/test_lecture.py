"""The lecture's examples, run with tiny settings and compared with independent numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import weights_of

import keras_arch


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
