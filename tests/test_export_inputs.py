"""What an export demands of a model and of images before it writes anything, and the input of an int8 file."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from keras import layers

from keras_arch.export import export_model
from keras_arch.export.tflite import full_range
from keras_arch.formats import ExportSettings

NAMES = ("a", "b", "c")
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype="uint8")


def features():
    image = keras.Input((8, 8, 3), name="image")
    return image, layers.GlobalAveragePooling2D(name="avg_pool")(layers.Rescaling(1 / 255)(image))


def classifier(activation="softmax"):
    image, x = features()
    return keras.Model(image, layers.Dense(3, activation=activation, name="predictions")(x), name="small")


# --- the range of int8 ---


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_every_span_is_stretched_to_exactly_255(dtype):
    for span in range(1, 256):
        for low in {0, (255 - span) // 2, 255 - span}:
            image = np.arange(low, low + span + 1).astype(dtype)[np.newaxis, :, np.newaxis, np.newaxis]
            stretched = full_range(image)
            assert stretched.dtype == np.float32
            assert (stretched.min(), stretched.max()) == (0, 255), (low, span)


@given(arrays.arrays("uint8", (3, 4, 4, 1)).filter(lambda images: np.ptp(images[0]) > 0))
@settings(max_examples=200, deadline=None)
def test_any_calibration_images_span_0_to_255(images):
    before = images.copy()
    stretched = full_range(images)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert (images == before).all()
    kept = np.arange(3) != np.ptp(images, axis=(1, 2, 3)).argmax()
    np.testing.assert_array_equal(stretched[kept], images[kept])


@given(st.lists(st.floats(0, 255, width=32), min_size=2, max_size=9, unique=True))
@settings(max_examples=300, deadline=None)
def test_stretched_fractions_stay_within_0_to_255(pixels):
    stretched = full_range(np.array(pixels, "float32").reshape(1, -1, 1, 1))
    assert (stretched.min(), stretched.max()) == (0, 255)


def test_an_int8_file_takes_pixels_as_they_are_where_contrast_spans_252(tmp_path):
    images = IMAGES % 253  # 0 to 252
    assert np.ptp(images) == 252
    export_model(classifier(), tmp_path, NAMES, images, ExportSettings(formats=("int8",)))
    (image,) = Interpreter(str(tmp_path / "model_int8.tflite")).get_input_details()
    assert image["quantization"] == (1.0, 0)
