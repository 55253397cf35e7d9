"""Files that others made: images of any size, batches of a fixed size, and pixels normalized outside the model."""

from concurrent.futures import ThreadPoolExecutor

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_arch
from keras_arch.export.metadata import image_classifier_metadata, pack_labels, with_metadata

RNG = np.random.default_rng(0)


# --- images of any size, batches of a fixed size ---


def small_model(shape, batch=None):
    """A classifier with random weights whose answer depends on where things are and not on the size of the image."""
    image = keras.Input(shape, batch_size=batch)
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, keras.layers.Dense(5, activation="softmax")(x))


def convert(model, options=()):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    for name, value in dict(options).items():
        setattr(converter, name, value)
    return converter.convert()


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
    with pytest.raises(keras_arch.InputError, match=r"expected an image classifier, .*\(None, 8, 8, None\)"):
        keras_arch.open_artifact(tmp_path / "model.tflite")


def test_threads_may_share_an_artifact_of_open_size(open_model, open_file):
    artifact = keras_arch.open_artifact(open_file)
    batches = [noise(count, 8 + side, 24 - side) for side in range(12) for count in (1, 3)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(artifact.predict, batches))
    for images, found in zip(batches, answers, strict=True):
        np.testing.assert_allclose(found, open_model(images.astype("float32")).numpy(), rtol=1e-4, atol=1e-6)


def test_images_that_are_too_small_are_refused(open_model, open_file):
    artifact = keras_arch.open_artifact(open_file)
    with pytest.raises(keras_arch.InputError, match=r"open.tflite cannot classify .* Received: .*\(2, 2, 3\)"):
        artifact.predict(noise(1, 2, 2))
    images = noise(1, 8, 8)
    np.testing.assert_allclose(artifact.predict(images), open_model(images.astype("float32")).numpy(), rtol=1e-4)


def test_pictures_of_two_sizes_are_classified_at_their_own(open_model, open_file, script, tmp_path, capsys):
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
    """With a signature of the model's own batch, which Keras's `export` would open."""
    serve = tf.function(model).get_concrete_function(tf.TensorSpec(model.input_shape))
    tf.saved_model.save(model, str(path), serve)


def write_tflite(model, path):
    path.write_bytes(convert(model))


def write_onnx(model, path):
    """By hand, from the model's own weights: tf2onnx opens the batch."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    (kernel, bias), (weights, offset) = (layer.get_weights() for layer in model.layers if layer.weights)
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
    initializers = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
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
def test_a_file_of_four_images_at_once_takes_any_number(name, write, tmp_path):
    model = small_model((8, 10, 3), batch=4)
    write(model, tmp_path / name)
    artifact = keras_arch.open_artifact(tmp_path / name)
    assert artifact.image_shape == (8, 10, 3)
    images = noise(10, 8, 10)
    one_size = keras.models.clone_model(model, input_tensors=keras.Input((8, 10, 3)))
    one_size.set_weights(model.get_weights())
    expected = one_size(images.astype("float32")).numpy()
    for count in (1, 4, 10):
        np.testing.assert_allclose(artifact.predict(images[:count]), expected[:count], rtol=1e-4, atol=1e-6)


def test_a_tflite_file_of_an_open_batch_takes_any_number(tmp_path):
    model = small_model((8, 10, 3))
    write_tflite(model, tmp_path / "open_batch.tflite")
    artifact = keras_arch.open_artifact(tmp_path / "open_batch.tflite")
    assert artifact.image_shape == (8, 10, 3)
    images = noise(7, 8, 10)
    np.testing.assert_allclose(artifact.predict(images), model(images.astype("float32")).numpy(), rtol=1e-4, atol=1e-6)


# --- pixels normalized outside the model ---


def color_model():
    """Names the channel that is highest after normalization: equal means and deviations leave it as it was."""
    image = keras.Input((6, 6, 3), batch_size=1)
    dense = keras.layers.Dense(3, activation="softmax")
    model = keras.Model(image, dense(keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU(1.0)(image))))
    dense.set_weights([4 * np.eye(3, dtype="float32"), np.zeros(3, "float32")])
    return model


def colors(count=20):
    """Images (count, 6, 6, 3) of noise about one color each; two channels at least are above 0 after normalization."""
    base = RNG.uniform(140, 240, (count, 1, 1, 3))
    return (base + RNG.normal(0, 10, (count, 6, 6, 3))).clip(0, 255).astype("uint8")


def normalized_metadata(mean, std):
    """The metadata of a file whose input is normalized outside, by the published schema's own code."""
    schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    image, output, unit = schema.TensorMetadataT(), schema.TensorMetadataT(), schema.ProcessUnitT()
    unit.optionsType, unit.options = schema.ProcessUnitOptions.NormalizationOptions, schema.NormalizationOptionsT()
    unit.options.mean, unit.options.std = mean, std
    image.name, output.name = "image", "probabilities"  # MediaPipe crashes without
    image.processUnits, image.content = [unit], schema.ContentT()
    image.content.contentPropertiesType = schema.ContentProperties.ImageProperties
    image.content.contentProperties = schema.ImagePropertiesT()
    image.content.contentProperties.colorSpace = schema.ColorSpaceType.RGB
    graph, metadata = schema.SubGraphMetadataT(), schema.ModelMetadataT()
    graph.inputTensorMetadata, graph.outputTensorMetadata = [image], [output]
    metadata.name, metadata.minParserVersion, metadata.subgraphMetadata = "colors", "1.0.0", [graph]
    builder = flatbuffers.Builder()
    builder.Finish(metadata.Pack(builder), file_identifier=b"M001")
    return bytes(builder.Output())


def write_normalized(path, mean, std, dtype="float32", metadata=True):
    """`color_model` as a file that wants (x - mean) / std, with images of -1 to 1 as calibration."""
    calibration = (colors().astype("float32") - 127.5) / 127.5
    calibration[0, 0, 0], calibration[0, 0, 1] = -1, 1
    integers = {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": lambda: ([image[np.newaxis]] for image in calibration),
        "inference_input_type": tf.as_dtype(dtype),
    }
    content = convert(color_model(), integers if dtype != "float32" else {})
    path.write_bytes(with_metadata(content, normalized_metadata(mean, std)) if metadata else content)
    return path


def write_quantized(path, dtype, metadata=True):
    return write_normalized(path, [127.5], [127.5], dtype, metadata)


def mediapipes_probabilities(path, images):
    """(images, classes) as MediaPipe's own classifier gives them."""
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
    with vision.ImageClassifier.create_from_options(options) as classifier:
        answers = []
        for image in images:
            found = classifier.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
            scores = {category.index: category.score for category in found.classifications[0].categories}
            answers.append([scores[number] for number in range(3)])
    return np.array(answers)


needs_no_statistics = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")


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
    """MediaPipe takes no int8 input, and no file without metadata; Keras's model has the answers to compare with."""
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


@pytest.mark.parametrize(("mean", "std"), [([1.0, 2.0], [1.0, 1.0]), ([0.0], [0.0]), ([float("nan")], [1.0]), ([], [])])
def test_normalization_that_cannot_be_applied_is_refused(mean, std, tmp_path):
    path = write_normalized(tmp_path / "model.tflite", mean, std)
    with pytest.raises(keras_arch.InputError, match=r"normalization of .* Received: mean=.*, std="):
        keras_arch.open_artifact(path)


@needs_no_statistics
def test_an_integer_input_that_no_pixel_fits_is_refused(tmp_path):
    """Without metadata, nobody says how pixels become values of -1 to 1."""
    path = write_quantized(tmp_path / "model.tflite", "int8", metadata=False)
    with pytest.raises(keras_arch.InputError, match=r"does not say how .* Received: an input of -0.996 to 1"):
        keras_arch.open_artifact(path)


def test_labels_are_missed_only_where_the_metadata_name_them(tmp_path):
    content = convert(color_model())
    path, labels = tmp_path / "model.tflite", tmp_path / "labels.txt"
    labels.write_text("red\ngreen\nblue\n")
    path.write_bytes(with_metadata(content, normalized_metadata([0.0], [1.0])))
    assert keras_arch.open_artifact(path).classes == 3
    path.write_bytes(with_metadata(content, image_classifier_metadata("colors", "", "1", "MIT", (6, 6, 3))))
    with pytest.raises(keras_arch.InputError, match="whose labels are cut off"):
        keras_arch.open_artifact(path)
    pack_labels(path, labels)
    assert keras_arch.open_artifact(path).classes == 3


def test_damaged_metadata_are_refused(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(with_metadata(convert(color_model()), b"\xff" * 64))
    with pytest.raises(keras_arch.InputError, match=r"The metadata of .*model.tflite are damaged. Received: "):
        keras_arch.open_artifact(path)


# --- .keras files that need code of their own ---


class NeedsCode(keras.layers.Layer):
    """A layer that Keras cannot find when it opens the file."""

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
