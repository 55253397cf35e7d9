"""Temperature scaling, compared with a grid search and with softmax(log p / temperature)."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from run_files import confident_model
from scipy.special import softmax
from sklearn.metrics import log_loss

import keras_arch
from keras_arch.evaluation.calibration import (
    RESAMPLES,
    Acceptance,
    accept,
    find_threshold,
    fit_temperature,
    resample_ece,
    to_probabilities,
)
from keras_arch.evaluation.metrics import bin_confidence, wilson_interval
from keras_arch.evaluation.temperature import (
    copy_model,
    find_scaled_layers,
    scale_layer,
    without_softmax,
)

RNG = np.random.default_rng(0)


def draw(images=4000, classes=5, scale=1.0):
    """Return logits whose calibrated temperature is `scale`, and labels drawn from them."""
    logits = RNG.normal(0, 2, (images, classes))
    shares = softmax(logits, axis=1).cumsum(axis=1)
    return scale * logits, (RNG.random((images, 1)) > shares).sum(axis=1).clip(max=classes - 1)


# --- numbers ---


@pytest.mark.parametrize("scale", [0.2, 1, 3.5])
def test_the_temperature_is_the_minimum_of_a_grid_search(scale):
    logits, labels = draw(1000, scale=scale)
    grid = np.geomspace(scale / 1.4, scale * 1.4, 301)  # steps of 0.2%
    losses = [log_loss(labels, softmax(logits / one, axis=1)) for one in grid]
    best = grid[np.argmin(losses)]
    found = fit_temperature(logits.astype("float32"), labels)
    assert found == pytest.approx(best, rel=2.5e-3)
    assert log_loss(labels, softmax(logits / found, axis=1)) <= min(losses) + 1e-9
    assert found == pytest.approx(scale, rel=0.15)  # the labels are random


def test_the_temperature_of_confident_logits_does_not_underflow():
    """A softmax of these logits has zeros, whose logarithm is not finite."""
    logits, labels = draw(scale=300)
    half = logits / 6  # the best temperature is 50
    assert (softmax(half.astype("float32"), axis=1) == 0).any()
    assert fit_temperature(half, labels) == pytest.approx(50, rel=0.06)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (lambda logits, labels: 9 * np.eye(5)[labels], "Received: 4,000 of 4,000 correct"),
        (lambda logits, labels: -logits, "must be better than chance on validation"),
        (lambda logits, labels: 0 * logits, "must be better than chance on validation"),
        (lambda logits, labels: logits + np.nan, "must be finite"),
    ],
    ids=["perfect", "reversed", "constant", "NaN"],
)
def test_logits_without_a_best_temperature_are_refused(logits, message):
    given, labels = draw()
    with pytest.raises(keras_arch.InputError, match=message):
        fit_temperature(logits(given, labels), labels)


def test_the_interval_is_that_of_resampled_images():
    confidence, right = RNG.uniform(0.2, 1, 300), RNG.random(300) < 0.6
    rng, found = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, 300, 300)
        bins = bin_confidence(confidence[chosen], right[chosen])
        found.append(sum(one.images * abs(one.confidence - one.accuracy) for one in bins) / 300)
    bins = bin_confidence(confidence, right)
    ece = sum(one.images * abs(one.confidence - one.accuracy) for one in bins) / 300
    low, high = np.percentile(found, (2.5, 97.5)) - np.mean(found) + ece
    assert resample_ece(confidence, right) == pytest.approx((low, high))


def test_the_interval_of_calibrated_probabilities_contains_their_ece():
    """Without the correction, it would begin above the ECE."""
    confidence = RNG.uniform(0.2, 1, 300)
    right = RNG.random(300) < confidence
    bins = bin_confidence(confidence, right)
    low, high = resample_ece(confidence, right)
    ece = sum(one.images * abs(one.confidence - one.accuracy) for one in bins) / 300
    assert 0 <= low < ece < high


FOUR = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]], "float32")
FOUR_LABELS = np.array([0, 1, 1, 1])  # the third image is wrong


def test_acceptance_by_hand():
    assert accept(FOUR, FOUR_LABELS, 0) == Acceptance(0, 1, 3 / 4, wilson_interval(3, 4))
    assert accept(FOUR, FOUR_LABELS, 0.7) == Acceptance(0.7, 0.5, 1, wilson_interval(2, 2))
    assert accept(FOUR, FOUR_LABELS, 0.95) == Acceptance(0.95, 0, None, None)


@pytest.mark.parametrize(("accuracy", "threshold"), [(0.75, 0), (0.8, 0.7), (1, 0.7)])
def test_the_threshold_is_the_lowest_that_reaches_the_accuracy(accuracy, threshold):
    """float32(0.7) is below 0.7, so 0.7 does not accept the wrong image."""
    assert find_threshold(FOUR, FOUR_LABELS, accuracy) == threshold


def test_no_threshold_reaches_the_accuracy_of_a_wrong_model():
    assert find_threshold(FOUR, 1 - FOUR_LABELS, 0.99) is None


# --- folding ---


def dense(**options):
    return layers.Dense(4, name="head", **options)


def conv(**options):
    return layers.Conv2D(4, 1, name="head", **options)


def pool():
    return layers.GlobalAveragePooling2D()


HEADS = {  # {name: layers after 8x8x3 images}
    "dense": [layers.Flatten, lambda: dense(activation="softmax")],
    "dense, activation": [layers.Flatten, dense, lambda: layers.Activation("softmax")],
    "dense, softmax layer": [layers.Flatten, dense, layers.Softmax],
    "dense, operation": [layers.Flatten, dense, lambda: keras.ops.softmax],
    "no bias": [layers.Flatten, lambda: dense(use_bias=False, activation="softmax")],
    "dropout": [layers.Flatten, dense, lambda: layers.Dropout(0.5), layers.Softmax],
    "convolution, pooling": [conv, layers.ReLU, pool, layers.Softmax],
    "relu inside": [lambda: conv(activation="relu"), pool, layers.Softmax],
    "batch normalization": [
        *(lambda: layers.Conv2D(4, 1), lambda: layers.BatchNormalization(name="head")),
        *(layers.ReLU, pool, lambda: layers.Activation("softmax")),
    ],
    "flat map": [lambda: layers.Conv2D(4, 8, name="head"), layers.Flatten, layers.Softmax],
    "nested": [
        layers.Flatten,
        lambda: keras.Sequential([layers.Dense(9), dense(activation="softmax")]),
    ],
}


def build(parts):
    """Return a model with random weights, also of its batch normalization."""
    image = x = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 50)(x)
    for part in parts:
        x = part()(x) if part is not HEADS["dense, operation"][2] else keras.ops.softmax(x)
    model = keras.Model(image, x, name="net")
    model.set_weights(
        [
            np.abs(RNG.normal(0, 0.3, weight.shape))
            if "variance" in weight.path
            else RNG.normal(0, 0.3, weight.shape)
            for weight in model.weights
        ]
    )
    return model


def run(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


@pytest.mark.parametrize("name", HEADS)
def test_a_scaled_layer_scales_the_logits(name):
    model = build(HEADS[name])
    images = RNG.integers(0, 256, (64, 8, 8, 3)).astype("float32")
    before, weights = run(model, images), model.get_weights()
    copy = copy_model(model)
    with without_softmax(copy) as logits_model:
        layer, *_ = find_scaled_layers(logits_model.outputs[0])
        logits = run(logits_model, images)
    assert layer.name == "head"
    np.testing.assert_allclose(softmax(logits, axis=1), before, atol=1e-6)
    scale_layer(layer, 2.5)
    found = run(copy, images)
    expected = softmax(np.log(before.astype("float64")) / 2.5, axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=1), before.argmax(axis=1))
    assert np.abs(found - before).max() > 0.01
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    kept = [(type(layer), layer.name) for layer in model.layers[1:]]
    assert [(type(layer), layer.name) for layer in copy.layers[1:]] == kept


REFUSED = {
    "relu 6": ([conv, lambda: layers.ReLU(6), pool, layers.Softmax], "Received: re_lu"),
    "sigmoid": ([layers.Flatten, lambda: dense(activation="sigmoid")], "end in a softmax"),
    "logits": ([layers.Flatten, dense], r"Received: the layer head \(Dense\)"),
    "softmax over pixels": ([conv, lambda: layers.Softmax(axis=1), pool], "end in a softmax"),
    "tanh": ([conv, lambda: layers.Activation("tanh"), pool, layers.Softmax], "Activation"),
    "no layer": ([pool, layers.Softmax], "Received: rescaling"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_end_is_refused(name):
    parts, message = REFUSED[name]
    copy = copy_model(build(parts))
    with pytest.raises(keras_arch.InputError, match=message), without_softmax(copy) as model:
        find_scaled_layers(model.outputs[0])


def test_a_sequential_model_is_scaled():
    """Its augmentation is copied, too. The temperature is below 1."""
    parts = [layers.RandomFlip(), layers.Flatten(), dense(activation="softmax")]
    model = keras.Sequential([keras.Input((8, 8, 3)), *parts])
    images = RNG.uniform(0, 1, (9, 8, 8, 3)).astype("float32")
    copy = copy_model(model)
    with without_softmax(copy) as logits_model:
        scale_layer(find_scaled_layers(logits_model.outputs[0])[0], 0.5)
    expected = run(model, images) ** 2
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run(copy, images), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "layer"), [("resnet8", "predictions"), ("nin", "mlpconv3_mlp2")])
def test_the_scaled_layer_of_a_builder(name, layer, zero_kernels):
    model = copy_model(keras_arch.build(name))
    with without_softmax(model) as logits_model:
        assert find_scaled_layers(logits_model.outputs[0])[0].name == layer


# --- a model and its data ---


@pytest.fixture(scope="module")
def model(digits):
    return confident_model(digits)


def test_calibrate_equals_the_grid_search(model, digits):
    calibrated, found = keras_arch.calibrate(model, digits)
    shares = {
        split: model.predict(getattr(digits, split).images, verbose=0).astype("float64")
        for split in ("validation", "test")
    }
    labels, given = digits.test.labels, shares["test"]
    grid = np.geomspace(1, 9, 601)  # steps of 0.4%
    losses = [
        log_loss(digits.validation.labels, softmax(np.log(shares["validation"]) / one, axis=1))
        for one in grid
    ]
    assert found.temperature == pytest.approx(grid[np.argmin(losses)], rel=4e-3)
    after = calibrated.predict(digits.test.images, verbose=0)
    np.testing.assert_array_equal(after.argmax(axis=1), shares["test"].argmax(axis=1))
    assert found.before.nll == pytest.approx(
        log_loss(labels, given / given.sum(axis=1, keepdims=True)), rel=1e-4
    )
    after_shares = after.astype("float64") / after.sum(axis=1, keepdims=True, dtype="float64")
    assert found.after.nll == pytest.approx(log_loss(labels, after_shares), rel=1e-4)
    assert found.after.nll < found.before.nll
    for one in (found.before, found.after):
        assert one.ece_interval[0] < one.ece_interval[1]
    assert [row.threshold for row in found.accepted] == [0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
    assert found.accepted[0].share == 1
    sure = after.max(axis=1) >= found.recommended.threshold
    assert found.recommended.share == pytest.approx(sure.mean())
    right = after.argmax(axis=1) == labels
    assert found.recommended.accuracy == pytest.approx(right[sure].mean())
    validation = calibrated.predict(digits.validation.images, verbose=0)
    sure = validation.max(axis=1) >= found.recommended.threshold
    assert (validation.argmax(axis=1) == digits.validation.labels)[sure].mean() >= 0.99


def test_a_calibrated_model_has_temperature_1(model, digits):
    calibrated, _ = keras_arch.calibrate(model, digits)
    _, found = keras_arch.calibrate(calibrated, digits, accuracy=0.5)
    assert found.temperature == pytest.approx(1, rel=1e-3)
    assert (found.accuracy, found.recommended.threshold) == (0.5, 0)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_missing_split_is_refused(split, model, digits):
    data = dataclasses.replace(digits, **{split: getattr(digits, split).slice(0, 0)})
    with pytest.raises(keras_arch.InputError, match=f"must have a {split} split"):
        keras_arch.calibrate(model, data)


def test_a_perfect_model_is_refused(model, digits):
    right = model.predict(digits.validation.images, verbose=0).argmax(axis=1)
    validation = dataclasses.replace(digits.validation, labels=right)
    with pytest.raises(keras_arch.InputError, match="Received: 144 of 144 correct"):
        keras_arch.calibrate(model, dataclasses.replace(digits, validation=validation))


def test_a_temperature_that_does_not_suit_the_test_split_is_a_warning(model, digits):
    """One wrong validation image with a small margin gives a low temperature."""
    shares = model.predict(digits.validation.images, verbose=0)
    labels = shares.argmax(axis=1)
    second, first = np.argsort(shares, axis=1)[:, -2:].T
    rows = np.arange(len(labels))
    closest = (shares[rows, first] - shares[rows, second]).argmin()
    labels[closest] = second[closest]
    validation = dataclasses.replace(digits.validation, labels=labels)
    with pytest.warns(keras_arch.DataWarning, match="is worse on test") as warned:
        keras_arch.calibrate(model, dataclasses.replace(digits, validation=validation))
    assert len(str(warned[0].message)) < 290


def test_a_layer_that_is_used_twice_is_refused(digits):
    """Its first use would be divided, too."""
    image = keras.Input((8, 8, 1))
    x = layers.Dense(10)(layers.Flatten()(layers.Rescaling(1 / 255)(image)))
    shared = layers.Dense(10, use_bias=False)
    model = keras.Model(image, layers.Softmax()(shared(shared(x))))
    model.set_weights([RNG.normal(size=weight.shape) for weight in model.weights])
    labels = model.predict(digits.validation.images, verbose=0).argmax(axis=1)
    labels[:70] = RNG.integers(0, 10, 70)  # so that there is a temperature
    data = dataclasses.replace(
        digits, validation=dataclasses.replace(digits.validation, labels=labels)
    )
    with pytest.raises(keras_arch.InputError, match="must scale the logits"):
        keras_arch.calibrate(model, data)


def test_probabilities_are_those_of_the_divided_logits():
    logits = np.array([[2.0, 0, -2]], "float32")
    expected = np.exp([1, 0, -1]) / np.exp([1, 0, -1]).sum()
    np.testing.assert_allclose(to_probabilities(logits, 2)[0], expected, rtol=1e-6)
