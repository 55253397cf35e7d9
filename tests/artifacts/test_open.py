"""Files of other people: any image size, a fixed batch size, normalization outside the model."""

import gc
import os
import weakref
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from tflite_files import (
    color_model,
    colors,
    convert,
    normalized_metadata,
    write_normalized,
    write_quantized,
)

import keras_arch
from keras_arch.class_names import pack_labels
from keras_arch.export.metadata import add_metadata, image_classifier_metadata

RNG = np.random.default_rng(0)


# --- any image size, a fixed batch size ---


def small_model(shape, batch=None):
    """Return a classifier with random weights for any image size."""
    image = keras.Input(shape, batch_size=batch)
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, keras.layers.Dense(5, activation="softmax")(x))


@pytest.fixture(scope="module")
def open_model():
    return small_model((None, None, 3))


@pytest.fixture(scope="module")
def open_file(open_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("open") / "open.tflite"
    path.write_bytes(convert(open_model))
    return path


def noise(count, height, width):
    return RNG.integers(0, 256, (count, height, width, 3), dtype="uint8")


def test_a_tflite_file_of_open_size_takes_images_of_any_size(open_model, open_file):
    artifact = keras_arch.open_artifact(open_file)
    assert artifact.image_shape == (None, None, 3)
    assert artifact.image_size is None
    assert artifact.classes == 5
    for shape in ((1, 16, 16), (5, 9, 31), (1, 9, 31), (2, 16, 16), (1, 3, 3)):
        images = noise(*shape)
        expected = open_model(images.astype("float32")).numpy()
        np.testing.assert_allclose(artifact.predict(images), expected, rtol=1e-4, atol=1e-6)


def test_a_tflite_file_with_an_open_number_of_channels_is_refused(tmp_path):
    image = keras.Input((8, 8, None))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.ops.mean(image, axis=3, keepdims=True))
    write_tflite(keras.Model(image, keras.layers.Dense(2)(pooled)), tmp_path / "model.tflite")
    with pytest.raises(
        keras_arch.InputError, match=r"model.tflite must .* Received: .*\(None, 8, 8, None\)"
    ):
        keras_arch.open_artifact(tmp_path / "model.tflite")


def test_threads_may_share_an_artifact_of_open_size(open_model, open_file):
    artifact = keras_arch.open_artifact(open_file)
    batches = [noise(count, 8 + side, 24 - side) for side in range(12) for count in (1, 3)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(artifact.predict, batches))
    for images, found in zip(batches, results, strict=True):
        np.testing.assert_allclose(
            found, open_model(images.astype("float32")).numpy(), rtol=1e-4, atol=1e-6
        )


def test_images_that_are_too_small_are_refused(open_model, open_file):
    artifact = keras_arch.open_artifact(open_file)
    with pytest.raises(
        keras_arch.InputError, match=r"open.tflite cannot classify .* Received: \(1, 2, 2, 3\)"
    ):
        artifact.predict(noise(1, 2, 2))
    images = noise(1, 8, 8)
    np.testing.assert_allclose(
        artifact.predict(images), open_model(images.astype("float32")).numpy(), rtol=1e-4
    )


def test_images_of_two_sizes_are_not_resized(open_model, open_file, script, tmp_path, capsys):
    images = [noise(1, 12, 20)[0], noise(1, 30, 9)[0]]
    for name, image in zip("ab", images, strict=True):
        keras.utils.save_img(tmp_path / f"{name}.png", image, scale=False)
    assert script("predict.py", open_file, tmp_path, "--top", "1", "--format", "csv") == 0
    for line, image in zip(capsys.readouterr().out.splitlines()[1:], images, strict=True):
        expected = open_model(image[np.newaxis].astype("float32")).numpy()[0]
        _, label, probability = line.split(",")
        assert label == f"class {expected.argmax()}"
        assert float(probability) == pytest.approx(expected.max(), rel=1e-4)


def write_keras(model, path):
    model.save(path)


def write_saved_model(model, path):
    """Write a signature with the model's batch size. Keras's `export` would not keep it."""
    serve = tf.function(model).get_concrete_function(tf.TensorSpec(model.input_shape))
    tf.saved_model.save(model, str(path), serve)


def write_tflite(model, path):
    path.write_bytes(convert(model))


def write_onnx(model, path):
    """Write the graph from the model's weights. tf2onnx would not keep the batch size."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (kernel, bias), (weights, offset) = (
        layer.get_weights() for layer in model.layers if layer.weights
    )
    constants = {
        "scale": np.float32(1 / 255),
        "kernel": kernel.transpose(3, 2, 0, 1),
        "bias": bias,
        "weights": weights,
        "offset": offset,
    }
    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        node("Mul", ["image", "scale"], ["scaled"]),
        node("Transpose", ["scaled"], ["first"], perm=[0, 3, 1, 2]),
        node("Conv", ["first", "kernel", "bias"], ["conv"], strides=[2, 2]),
        node("Relu", ["conv"], ["relu"]),
        node("GlobalMaxPool", ["relu"], ["pooled"]),
        node("Flatten", ["pooled"], ["features"]),
        node("Gemm", ["features", "weights", "offset"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"]),
    ]
    image, probabilities = (
        value(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("image", model.input_shape), ("probabilities", model.output_shape))
    )
    initializers = [
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    ]
    graph = onnx.helper.make_graph(nodes, "small", [image], [probabilities], initializers)
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("four.keras", write_keras),
        ("four", write_saved_model),
        ("four.tflite", write_tflite),
        ("four.onnx", write_onnx),
    ],
)
def test_a_file_with_batch_size_4_takes_any_number_of_images(name, write, tmp_path):
    model = small_model((8, 10, 3), batch=4)
    write(model, tmp_path / name)
    artifact = keras_arch.open_artifact(tmp_path / name)
    assert artifact.image_shape == (8, 10, 3)
    images = noise(10, 8, 10)
    one_size = keras.models.clone_model(model, input_tensors=keras.Input((8, 10, 3)))
    one_size.set_weights(model.get_weights())
    expected = one_size(images.astype("float32")).numpy()
    for count in (1, 4, 10):
        np.testing.assert_allclose(
            artifact.predict(images[:count]), expected[:count], rtol=1e-4, atol=1e-6
        )


def test_a_tflite_file_with_any_batch_size_takes_any_number_of_images(tmp_path):
    model = small_model((8, 10, 3))
    write_tflite(model, tmp_path / "open_batch.tflite")
    artifact = keras_arch.open_artifact(tmp_path / "open_batch.tflite")
    assert artifact.image_shape == (8, 10, 3)
    images = noise(7, 8, 10)
    np.testing.assert_allclose(
        artifact.predict(images), model(images.astype("float32")).numpy(), rtol=1e-4, atol=1e-6
    )


# --- pixels normalized outside the model ---


def mediapipes_probabilities(path, images):
    """Return the probabilities (images, classes) of MediaPipe's classifier."""
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        rows = []
        for image in images:
            found = classifier.classify(
                mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            )
            scores = {
                category.index: category.score for category in found.classifications[0].categories
            }
            rows.append([scores[number] for number in range(3)])
    return np.array(rows)


needs_no_statistics = pytest.mark.filterwarnings(
    "ignore:Statistics for quantized inputs:UserWarning"
)


@needs_no_statistics
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_pixels_are_normalized_as_mediapipe_does(dtype, tmp_path):
    path = write_quantized(tmp_path / "model.tflite", dtype)
    images = colors()
    found = keras_arch.open_artifact(path).predict(images)
    np.testing.assert_allclose(found, mediapipes_probabilities(path, images), atol=1e-6)
    assert (found.argmax(axis=1) == images.mean(axis=(1, 2)).argmax(axis=1)).all()


@needs_no_statistics
@pytest.mark.parametrize(("dtype", "metadata"), [("int8", True), ("uint8", False)])
def test_pixels_of_an_integer_input(dtype, metadata, tmp_path):
    """MediaPipe takes neither int8 inputs nor files without metadata. The reference is Keras."""
    artifact = keras_arch.open_artifact(write_quantized(tmp_path / "model.tflite", dtype, metadata))
    images = colors()
    expected = color_model()((images.astype("float32") - 127.5) / 127.5).numpy()
    np.testing.assert_allclose(artifact.predict(images), expected, atol=0.02)


def test_each_channel_has_its_own_mean_and_deviation(tmp_path):
    mean, std = [100.0, 150.0, 200.0], [50.0, 100.0, 60.0]
    path = write_normalized(tmp_path / "model.tflite", mean, std)
    images = colors()
    values = np.clip((images - np.array(mean)) / np.array(std), 0, 1).mean(axis=(1, 2))
    powers = np.exp(4 * values)
    expected = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(keras_arch.open_artifact(path).predict(images), expected, rtol=1e-4)
    assert (expected.argmax(axis=1) != images.mean(axis=(1, 2)).argmax(axis=1)).any()


@pytest.mark.parametrize(
    ("mean", "std"), [([1.0, 2.0], [1.0, 1.0]), ([0.0], [0.0]), ([float("nan")], [1.0]), ([], [])]
)
def test_normalization_that_cannot_be_applied_is_refused(mean, std, tmp_path):
    path = write_normalized(tmp_path / "model.tflite", mean, std)
    with pytest.raises(keras_arch.InputError, match=r"normalization of .* Received: mean=.*, std="):
        keras_arch.open_artifact(path)


@needs_no_statistics
def test_an_integer_input_that_no_pixel_fits_is_refused(tmp_path):
    """Without metadata, the normalization to -1 to 1 is unknown."""
    path = write_quantized(tmp_path / "model.tflite", "int8", metadata=False)
    with pytest.raises(
        keras_arch.InputError,
        match=r"does not specify the normalization .* Received: an input of -0.996 to 1",
    ):
        keras_arch.open_artifact(path)


def test_missing_labels_are_an_error_only_if_the_metadata_name_them(tmp_path):
    content = convert(color_model())
    path = tmp_path / "model.tflite"
    path.write_bytes(add_metadata(content, normalized_metadata([0.0], [1.0])))
    assert keras_arch.open_artifact(path).classes == 3
    path.write_bytes(
        add_metadata(content, image_classifier_metadata("colors", "", "1", "MIT", (6, 6, 3)))
    )
    with pytest.raises(keras_arch.InputError, match="without the labels that its metadata name"):
        keras_arch.open_artifact(path)
    pack_labels(path, ["red", "green", "blue"])
    assert keras_arch.open_artifact(path).classes == 3


def test_damaged_metadata_are_refused(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(add_metadata(convert(color_model()), b"\xff" * 64))
    with pytest.raises(
        keras_arch.InputError, match=r"The metadata of .*model.tflite are damaged. Received: "
    ):
        keras_arch.open_artifact(path)


# --- .keras files that need custom code ---


class NeedsCode(keras.layers.Layer):
    """A custom layer that is not registered."""

    def call(self, x):
        return x


def needs_code(x):
    return x


def save_with(layer, path):
    image = keras.Input((8, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(layer(image))
    keras.Model(image, keras.layers.Dense(2, activation="softmax")(pooled)).save(path)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (NeedsCode(), "needs the class 'NeedsCode'"),
        (keras.layers.Activation(needs_code), "needs the function 'needs_code'"),
        (keras.layers.Lambda(lambda x: x / 255), "Lambda"),
    ],
)
def test_a_missing_class_is_named(layer, message, tmp_path):
    path = tmp_path / "model.keras"
    save_with(layer, path)
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        keras_arch.open_artifact(path)
    text = str(refused.value).replace(str(tmp_path), "")
    assert len(text) < 300
    assert "damaged" not in text
    assert "\n" not in text


def test_a_registered_class_opens(tmp_path):
    with keras.saving.custom_object_scope({"NeedsCode": NeedsCode}):
        save_with(NeedsCode(), tmp_path / "model.keras")
        assert keras_arch.open_artifact(tmp_path / "model.keras").classes == 2


def test_only_a_damaged_archive_is_called_damaged(tmp_path):
    path = tmp_path / "model.keras"
    small_model((8, 8, 3)).save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(keras_arch.InputError, match=r"model\.keras is damaged"):
            keras_arch.open_artifact(path)


# --- ONNX files of other people ---


def write_onnx_mean(path, shape, dtype="FLOAT", output="FLOAT", axes=(1, 2), fixed=None):
    """A file whose probabilities are the softmax of the average color divided by 100.

    `fixed` is the batch that the graph is made for, whatever its input says.
    """
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    node, types = onnx.helper.make_node, onnx.TensorProto
    nodes = [
        node("Cast", ["image"], ["real"], to=types.FLOAT),
        node("ReduceMean", ["real"], ["mean"], axes=list(axes), keepdims=0),
        node("Div", ["mean", "hundred"], ["logits"]),
        node("Reshape", ["logits", "shape"], ["same"]),
        node("Softmax", ["same"], ["softmax"]),
        node("Cast", ["softmax"], ["probabilities"], to=getattr(types, output)),
    ]
    constants = {"hundred": np.float32(100), "shape": np.array([fixed or -1, 3], "int64")}
    initializers = [
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    ]
    image = onnx.helper.make_tensor_value_info("image", getattr(types, dtype), shape)
    probabilities = onnx.helper.make_tensor_value_info(
        "probabilities", getattr(types, output), (shape[0], 3)
    )
    graph = onnx.helper.make_graph(nodes, "mean", [image], [probabilities], initializers)
    opset = onnx.helper.make_opsetid("", 13)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)


def softmax_of_mean_color(images):
    powers = np.exp(np.asarray(images, "float64").mean(axis=(1, 2)) / 100)
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("dtype", ["FLOAT", "FLOAT16", "DOUBLE", "UINT8", "INT32", "INT64"])
def test_onnx_inputs_of_every_number_type(dtype, tmp_path):
    write_onnx_mean(
        tmp_path / "model.onnx",
        ("N", 8, 8, 3),
        dtype,
        output="FLOAT16" if dtype == "FLOAT16" else "FLOAT",
    )
    artifact = keras_arch.open_artifact(tmp_path / "model.onnx")
    images = noise(5, 8, 8)
    found = artifact.predict(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, softmax_of_mean_color(images), atol=2e-3)
    almost_white = np.full(
        (1, 8, 8, 3), [0, 254.7, 300]
    )  # integers are rounded and clipped; they must not overflow
    expected = softmax_of_mean_color(
        almost_white.round().clip(0, 255) if dtype == "UINT8" else almost_white
    )
    np.testing.assert_allclose(artifact.predict(almost_white), expected, atol=4e-3)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        (("N", 3, 32, 32), "FLOAT", r"\(None, 3, 32, 32\).*channels first"),
        (("N", 1, 28, 28), "FLOAT", r"\(None, 1, 28, 28\).*channels first"),
        (("N", 8, 8, 3), "INT8", "int8"),
        (("N", 8, 8, "C"), "FLOAT", r"\(None, 8, 8, None\)"),
    ],
)
def test_onnx_inputs_that_no_image_fits(shape, dtype, message, tmp_path):
    write_onnx_mean(tmp_path / "model.onnx", shape, dtype, axes=(2, 3) if shape[1] != 8 else (1, 2))
    with pytest.raises(
        keras_arch.InputError, match=rf"model\.onnx .* Received: .*{message}"
    ) as refused:
        keras_arch.open_artifact(tmp_path / "model.onnx")
    assert len(str(refused.value).replace(str(tmp_path), "")) < 300


def test_an_onnx_file_that_cannot_run_is_refused(tmp_path):
    """The input takes any batch size, but the graph has batch size 4."""
    write_onnx_mean(tmp_path / "model.onnx", ("N", 8, 8, 3), fixed=4)
    artifact = keras_arch.open_artifact(tmp_path / "model.onnx")
    assert artifact.predict(noise(4, 8, 8)).shape == (4, 3)
    with pytest.raises(
        keras_arch.InputError, match=r"model\.onnx cannot classify .* Received: \(3, 8, 8, 3\)"
    ) as refused:
        artifact.predict(noise(3, 8, 8))
    text = str(refused.value).replace(str(tmp_path), "")
    assert len(text) < 300
    assert "\n" not in text


# --- files that are not image classifiers ---


def save_saved_model(folder, function, spec):
    module = tf.Module()
    module.serve = tf.function(function)
    tf.saved_model.save(module, str(folder), module.serve.get_concrete_function(spec))
    return folder


def mean_color(x):
    return tf.nn.softmax(tf.reduce_mean(tf.cast(x, tf.float32), (1, 2)) / 100)


STRANGE_SIGNATURES = {
    "unknown rank": (
        lambda x: mean_color(tf.reshape(x, (-1, 8, 8, 3))),
        tf.TensorSpec(None),
        "unknown rank",
    ),
    "open channels": (mean_color, tf.TensorSpec((None, 8, 8, None)), r"\(None, 8, 8, None\)"),
    "channels first": (
        lambda x: mean_color(tf.transpose(x, (0, 2, 3, 1))),
        tf.TensorSpec((None, 3, 32, 32)),
        "channels first",
    ),
    "open classes": (
        lambda x: tf.reshape(mean_color(x), (tf.shape(x)[0], -1)),
        tf.TensorSpec((None, 8, 8, 3)),
        r"\(None, None\)",
    ),
    "text": (
        lambda x: tf.zeros((tf.shape(x)[0], 3)),
        tf.TensorSpec((None, 8, 8, 3), tf.string),
        "string",
    ),
    "8 bits with a sign": (mean_color, tf.TensorSpec((None, 8, 8, 3), tf.int8), "int8"),
}


@pytest.mark.parametrize("kind", STRANGE_SIGNATURES)
def test_saved_models_that_no_image_fits(kind, tmp_path):
    function, spec, message = STRANGE_SIGNATURES[kind]
    path = save_saved_model(tmp_path / "model", function, spec)
    with pytest.raises(keras_arch.InputError, match=rf"/model .* Received: .*{message}") as refused:
        keras_arch.open_artifact(path)
    assert len(str(refused.value).replace(str(tmp_path), "")) < 300


def test_a_saved_model_without_a_signature_is_not_called_damaged(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "model"))
    with pytest.raises(
        keras_arch.InputError, match=r"/model has no signature 'serving_default'. Received: none"
    ):
        keras_arch.open_artifact(tmp_path / "model")


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "int32", "float64"])
def test_saved_models_of_every_number_type(dtype, tmp_path):
    path = save_saved_model(
        tmp_path / "model", mean_color, tf.TensorSpec((None, 8, 8, 3), tf.as_dtype(dtype))
    )
    artifact = keras_arch.open_artifact(path)
    images = np.full(
        (2, 8, 8, 3), [0, 100.7, 300]
    )  # integers are rounded and clipped; they must not overflow
    expected = softmax_of_mean_color(images.round().clip(0, 255) if dtype == "uint8" else images)
    np.testing.assert_allclose(artifact.predict(images), expected, atol=4e-3)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_keras_files_of_integer_inputs(dtype, tmp_path):
    image = keras.Input((8, 8, 3), dtype=dtype)
    mean = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 100)(image))
    keras.Model(image, keras.layers.Softmax()(mean)).save(tmp_path / "model.keras")
    images = np.full((2, 8, 8, 3), [0, 100.7, 300])
    expected = softmax_of_mean_color(
        images.round().clip(0, 255) if dtype == "uint8" else images.round()
    )
    artifact = keras_arch.open_artifact(tmp_path / "model.keras")
    np.testing.assert_allclose(artifact.predict(images), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*has not yet been built:UserWarning")
def test_a_model_that_was_never_built_is_refused(tmp_path):
    model = keras.Sequential(
        [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, activation="softmax")]
    )
    model.save(tmp_path / "model.keras")
    with pytest.raises(
        keras_arch.InputError, match=r"model\.keras must .* Received: a Sequential without inputs"
    ):
        keras_arch.open_artifact(tmp_path / "model.keras")


def test_one_output_of_a_dict_opens_and_two_do_not(tmp_path):
    image = keras.Input((8, 8, 3), name="image")
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    outputs = {
        name: keras.layers.Dense(2, activation="softmax", name=name)(pooled)
        for name in ("first", "second")
    }
    keras.Model({"image": image}, {"first": outputs["first"]}).save(tmp_path / "one.keras")
    assert keras_arch.open_artifact(tmp_path / "one.keras").predict(noise(2, 8, 8)).shape == (2, 2)
    keras.Model(image, outputs).save(tmp_path / "two.keras")
    with pytest.raises(keras_arch.InputError, match=r"2 outputs: first, second"):
        keras_arch.open_artifact(tmp_path / "two.keras")


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory):
    """Write a model for images of 8x10 pixels as each kind of file."""
    folder = tmp_path_factory.mktemp("every_kind")
    model = small_model((8, 10, 3), batch=4)
    for name, write in (
        ("model.keras", write_keras),
        ("model", write_saved_model),
        ("model.tflite", write_tflite),
        ("model.onnx", write_onnx),
    ):
        write(model, folder / name)
    return folder


@pytest.mark.parametrize("name", ["model.keras", "model", "model.tflite", "model.onnx"])
def test_images_of_another_shape_are_refused(name, every_kind):
    artifact = keras_arch.open_artifact(every_kind / name)
    for shape in ((2, 10, 8, 3), (2, 8, 10, 1), (2, 8, 10, 4), (8, 10, 3), (2, 3, 8, 10)):
        with pytest.raises(
            keras_arch.InputError, match=r"cannot classify .* Received: \(.*\(8, 10, 3\)"
        ) as refused:
            artifact.predict(np.zeros(shape, "uint8"))
        assert len(str(refused.value).replace(str(every_kind), "")) < 300
    assert artifact.predict(np.zeros((0, 8, 10, 3), "uint8")).shape == (0, 5)


@pytest.mark.parametrize("channels", [2, 4])
def test_predict_refuses_models_with_other_channels(channels, script, tmp_path, capsys):
    image = keras.Input((8, 8, channels))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, keras.layers.Dense(2, activation="softmax")(pooled)).save(
        tmp_path / "model.keras"
    )
    assert keras_arch.open_artifact(tmp_path / "model.keras").predict(
        np.zeros((1, 8, 8, channels))
    ).shape == (1, 2)
    keras.utils.save_img(tmp_path / "a.png", noise(1, 8, 8)[0], scale=False)
    assert script("predict.py", tmp_path / "model.keras", tmp_path / "a.png") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert f"{channels} channels" in captured.err
    assert len(captured.err.splitlines()) == 1


@pytest.mark.parametrize("first", [[keras.Input((8, 8, 3))], []], ids=["with an input", "built"])
def test_a_sequential_model_opens(first, tmp_path):
    model = keras.Sequential(
        [*first, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2, activation="softmax")]
    )
    model.build((None, 8, 8, 3))
    model.save(tmp_path / "model.keras")
    images = noise(2, 8, 8)
    found = keras_arch.open_artifact(tmp_path / "model.keras").predict(images)
    np.testing.assert_allclose(found, model(images.astype("float32")).numpy(), atol=1e-6)


# --- number of interpreters ---


@pytest.fixture
def interpreters(monkeypatch):
    """List (number of threads, weak reference) of each interpreter that starts."""
    started = []

    class Counted(litert.Interpreter):
        def __init__(self, path, num_threads):
            super().__init__(path, num_threads=num_threads)
            started.append((num_threads, weakref.ref(self)))

    monkeypatch.setattr(litert, "Interpreter", Counted)
    return started


def alive(started):
    gc.collect()
    return [threads for threads, reference in started if reference() is not None]


def set_machine(monkeypatch, cores, memory):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)  # the host has more cores than the container
    monkeypatch.setattr("keras_arch.artifacts.tflite.available_cores", lambda: cores)
    monkeypatch.setattr("keras_arch.artifacts.tflite.available_memory", lambda: memory)


@pytest.mark.parametrize(
    ("cores", "memory", "count", "workers"),
    [
        (4, 10**12, 200, 4),  # one for each core
        (64, 10**12, 64, 4),  # at least 16 images for each
        (4, 10**12, 20, 0),  # few images run in the first interpreter
        (4, 10**12, 1, 0),
        (64, 10**3, 2000, 0),  # not enough memory
        (1, 10**12, 200, 0),  # one core
    ],
)
def test_interpreters_by_cores_images_and_memory(
    cores, memory, count, workers, open_model, open_file, interpreters, monkeypatch
):
    set_machine(monkeypatch, cores, memory)
    artifact = keras_arch.open_artifact(open_file)
    assert alive(interpreters) == [cores]
    images = noise(count, 8, 8)
    found = artifact.predict(images)
    np.testing.assert_allclose(
        found, open_model(images.astype("float32")).numpy(), rtol=1e-4, atol=1e-6
    )
    assert [threads for threads, _ in interpreters] == [cores] + [1] * workers
    assert alive(interpreters) == [cores]


def test_interpreters_share_the_memory_there_is(open_file, interpreters, monkeypatch):
    """Each may need its file and all tensors. A quarter of the memory is for all of them."""
    model = litert.Interpreter(str(open_file), num_threads=1)
    tensors = sum(int(np.prod(tensor["shape"])) * 4 for tensor in model.get_tensor_details())
    interpreters.clear()
    set_machine(monkeypatch, 64, 4 * 3 * (open_file.stat().st_size + tensors))
    keras_arch.open_artifact(open_file).predict(noise(200, 8, 8))
    assert [threads for threads, _ in interpreters] == [64, 1, 1, 1]
