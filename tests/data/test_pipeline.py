"""Batches are functions of seed, epoch and example. Augmentation is compared with NumPy."""

import dataclasses
import itertools
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

import keras_arch
from keras_arch.data.augment import FLIP, LEFT, POLICIES, TOP, inception_box
from keras_arch.data.dataset import Dataset
from keras_arch.data.order import RANDOM_NUMBERS
from keras_arch.data.pipeline import check_data_options, training_batches
from keras_arch.data.splits import InMemory, InStream
from keras_arch.images.resize import resize
from keras_arch.recipes import Augment

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (100, 16, 16, 3)).astype("uint8")
LABELS = RNG.integers(0, 5, 100)
RECIPE = keras_arch.Recipe(
    "resnet8", "x", epochs=3, learning_rate=0.1, batch_size=32, augment="flip_crop"
)


def dataset(train):
    return Dataset("x", train, train, train, tuple("abcde"), (16, 16, 3))


def in_stream():
    return InStream(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)), len(IMAGES), (16, 16, 3))


def batches(train, first_epoch=0, **changes):
    recipe = dataclasses.replace(RECIPE, **changes)
    return list(training_batches(dataset(train), recipe, first_epoch).as_numpy_iterator())


def assert_same(found, expected):
    assert len(found) == len(expected)
    for pair, other in zip(found, expected, strict=True):
        for value, other_value in zip(pair, other, strict=True):
            np.testing.assert_array_equal(value, other_value)


# --- reproducibility ---


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["memory", pytest.param("stream", marks=pytest.mark.slow)])
def test_same_seed_gives_same_batches_also_after_resuming(policy, kind):
    def train():
        return InMemory(IMAGES, LABELS) if kind == "memory" else in_stream()

    tf.random.set_seed(0)  # the global seed must have no effect
    expected = batches(train(), augment=policy)
    tf.random.set_seed(1)
    assert len(expected) == 3 * (100 // 32)
    assert_same(batches(train(), augment=policy), expected)
    assert_same(batches(train(), augment=policy, first_epoch=1), expected[3:])
    assert all(images.shape == (32, 16, 16, 3) for images, _ in expected)
    np.testing.assert_allclose([labels.sum() for _, labels in expected], 32, rtol=1e-5)
    assert not np.array_equal(expected[0][0], expected[3][0])  # another epoch
    assert not np.array_equal(expected[0][0], batches(train(), augment=policy, seed=1)[0][0])


def test_number_of_threads_has_no_effect():
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    ours = training_batches(dataset(InMemory(IMAGES, LABELS)), RECIPE)
    assert_same(
        list(ours.with_options(options).as_numpy_iterator()), list(ours.as_numpy_iterator())
    )


def test_each_example_is_in_each_epoch_once():
    for train in (InMemory(IMAGES, LABELS), in_stream()):
        seen = [
            image.tobytes()
            for images, _ in batches(train, augment="none", batch_size=10)
            for image in images
        ]
        for epoch in range(3):
            assert sorted(seen[100 * epoch : 100 * (epoch + 1)]) == sorted(
                image.tobytes() for image in IMAGES
            )


def test_augmentation_depends_on_the_example_and_not_on_its_position():
    """The batch size does not change the random numbers of an example."""
    train = InMemory(IMAGES, LABELS)
    pixels = [
        {
            image.tobytes()
            for images, _ in batches(train, batch_size=size, epochs=1)
            for image in images
        }
        for size in (10, 20)
    ]
    assert pixels[0] == pixels[1]


def test_a_shuffled_stream_keeps_images_and_labels_together():
    numbered = np.broadcast_to(LABELS[:, None, None, None], IMAGES.shape).astype("uint8")
    stream = InStream(tf.data.Dataset.from_tensor_slices((numbered, LABELS)), 100, (16, 16, 3))
    for images, labels in batches(stream, augment="none"):
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels.argmax(axis=1))


def test_recipes_have_all_policies():
    assert get_args(get_args(Augment)[0]) == tuple(POLICIES)


# --- policies ---


def apply(change, images, random=None):
    random = (
        RNG.uniform(size=(len(images), RANDOM_NUMBERS)).astype("float32")
        if random is None
        else random
    )
    return change(tf.constant(images), tf.constant(random)).numpy()


def test_flip_mirrors_half_of_the_images():
    random = RNG.uniform(size=(len(IMAGES), RANDOM_NUMBERS)).astype("float32")
    (change,) = POLICIES["flip"].pixels
    mirrored = random[:, FLIP] < 0.5
    expected = np.where(mirrored[:, None, None, None], IMAGES[:, :, ::-1], IMAGES)
    np.testing.assert_array_equal(apply(change, IMAGES, random), expected)
    assert 30 < mirrored.sum() < 70


@pytest.mark.parametrize(("height", "pixels"), [(8, 1), (32, 1), (96, 3)])
def test_flip_shift_moves_by_a_thirty_second_or_a_pixel(height, pixels):
    images = RNG.integers(1, 256, (60, height, 70, 1)).astype("uint8")
    random = RNG.uniform(size=(len(images), RANDOM_NUMBERS)).astype("float32")
    moves = set()
    for image, numbers, found in zip(
        images, random, apply(POLICIES["flip_shift"].pixels[0], images, random), strict=True
    ):
        top, left = int(numbers[TOP] * (2 * pixels + 1)), int(numbers[LEFT] * 5)
        padded = np.pad(image, ((pixels, pixels), (2, 2), (0, 0)))
        cut = padded[top : top + height, left : left + 70]
        np.testing.assert_array_equal(found, cut[:, ::-1] if numbers[FLIP] < 0.5 else cut)
        moves.add((top, left))
    assert len(moves) >= 9


@pytest.mark.parametrize("policy", ["crop", "flip_crop"])
def test_crop_is_a_part_of_the_padded_image(policy):
    (change,) = POLICIES[policy].pixels
    places, mirrored = set(), 0
    for before, after in zip(IMAGES, apply(change, IMAGES), strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)))
        found = [
            (y, x, flipped)
            for y in range(5)
            for x in range(5)
            for flipped, image in ((False, after), (True, after[:, ::-1]))
            if np.array_equal(padded[y : y + 16, x : x + 16], image)
        ]
        assert len(found) == 1
        places.add(found[0][:2])
        mirrored += found[0][2]
    assert len(places) > 20  # of 25
    assert mirrored == 0 if policy == "crop" else 30 < mirrored < 70


@pytest.mark.parametrize(("height", "width"), [(16, 256), (256, 16), (8, 128), (32, 32), (7, 30)])
def test_crop_pads_each_side_by_an_eighth(height, width):
    """Compare with NumPy code for single images and the same random numbers."""
    images = RNG.integers(1, 256, (40, height, width, 1)).astype("uint8")
    random = RNG.uniform(size=(40, RANDOM_NUMBERS)).astype("float32")
    rows, columns = height // 8, width // 8
    for policy in ("crop", "flip_crop"):
        found = apply(POLICIES[policy].pixels[0], images, random)
        for image, numbers, after in zip(images, random, found, strict=True):
            top, left = int(numbers[TOP] * (2 * rows + 1)), int(numbers[LEFT] * (2 * columns + 1))
            padded = np.pad(image, ((rows, rows), (columns, columns), (0, 0)))
            cut = padded[top : top + height, left : left + width]
            flipped = policy == "flip_crop" and numbers[FLIP] < 0.5
            np.testing.assert_array_equal(after, cut[:, ::-1] if flipped else cut)


@pytest.mark.parametrize("channels", [1, 3])
def test_dihedral_gives_the_eight_symmetries_of_a_square_equally(channels):
    (change,) = POLICIES["dihedral"].pixels
    images = RNG.integers(0, 256, (1600, 5, 5, channels)).astype("uint8")
    counts = dict.fromkeys(itertools.product(range(4), (False, True)), 0)
    for before, after in zip(images, apply(change, images), strict=True):
        found = [
            (turns, mirrored)
            for turns, mirrored in counts
            if np.array_equal(np.rot90(np.flip(before, 1) if mirrored else before, turns), after)
        ]
        assert len(found) == 1
        counts[found[0]] += 1
    assert min(counts.values()) > 150  # of 200, with a standard deviation of 13
    assert max(counts.values()) < 250


def test_dihedral_needs_square_images():
    data = Dataset(
        "wide",
        *[InMemory(np.zeros((4, 5, 8, 1), "uint8"), np.arange(4) % 2)] * 3,
        ("a", "b"),
        (5, 8, 1),
    )
    recipe = dataclasses.replace(RECIPE, batch_size=2, augment="dihedral")
    message = (
        "needs square images. Received: images of 5x8 pixels in wide. Load them with image_size=5 "
    )
    for check in (training_batches, check_data_options):
        with pytest.raises(keras_arch.InputError, match=message):
            check(data, recipe)


def test_inception_box_has_area_and_aspect_of_the_paper():
    random = RNG.uniform(size=(10_000, RANDOM_NUMBERS)).astype("float32")
    top, left, bottom, right = inception_box(tf.constant(random), 300, 400).numpy().T
    assert min(top.min(), left.min()) >= 0
    assert max(bottom.max(), right.max()) <= 1 + 1e-6
    share, aspect = (bottom - top) * (right - left), (right - left) * 400 / ((bottom - top) * 300)
    assert 0.08 <= share.min() < 0.1
    assert 0.9 < share.max() <= 1.0001
    inner = (bottom - top < 0.99) & (right - left < 0.99)  # large crops are limited by the image
    assert 0.749 < aspect[inner].min() < 0.8
    assert 1.3 < aspect[inner].max() < 1.334


def test_random_erasing_fills_a_rectangle_in_a_quarter_of_the_images():
    (_, change) = POLICIES["random_erasing"].pixels
    images = np.zeros((4000, 16, 16, 1), "uint8")
    erased = apply(change, images)[..., 0] == 128
    hit = erased.any(axis=(1, 2))
    assert 0.22 < hit.mean() < 0.28
    shares = erased[hit].mean(axis=(1, 2))
    assert shares.max() < 0.40
    assert 0.1 < shares.mean() < 0.25
    for mask in erased[hit][:200]:
        rows, columns = mask.any(axis=1), mask.any(axis=0)
        np.testing.assert_array_equal(mask, np.outer(rows, columns))
        assert np.ptp(np.flatnonzero(rows)) + 1 == rows.sum()


def test_mixup_and_cutmix_mix_labels_like_pixels():
    images = np.concatenate([np.zeros((1, 8, 8, 1)), np.full((1, 8, 8, 1), 200)]).astype("uint8")
    labels = np.eye(2, dtype="float32")
    for policy in ("mixup", "cutmix"):
        for _ in range(20):
            random = RNG.uniform(size=(2, RANDOM_NUMBERS)).astype("float32")
            mixed, shares = POLICIES[policy].mix(
                tf.constant(images), tf.constant(labels), tf.constant(random)
            )
            bright = np.asarray(mixed, "float32").mean(axis=(1, 2, 3)) / 200
            np.testing.assert_allclose(bright, shares[:, 1], atol=1e-5)


def test_trivial_augment_changes_most_images():
    change = POLICIES["trivial_augment"].pixels[-1]
    images = np.tile(np.linspace(0, 255, 16, dtype="uint8")[None, :, None, None], (2000, 1, 16, 3))
    changed = apply(change, images)
    assert changed.dtype == np.uint8
    same = (changed == images).all(axis=(1, 2, 3))
    assert (
        1 / 12 < same.mean() < 0.5
    )  # the identity is one of twelve, and some others do not change such an image
    assert len({image.tobytes() for image in changed}) > 500


def test_random_numbers_are_uniform_and_their_columns_independent():
    train = InMemory(np.zeros((4000, 8, 8, 1), "uint8"), np.zeros(4000, "int64"))
    (_, _, random) = next(iter(train.batches(0, tf.data.Dataset.range(1), 4000, POLICIES["none"])))
    assert abs(float(tf.reduce_mean(random[:, TOP])) - 0.5) < 0.02
    assert np.abs(np.corrcoef(random.numpy().T) - np.eye(RANDOM_NUMBERS)).max() < 0.06


# --- resizing ---


def test_resize_equals_read_image(tmp_path):
    """TensorFlow (TFDS, .npz) and Pillow (image folders, predict.py) differ only by rounding."""
    from PIL import Image

    from keras_arch.images.read import read_image

    for height, width in ((40, 90), (90, 40), (17, 19), (33, 33)):
        pixels = tf.image.resize(RNG.uniform(0, 255, (5, 5, 3)), (height, width), "bicubic")
        pixels = tf.saturate_cast(pixels, tf.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / "picture.png")
        found = resize(pixels, (16, 16, 3)).numpy().astype(int)
        expected = read_image(tmp_path / "picture.png", (16, 16, 3)).astype(int)
        assert np.abs(found - expected).max() <= 2  # Pillow rounds rows and columns
        assert np.abs(found - expected).mean() < 0.5


def test_resize_crops_the_center():
    wide = np.zeros((10, 30, 1), "uint8")
    wide[:, 10:20] = 200
    np.testing.assert_array_equal(resize(tf.constant(wide), (5, 5, 1)), 200)
    assert resize(tf.constant(wide), (8, 8, 3)).shape == (8, 8, 3)


def test_a_stream_is_read_up_to_the_last_index():
    """A few images of a large data set do not require reading all of it."""
    read = []

    def records():
        for number in range(1000):
            read.append(number)
            yield np.full((2, 2, 1), number % 256, "uint8"), number

    form = (tf.TensorSpec((2, 2, 1), tf.uint8), tf.TensorSpec((), tf.int64))
    stream = InStream(
        tf.data.Dataset.from_generator(records, output_signature=form), 1000, (2, 2, 1)
    )
    images, labels = stream.at([4, 1])
    assert labels.tolist() == [4, 1]
    assert images[:, 0, 0, 0].tolist() == [4, 1]
    assert max(read) < 10
