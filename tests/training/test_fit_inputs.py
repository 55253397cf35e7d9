"""What people bring to `fit`: arrays, tf.data, callbacks, metrics, augmentation and loss."""

import csv
import dataclasses
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_checks import DATA, IMAGES, LABELS, RECIPE, small

import keras_arch
from keras_arch.class_names import read_packed_labels
from keras_arch.data.convert import explain_batches, to_dataset
from keras_arch.data.pipeline import evaluation_batches, training_batches
from keras_arch.data.policies import check_augment, policy_of

PAIR = ((IMAGES, LABELS), (IMAGES, LABELS))


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Train eagerly, which is faster for few steps."""
    compile_model = keras.Model.compile
    monkeypatch.setattr(
        keras.Model, "compile", lambda *args, **kw: compile_model(*args, run_eagerly=True, **kw)
    )


def train(folder, model=None, data=DATA, recipe=RECIPE, **hooks):
    keras.utils.set_random_seed(0)
    model = small() if model is None else model
    history = keras_arch.fit(model, data, recipe, folder, **hooks)
    return {name: column for name, column in history.items() if name != "seconds"}


def batched(images=IMAGES, labels=LABELS, size=4):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(size)


# --- data ---


def test_arrays_train_as_the_same_dataset(tmp_path):
    folder = tmp_path / "new" / "run"  # is made
    assert train(str(folder), data=PAIR) == train(tmp_path / "dataset")
    assert read_packed_labels(folder / "model.keras") == ("0", "1", "2")


def test_arrays_of_other_types_and_shapes():
    """Float images without channels, and labels of shape (images, 1)."""
    floats = (IMAGES[..., 0] * 0.999, LABELS[:, np.newaxis].astype("uint8"))
    train = to_dataset([floats, floats], 3).train
    assert train.images.dtype == np.uint8
    np.testing.assert_array_equal(train.images, IMAGES)
    np.testing.assert_array_equal(train.labels, LABELS)


@pytest.mark.parametrize("shape", [pytest.param((None, 1), marks=pytest.mark.slow), None])
def test_labels_of_batches_may_have_a_second_axis(shape):
    """As in keras.datasets.cifar10. The shape of labels may be unknown."""

    def change(images, labels):
        column = tf.numpy_function(lambda labels: labels[:, np.newaxis], [labels], tf.int64)
        return images, tf.ensure_shape(column, shape)

    data = to_dataset((batched(size=5).map(change), batched().map(change)), 3)
    np.testing.assert_array_equal(data.train.labels, LABELS)
    batches = training_batches(data, RECIPE).as_numpy_iterator()
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in batches]), np.eye(3)[LABELS]
    )


def test_batches_train_in_their_order():
    """Every image of each epoch is seen once, in the order of the tf.data.Dataset."""
    pair = (batched(size=5), batched(size=12))
    data = to_dataset(pair, 3)
    recipe = dataclasses.replace(RECIPE, epochs=2)
    batches = list(training_batches(data, recipe).as_numpy_iterator())
    assert [len(images) for images, _ in batches] == [5, 5, 2] * 2
    np.testing.assert_array_equal(
        np.concatenate([images for images, _ in batches]), np.concatenate([IMAGES, IMAGES])
    )
    np.testing.assert_array_equal(
        np.concatenate([labels for _, labels in batches]), np.eye(3)[np.tile(LABELS, 2)]
    )
    ((images, _),) = evaluation_batches(data.validation, 3, 256).as_numpy_iterator()
    np.testing.assert_array_equal(images, IMAGES)


def test_shuffled_batches_have_another_order_in_each_epoch():
    shuffled = batched(IMAGES, np.arange(12), 1).shuffle(12, seed=0)
    data = to_dataset((shuffled, batched()), 12)
    recipe = dataclasses.replace(RECIPE, epochs=2)
    seen = [labels.argmax() for _, labels in training_batches(data, recipe).as_numpy_iterator()]
    first, second = seen[:12], seen[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_batches_of_a_directory_have_its_class_names(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            keras.utils.save_img(tmp_path / "images" / name / f"{number}.png", IMAGES[number])
    read = {"image_size": (8, 8), "batch_size": 4, "color_mode": "grayscale", "verbose": False}
    pair = [keras.utils.image_dataset_from_directory(tmp_path / "images", **read) for _ in "ab"]
    train(tmp_path / "run", small(classes=2), pair)
    assert read_packed_labels(tmp_path / "run" / "model.keras") == ("cat", "dog")


def test_class_weights_and_crops_of_batches():
    data = to_dataset((batched(labels=np.array([0] * 9 + [1, 1, 2]), size=5), batched()), 3)
    np.testing.assert_array_equal(np.bincount(data.train.labels), [9, 2, 1])
    recipe = dataclasses.replace(RECIPE, augment="inception_crop")
    once, again = (list(training_batches(data, recipe).as_numpy_iterator()) for _ in "ab")
    for (mine, _), (theirs, _) in zip(once, again, strict=True):
        np.testing.assert_array_equal(mine, theirs)
        assert mine.shape[1:] == (8, 8, 1)
    assert not np.array_equal(once[0][0], IMAGES[:5])


def test_a_generator_needs_its_number_of_batches(tmp_path):
    unknown = tf.data.Dataset.from_generator(
        lambda: zip(np.split(IMAGES, 3), np.split(LABELS, 3), strict=True),
        output_signature=(
            tf.TensorSpec((None, 8, 8, 1), "uint8"),
            tf.TensorSpec((None,), "int64"),
        ),
    )
    with pytest.raises(keras_arch.InputError, match=r"data\.experimental\.assert_card"):
        train(tmp_path, data=(unknown, batched()))
    known = unknown.apply(tf.data.experimental.assert_cardinality(3))
    recipe = dataclasses.replace(RECIPE, epochs=2)
    assert len(train(tmp_path, data=(known, batched()), recipe=recipe)["loss"]) == 2


def then(images, labels):
    """Return batches of which only the last one has these images and labels."""
    more = tf.data.Dataset.from_tensors((images, labels))
    return (
        batched()
        .map(lambda images, labels: (tf.numpy_function(lambda x: x, [images], tf.uint8), labels))
        .map(lambda images, labels: (tf.ensure_shape(images, [None] * 4), labels))
        .concatenate(more)
    )


def assert_count(dataset, count):
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


LATER_MISTAKES = {  # case: (training batches, validation batches, message)
    "a large label": (
        then(IMAGES[:2], LABELS[:2] + 57),
        batched(),
        r"labels of the train data must have values from 0 to 2.*has 3 classes\. Received: 57\.",
    ),
    "a negative label": (
        then(IMAGES[:2], np.array([2, -1])),
        batched(),
        r"labels of the train data must have values from 0 to 2.*Received: -1\.",
    ),
    "validation": (
        batched(),
        then(IMAGES[:2], np.array([2, 3])),
        r"labels of the validation data must have values from 0 to 2.*Received: 3\.",
    ),
    "few labels": (
        then(IMAGES[:4], LABELS[:2]),
        batched(),
        r"The train data must have one label per image\. Received: 2 labels for 4 images",
    ),
    "other images": (
        then(IMAGES[:2, :5], LABELS[:2]),
        batched(),
        r"images of the train data must have shape \(8, 8, 1\).* Received: \[5 8 1\]",
    ),
    "too few batches": (
        assert_count(batched(), 5),
        batched(),
        r"as many batches as its cardinality, 5\. Received: only 3\..*assert_cardinality\(n\)",
    ),
    "too many batches": (
        assert_count(batched(), 2),
        batched(),
        r"as many batches as its cardinality, 2\. Received: at least 3\.",
    ),
    "too few in validation": (
        batched(),
        assert_count(batched(), 4),
        r"its cardinality, 4\. Received: only 3\.",
    ),
}


SLOW = ("a negative label", "few labels", "too few in validation")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] if case in SLOW else [])
        for case in LATER_MISTAKES
    ],
)
def test_a_mistake_in_a_later_batch_is_one_line(case):
    *pair, message = LATER_MISTAKES[case]
    recipe = dataclasses.replace(RECIPE, epochs=2)
    with pytest.raises(keras_arch.InputError, match=message) as refused, explain_batches():
        data = to_dataset(pair, 3)
        for batches in (training_batches(data, recipe), evaluation_batches(data.validation, 3, 1)):
            for _ in batches:
                pass
    assert len(str(refused.value)) < 290


@pytest.mark.parametrize(
    ("case", "weights"),
    [
        pytest.param(*pair, marks=[] if pair == ("validation", "none") else pytest.mark.slow)
        for pair in itertools.product(LATER_MISTAKES, ("none", "balanced"))
    ],
)
def test_a_mistake_in_a_later_batch_ends_the_training(case, weights, tmp_path):
    *pair, message = LATER_MISTAKES[case]
    recipe = dataclasses.replace(RECIPE, epochs=2, class_weights=weights)
    with pytest.raises(keras_arch.InputError, match=message):
        train(tmp_path, data=pair, recipe=recipe)


def test_other_errors_of_batches_are_not_changed():
    def fail(images, labels):
        tf.debugging.Assert(tf.reduce_all(labels < 0), ["a fault of the user"])
        return images, labels

    with pytest.raises(tf.errors.InvalidArgumentError, match="a fault"), explain_batches():
        to_dataset((batched().map(fail), batched()), 3)


# --- models ---


def test_a_sequential_is_trained_as_the_functional_model(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    functional = keras.Model(model.inputs, model.outputs)
    functional = keras.models.clone_model(functional)
    functional.set_weights(model.get_weights())
    assert train(tmp_path / "a", model) == train(tmp_path / "b", functional)
    saved = keras.models.load_model(tmp_path / "a" / "model.keras")
    assert type(saved) is keras.Sequential
    for mine, theirs in zip(model.get_weights(), functional.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(saved.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def with_operations(layer=keras.layers.Identity):
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(4, 3, use_bias=False)(keras.ops.pad(image / 255.0, PADDING))
    x = keras.ops.relu6(layer()(keras.layers.BatchNormalization()(x)) + 3)
    x = x * keras.ops.mean(x, axis=(1, 2), keepdims=True)
    gate = keras.ops.mean(image, axis=(1, 2)) / 255
    logits = keras.layers.Dense(3, name="logits")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, keras.ops.softmax(gate * logits))


PADDING = ((0, 0), (1, 1), (1, 1), (0, 0))


def test_a_trained_copy_with_operations_answers_as_the_model(tmp_path):
    model, copies = with_operations(), []
    watch = keras.callbacks.LambdaCallback(on_train_end=lambda logs: copies.append(watch.model))
    frozen = dataclasses.replace(RECIPE, freeze="backbone")
    train(tmp_path, model, recipe=frozen, callbacks=[watch])
    (copy,) = copies
    trainable = [layer.name for layer in copy.layers if layer.trainable_weights]
    assert trainable == ["logits"]
    np.testing.assert_allclose(copy(IMAGES), model(IMAGES), rtol=0, atol=1e-6)
    saved = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(saved(IMAGES), model(IMAGES))


class StopAfter(keras.callbacks.Callback):
    def __init__(self, last):
        super().__init__()
        self.last = last

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == self.last


@pytest.mark.slow
def test_a_model_with_operations_is_resumed(tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=3, freeze="backbone", freeze_epochs=1)
    results = []
    for stops in ([None], [0, 1, None]):
        for stop in stops:
            keras.utils.set_random_seed(0)
            model, folder = with_operations(), tmp_path / str(len(stops))
            history = train(
                folder, model, recipe=recipe, resume=stop != stops[0], callbacks=[StopAfter(stop)]
            )
        results.append((history, model.get_weights()))
    (complete, weights), (resumed, others) = results
    assert len(complete["loss"]) == 3
    assert complete == resumed
    for mine, theirs in zip(weights, others, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_mobilenet_v3_is_trained(tmp_path, precision):
    """It has operations of ReLU6 and hard swish, and Rescaling inside."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV3Small((32, 32, 3), weights=None, classes=3)
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype("uint8")
    copies = []
    watch = keras.callbacks.LambdaCallback(on_train_end=lambda logs: copies.append(watch.model))
    recipe = dataclasses.replace(RECIPE, precision=precision)
    train(tmp_path, model, ((images, LABELS), (images, LABELS)), recipe, callbacks=[watch])
    found, expected = (np.asarray(one(images)) for one in (copies[0], model))
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=1e-6 if precision == "float32" else 0.1
    )


class NoConfiguration(keras.layers.Layer):
    def __init__(self, factor):
        super().__init__()

    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: keras.layers.Lambda(lambda x: x * 2), "a Lambda: its function has no conf"),
        (lambda: NoConfiguration(2), r"a NoConfiguration: NoConfiguration.__init__\(\) got an un"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_that_keras_cannot_copy_is_one_line(tmp_path, layer, message, nested):
    def build():
        return keras.Sequential([keras.Input((8, 8, 4)), layer()]) if nested else layer()

    with pytest.raises(keras_arch.InputError, match=f"must be able to copy.* {message}") as refused:
        train(tmp_path / "run", with_operations(build))
    assert len(str(refused.value)) < 290
    assert list(tmp_path.iterdir()) == []


LOGITS = {"input_shape": (8, 8, 1), "classes": 3, "classifier_activation": None}


def compiled():
    model = small()
    model.compile("adam", "categorical_crossentropy")
    return model


def without_shape():
    return keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])


# --- callbacks and metrics ---


class Watch(keras.callbacks.Callback):
    """Record logs, and the files that exist at the end of an epoch."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.logs, self.files, self.models = folder, [], [], []

    def on_epoch_end(self, epoch, logs=None):
        self.logs.append(dict(logs))
        self.files.append({path.name for path in self.folder.iterdir()})
        self.models.append(self.model)


def test_callbacks_see_the_copy_complete_logs_and_files(tmp_path):
    model, watch = small(), Watch(tmp_path)
    recipe = dataclasses.replace(RECIPE, epochs=2, ema=0.9)
    history = keras_arch.fit(model, DATA, recipe, tmp_path, callbacks=[watch])
    for epoch, logs in enumerate(watch.logs):
        assert logs == {name: column[epoch] for name, column in history.items()}
    assert set(history) >= {"val_loss", "val_accuracy", "learning_rate", "seconds"}
    assert watch.files[0] == {"model.keras", "history.csv", "checkpoint.npz"}
    assert watch.models[0] is not model
    assert [layer.name for layer in watch.models[0].layers] == [
        layer.name for layer in model.layers
    ]


def test_a_callback_ends_the_training(tmp_path):
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(stop.model, "stop_training", epoch == 1)
    )
    recipe = dataclasses.replace(RECIPE, epochs=5)
    assert len(train(tmp_path, recipe=recipe, callbacks=[stop])["loss"]) == 2


def test_a_callback_ends_the_training_within_an_epoch(tmp_path):
    stop = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(stop.model, "stop_training", True)
    )
    recipe = dataclasses.replace(RECIPE, epochs=5)
    assert len(train(tmp_path, recipe=recipe, callbacks=[stop])["loss"]) == 1


def test_data_without_validation_images_are_refused(tmp_path):
    data = dataclasses.replace(DATA, validation=DATA.validation.slice(0, 0))
    with pytest.raises(keras_arch.InputError, match=r"validation split of .* must have images"):
        train(tmp_path / "run", data=data)
    assert not (tmp_path / "run").exists()


def top2(labels, outputs):
    """Return the share of images whose true class is among the two most probable ones."""
    best = np.argsort(-outputs, axis=1)[:, :2]
    return float((best == labels.argmax(axis=1)[:, np.newaxis]).any(axis=1).mean())


def test_values_of_metrics_are_in_the_history(tmp_path):
    metrics = [keras.metrics.TopKCategoricalAccuracy(2, name="top2"), "categorical_crossentropy"]
    model = small()
    history = train(tmp_path, model, metrics=metrics)
    labels = np.eye(3)[LABELS]
    outputs = model.predict(IMAGES, verbose=0)
    assert history["val_top2"] == pytest.approx([top2(labels, outputs)])
    loss = -np.log((labels * outputs).sum(axis=1)).mean()
    assert history["val_categorical_crossentropy"] == pytest.approx([loss], rel=1e-5)
    with (tmp_path / "history.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["val_top2"]) == history["val_top2"][0]
    assert float(row["top2"]) == history["top2"][0]


def two_heads():
    image = keras.Input((8, 8, 1), name="image")
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    return keras.Model(
        image,
        [
            keras.layers.Dense(3, "softmax", name=name)(flat)
            for name in ("predictions", "auxiliary_4a")
        ],
    )


def test_metrics_measure_the_main_head(tmp_path):
    metric = keras.metrics.TopKCategoricalAccuracy(2, name="top2")
    model = two_heads()
    history = train(tmp_path, model, metrics=[metric])
    outputs = model.predict(IMAGES, verbose=0)[0]
    assert history["val_top2"] == pytest.approx([top2(np.eye(3)[LABELS], outputs)])


def test_a_run_is_resumed_with_its_metrics(tmp_path):
    metrics = [keras.metrics.TopKCategoricalAccuracy(2, name="top2")]
    longer = dataclasses.replace(RECIPE, epochs=2)
    train(tmp_path / "with", metrics=metrics)
    train(tmp_path / "without")
    with pytest.raises(keras_arch.InputError, match=r"interrupted run\. Received: top2"):
        train(tmp_path / "without", recipe=longer, metrics=metrics, resume=True)
    with pytest.raises(keras_arch.InputError, match=r"other columns: top2, val_top2"):
        train(tmp_path / "with", recipe=longer, resume=True)
    history = train(tmp_path / "with", recipe=longer, metrics=metrics, resume=True)
    assert len(history["val_top2"]) == 2


# --- augmentation and loss ---


def invert(images, random):
    """Invert the images whose first random number is below 1/2."""
    invert = random[:, 0, tf.newaxis, tf.newaxis, tf.newaxis] < 0.5
    return tf.where(invert, 255 - images, images)


def test_an_augmentation_replaces_the_pixel_functions(tmp_path):
    recipe = dataclasses.replace(RECIPE, augment="cutmix", epochs=2)
    plain = dataclasses.replace(recipe, augment="none")
    batches = [
        list(training_batches(DATA, one, 0, policy_of(one, function)).as_numpy_iterator())
        for one, function in ((plain, None), (plain, invert), (plain, invert), (recipe, invert))
    ]
    inverted = 0
    for original, augmented, again, mixed in zip(*batches, strict=True):
        np.testing.assert_array_equal(augmented[0], again[0])
        for before, after in zip(original[0], augmented[0], strict=True):
            inverted += np.array_equal(after, 255 - before)
            assert np.array_equal(after, before) or np.array_equal(after, 255 - before)
        assert not np.array_equal(mixed[1], augmented[1])  # cutmix mixes the labels
    assert 4 < inverted < 20  # of 24
    seen = []

    def watch(images, random):
        seen.append((images.dtype, images.shape[1:], random.dtype, random.shape[1]))
        return images

    train(tmp_path, augment=watch)
    assert set(seen) == {(tf.uint8, (8, 8, 1), tf.float32, 16)}


def test_pixels_of_an_augmentation_may_have_rounding_errors():
    check_augment(lambda i, r: tf.cast(i, tf.float32) * 1.001 - 0.1, DATA, 0)


def test_a_recipe_names_a_function(tmp_path):
    (tmp_path / "my.py").write_text("def invert(images, random):\n    return 255 - images\n")
    recipe = dataclasses.replace(RECIPE, augment=f"{tmp_path}/my.py:invert")
    batches = zip(
        training_batches(DATA, RECIPE).as_numpy_iterator(),
        training_batches(DATA, recipe).as_numpy_iterator(),
        strict=True,
    )
    for (images, _), (inverted, _) in batches:
        np.testing.assert_array_equal(inverted, 255 - images)
    assert len(train(tmp_path / "run", recipe=recipe)["loss"]) == 1


def test_a_loss_replaces_cross_entropy(tmp_path):
    model = small()
    history = train(tmp_path, model, loss=keras.losses.CategoricalFocalCrossentropy(gamma=3))
    outputs = model.predict(IMAGES, verbose=0)
    true = (np.eye(3)[LABELS] * outputs).sum(axis=1)
    expected = (-0.25 * (1 - true) ** 3 * np.log(true)).mean()
    assert history["val_loss"] == pytest.approx([expected], rel=1e-4)


def test_a_large_loss_is_not_divergence(tmp_path):
    """The limit of 100 times the loss of guessing is that of cross-entropy."""

    def large(labels, outputs):
        return 1e4 * keras.losses.categorical_crossentropy(labels, outputs)

    recipe = dataclasses.replace(RECIPE, learning_rate=1e-7)
    assert train(tmp_path, recipe=recipe, loss=large)["loss"][0] > 1e3


# --- mistakes ---


class F1(keras.metrics.F1Score):
    """One value per class."""


def raising(images, random):
    raise RuntimeError("not today")


MISTAKES = {  # case: (changed arguments, message)
    "a recipe's name": ({"recipe": "digits"}, r'Pass keras_arch.RECIPES\["digits"\]\.'),
    "another name": ({"recipe": "didgits"}, r"Received: 'didgits'. Use one of keras_arch.RECIPES"),
    "no input shape": ({"model": without_shape}, r"must have an input shape\. .*keras.Input"),
    "compiled": ({"model": compiled}, r"must not be compiled.*model.compiled = False"),
    "logits": (
        {"model": lambda: keras_arch.ResNet8(**LOGITS)},
        r"`predictions` must be class probabilities",
    ),
    "labels too large": ({"data": ((IMAGES, LABELS + 1), PAIR[1])}, r"y_train must be from 0 to 2"),
    "one-hot labels": ({"data": ((IMAGES, np.eye(3)[LABELS]), PAIR[1])}, r"argmax\(axis=1\)"),
    "few labels": ({"data": ((IMAGES, LABELS[:3]), PAIR[1])}, r"y_train must be one integer"),
    "scaled pixels": (
        {"data": (PAIR[0], (IMAGES / 255, LABELS))},
        r"x_val must have pixels of 0-2",
    ),
    "NaN": ({"data": ((IMAGES * np.nan, LABELS), PAIR[1])}, r"x_train must have pixels of 0-255"),
    "no images": ({"data": ((IMAGES[:0], LABELS[:0]), PAIR[1])}, r"x_train must be numbers"),
    "ragged": ({"data": (([[1], [1, 2]], LABELS), PAIR[1])}, r"x_train must be an array"),
    "other shapes": ({"data": (PAIR[0], (IMAGES[:, :4], LABELS))}, r"must have the same shape"),
    "one pair": ({"data": (IMAGES, LABELS)}, r"`data` must be .*tuple of ndarray, ndarray"),
    "one tf.data": ({"data": batched()}, r"`data` must be a keras_arch.Dataset, "),
    "infinite": ({"data": (batched().repeat(), batched())}, r"train data must end.*repeat"),
    "no batches": (
        {"data": (batched().unbatch(), batched())},
        r"must be batches of \(images, labels\).* Call dataset.batch\(32\)",
    ),
    "no channels": (
        {"data": (batched(IMAGES[..., 0]), batched())},
        r"must be batches of \(images, labels\).*Add a channel axis: .*images\[\.\.\., None\]",
    ),
    "image weights": (
        {"data": (batched().map(lambda x, y: (x, y, 1.0)), batched())},
        r"must be batches of \(images, labels\).*Remove .*lambda images, labels, weights: ",
    ),
    "no labels": (
        {"data": (batched().map(lambda x, y: x), batched())},
        r"must be batches of \(images, labels\)\. Received: TensorSpec\(.*\. Yield pairs",
    ),
    "an unknown shape": (
        {
            "data": (
                batched().map(lambda x, y: (tf.numpy_function(id, [x], tf.uint8), y)),
                batched(),
            )
        },
        r"must be batches of \(images, labels\).*tf.ensure_shape\(images, ",
    ),
    "one-hot batches": (
        {"data": (batched(labels=np.eye(3)[LABELS].astype(int)), batched())},
        r"one integer for each of 4 images.*argmax\(axis=1\)",
    ),
    "a column of floats": (
        {"data": ((IMAGES, LABELS[:, np.newaxis] * 1.0), PAIR[1])},
        r"one integer for each of 12 images\. Received: float64 \(12,\)\. Use labels.astype\(int\)",
    ),
    "a column in batches": (
        {"data": (batched(labels=LABELS[:, np.newaxis] * 1.0), batched())},
        r"one integer for each of 4 images\. Received: float64 \(4,\)\.",
    ),
    "no batch": ({"data": (batched(), batched().take(0))}, r"validation data must have a batch"),
    "scaled batches": ({"data": (batched(IMAGES / 255), batched())}, r"must have pixels of 0-255"),
    "one callback": ({"callbacks": keras.callbacks.EarlyStopping()}, r"`callbacks` must be a list"),
    "a class": ({"callbacks": [keras.callbacks.History]}, r"must be keras.callbacks.Callback obj"),
    "saves the copy": (
        {"callbacks": [keras.callbacks.ModelCheckpoint("x.keras")]},
        r"`callbacks` must not have a ModelCheckpoint.*model.keras in `folder`",
    ),
    "learning rate": (
        {"callbacks": [keras.callbacks.ReduceLROnPlateau()]},
        r"must not have a ReduceLROnPlateau.*`schedule`",
    ),
    "a taken name": (
        {"metrics": [keras.metrics.AUC(name="loss")]},
        r"must be free\. Received: loss",
    ),
    "the same name": (
        {"metrics": [keras.metrics.AUC(name="a")] * 2},
        r"must be free\. Received: a",
    ),
    "no metric": ({"metrics": ["no such metric"]}, r"`metrics` must be Keras metrics"),
    "a sparse metric": (
        {"metrics": [keras.metrics.SparseCategoricalAccuracy(name="sparse")]},
        r"The metric sparse must compute one number from one-hot labels",
    ),
    "one value per class": ({"metrics": [F1(name="f1")]}, r"one number.*shape \(3,\)"),
    "a sparse loss": ({"loss": "sparse_categorical_crossentropy"}, r"`loss` must be a Keras loss"),
    "a loss of logits": (
        {"loss": keras.losses.CategoricalCrossentropy(from_logits=True)},
        r"`loss` must be a loss of probabilities",
    ),
    "a loss and smoothing": (
        {"loss": "mse", "recipe": dataclasses.replace(RECIPE, label_smoothing=0.1)},
        r"`label_smoothing` of the recipe must be 0",
    ),
    "no function": ({"augment": "cutmix"}, r"`augment` must be a function"),
    "one argument": ({"augment": lambda images: images}, r"`augment` must be a function.*TypeErr"),
    "a raising function": ({"augment": raising}, r"Received: RuntimeError: .*not today"),
    "another shape": ({"augment": lambda i, r: i[:, :4]}, r"must return images of the same shape"),
    "negative pixels": (
        {"augment": lambda i, r: tf.cast(i, tf.float32) - 100},
        r"must return pixels of 0-255\. Received: -100 to 15\d.*tf.clip_by_value\(images, 0, 255\)",
    ),
    "large pixels": (
        {"augment": lambda i, r: tf.cast(i, tf.float32) + 3},
        r"must return pixels of 0-255\. Received: \d+ to 25[78] for images of \d+ to 25",
    ),
    "NaN pixels": (
        {"augment": lambda i, r: tf.cast(i, tf.float32) * np.nan},
        r"must return pixels of 0-255\. Received: nan to nan",
    ),
    "pixels of 0-1": ({"augment": lambda i, r: i / 255}, r"`augment` must return pixels of 0-255"),
    "a missing file": (
        {"recipe": dataclasses.replace(RECIPE, callback=("missing.py:f",))},
        r"missing.py must be a Python file",
    ),
    "a file as folder": ({"folder": __file__}, r"must be a directory\. Received: a file"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_before_any_work(mistake, tmp_path, monkeypatch):
    change, message = MISTAKES[mistake]
    arguments = {"model": small, "data": DATA, "recipe": RECIPE, "folder": tmp_path / "run"}
    arguments |= change
    arguments["model"] = arguments["model"]()
    monkeypatch.setattr("keras_arch.training.fit.choose_precision", None)  # the first work
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        keras_arch.fit(**arguments)
    assert len(str(refused.value)) < 300
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
