"""int4 files: the weights in them, and what is computed with them."""

import sys

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import keras_arch
from keras_arch.export.model import export_model
from keras_arch.export.verification.checks import check_predictions, measure_predictions
from keras_arch.export.verification.spec import FileSpec
from keras_arch.export.verification.verify import Reference, verify
from keras_arch.formats import ExportSettings

NAMES = ("a", "b", "c")
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype="uint8")
INT4 = ExportSettings(formats=("int4",))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    first = layers.Conv2D(8, 3, activation="relu")
    x = layers.Conv2D(16, 3, activation="relu")(first(image))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x))
    kernel, bias = first.get_weights()
    kernel[..., 0] = 0  # a channel of zeros has no range
    first.set_weights([kernel / 255, bias])
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    pytest.importorskip("ai_edge_quantizer", reason='needs pip install "keras_arch[int4]"')
    folder = tmp_path_factory.mktemp("export")
    specs, refused = export_model(model, folder, NAMES, IMAGES, INT4)
    assert refused == {}
    return folder, specs


def read_int4(path):
    """Return (integers, scales) of each int4 tensor, with the output channels on the first axis."""
    file = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    found = []
    for tensor in file.subgraphs[0].tensors:
        if tensor.type == schema.TensorType.INT4:
            data = np.asarray(file.buffers[tensor.buffer].data)
            halves = np.stack([data & 15, data >> 4], axis=1).ravel()  # the lower half is first
            integers = halves[: np.prod(tensor.shape)].astype(int)
            integers[integers > 7] -= 16  # two's complement
            assert set(tensor.quantization.zeroPoint) == {0}
            found.append((integers.reshape(tensor.shape), tensor.quantization.scale))
    return found


def as_tflite(kernel):
    """Return a Keras kernel with the output channels on the first axis."""
    return np.moveaxis(kernel, -1, 0)


def test_every_kernel_is_rounded_to_the_scales_in_the_file(model, exported):
    kernels = [as_tflite(one) for one in model.get_weights() if one.ndim > 1]
    found = read_int4(exported[0] / "model_int4.tflite")
    for kernel in kernels:
        ((integers, scales),) = [one for one in found if one[0].shape == kernel.shape]
        assert list(scales == 0) == [not channel.any() for channel in kernel]
        scales = np.where(scales == 0, 1, scales)
        steps = kernel / scales.reshape(-1, *[1] * (kernel.ndim - 1))
        np.testing.assert_array_equal(integers, np.clip(np.round(steps), -7, 7))
        assert len(scales) == len(kernel)
        assert max(len(np.unique(channel)) for channel in integers) > 8
    assert len(found) == len(kernels) == 3


def test_probabilities_are_those_of_keras_with_the_weights_in_the_file(model, exported):
    path = exported[0] / "model_int4.tflite"
    values = {
        integers.shape: integers * scales.reshape(-1, *[1] * (integers.ndim - 1))
        for integers, scales in read_int4(path)
    }
    copy = keras.models.clone_model(model)
    copy.set_weights(
        [
            np.moveaxis(values[as_tflite(one).shape], 0, -1) if one.ndim > 1 else one
            for one in model.get_weights()
        ]
    )
    found, expected = (
        keras_arch.open_artifact(path).predict(IMAGES),
        copy.predict(IMAGES, verbose=0),
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.abs(found - model.predict(IMAGES, verbose=0)).max() > 1e-4


def test_the_file_passes_verification(model, exported):
    folder, specs = exported
    probabilities = model.predict(IMAGES, verbose=0)
    reference = Reference(IMAGES, probabilities.argmax(axis=1), probabilities, NAMES, max_drop=50)
    row = verify(folder, specs, reference)["int4"]
    assert row.problems == ()
    assert row.operators["DEQUANTIZE"] == 3
    assert [tensor.type for tensor in (*specs["int4"].inputs, *specs["int4"].outputs)] == [
        *("float32", "float32")
    ]


def test_without_the_package_nothing_is_written(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(keras_arch.InputError, match=r'pip install "keras_arch\[int4\]"'):
        export_model(model, tmp_path, NAMES, IMAGES, INT4)
    assert list(tmp_path.iterdir()) == []


def test_a_drop_names_the_option_that_accepts_it():
    right, wrong = np.eye(2)[[0] * 20], np.eye(2)[[0] * 19 + [1]]
    metrics = measure_predictions(wrong, right, np.zeros(20, int))
    spec = FileSpec("model_int4.tflite", "tflite", False, (), ())
    (problem,) = [one for one in check_predictions(metrics, spec, 1.0) if "accuracy" in one]
    assert problem.endswith("The limit is 1. To accept it, pass a higher --max-drop.")
    assert not any("accuracy" in one for one in check_predictions(metrics, spec, 5.1))
