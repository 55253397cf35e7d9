"""Exports and their verification. Planted faults must be reported."""

import json
import re
import shutil
from dataclasses import replace

import flatbuffers
import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from conftest import ROOT, write_tflite
from keras import layers

import keras_arch
from keras_arch.class_names import pack_labels, read_labels, read_packed_labels, write_labels
from keras_arch.export.metadata import add_metadata, image_classifier_metadata
from keras_arch.export.model import build_metadata, build_spec, export_model, quantization_errors
from keras_arch.export.quantization import layers_to_keep
from keras_arch.export.tflite import LUMA, build_tflite_model, convert, open_converter, trace
from keras_arch.export.verification.checks import drop_interval
from keras_arch.export.verification.graph import find_batch_norms, operator_names
from keras_arch.export.verification.verify import Reference, verify
from keras_arch.formats import FORMATS, ExportSettings
from keras_arch.models import resize_model
from keras_arch.reports.tables import verification_table

TFLITE = ("float32", "float16", "dynamic", "int8", "int16x8")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Run each file once, with one thread. The export of the quickstart runs with one and two."""
    monkeypatch.setattr("keras_arch.export.verification.verify.THREADS", (1,))


def only(*formats, **settings):
    return ExportSettings(formats=formats, **settings)


@pytest.fixture(scope="module")
def model(quickstart):
    return keras.models.load_model(quickstart / "model.keras", compile=False)


@pytest.fixture(scope="module")
def calibration(digits):
    return digits.train.sample(100, 0)[0]


@pytest.fixture(scope="module")
def reference(model, digits):
    images, labels = digits.test.sample(200, 0)
    return Reference(images, labels, model.predict(images, verbose=0), digits.class_names)


# --- what is written ---


def test_every_file_passes_verification(quickstart):
    report = json.loads((quickstart / "export/export.json").read_text())
    assert list(report["artifacts"]) == ["saved_model", *TFLITE]
    for row in report["artifacts"].values():
        assert row["problems"] == []
        metrics = row["metrics"]
        assert metrics["top1"] >= 0.98
        assert metrics["drop_interval"][0] <= metrics["drop"] <= metrics["drop_interval"][1]
        assert set(row["latency_ms"]) == {"1", "2"}
        assert (quickstart / "export" / row["file"]).exists()
    assert report["calibration"] == {
        **{"data": "digits", "split": "train", "images": 100},
        **{"seed": 0, "augmented": False},
    }
    sizes = {name: report["artifacts"][name]["bytes"] for name in TFLITE}
    assert sizes["float16"] < 0.6 * sizes["float32"]
    assert sizes["int8"] < 0.4 * sizes["float32"]
    assert max(map(len, verification_table(report).splitlines())) <= 80
    card = (quickstart / "export/MODEL_CARD.md").read_text()
    (keras_needed,) = re.findall(r'"keras>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert f"model.keras opens with Keras {keras_needed} or newer" in card
    for name in TFLITE:
        row = report["artifacts"][name]
        assert (
            f"| `{row['file']}` | {row['purpose']} | {row['inputs'][0]['type']} 1x8x8x3 |" in card
        )
        assert f"{row['metrics']['top1']:.2%}" in card


@pytest.mark.parametrize("name", TFLITE)
def test_litert_reads_names_labels_and_pixels(quickstart, name):
    """LiteRT alone runs a file by the names of its signature, on raw pixels."""
    from ai_edge_litert.interpreter import Interpreter

    path = quickstart / "export" / FORMATS[name].file
    assert read_packed_labels(path) == tuple("0123456789")
    runner = Interpreter(str(path)).get_signature_runner()
    (image,) = runner.get_input_details().values()
    assert (image["name"], tuple(image["shape"])) == ("image", (1, 8, 8, 3))
    assert image["dtype"] == {"int8": np.uint8}.get(name, np.float32)
    gray = keras_arch.images.read.read_image("examples/digit.png", (8, 8, 1))
    outputs = runner(image=np.repeat(gray, 3, axis=2)[np.newaxis].astype(image["dtype"]))
    assert outputs["probabilities"].argmax() == 7


def test_metadata_is_what_the_published_schema_reads():
    """MediaPipe ships the code that is generated from the schema."""
    generated = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    content = image_classifier_metadata("resnet8", "Ten digits.", "abc", "MIT", (32, 48, 3))
    metadata = generated.ModelMetadataT.InitFromPackedBuf(content, 0)
    assert generated.ModelMetadata.ModelMetadataBufferHasIdentifier(content, 0)
    texts = metadata.name, metadata.description, metadata.version, metadata.license, metadata.author
    assert texts == (b"resnet8", b"Ten digits.", b"abc", b"MIT", None)
    (graph,) = metadata.subgraphMetadata
    (image,), (output,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert (image.name, output.name) == (b"image", b"probabilities")
    properties = image.content.contentProperties
    assert properties.colorSpace == generated.ColorSpaceType.RGB
    assert (properties.defaultSize.height, properties.defaultSize.width) == (32, 48)
    (unit,) = image.processUnits
    assert (unit.options.mean.tolist(), unit.options.std.tolist()) == ([0], [1])
    assert (image.stats.min.tolist(), image.stats.max.tolist()) == ([0], [255])
    (labels,) = output.associatedFiles
    assert (labels.name, labels.type) == (
        b"labels.txt",
        generated.AssociatedFileType.TENSOR_AXIS_LABELS,
    )


@pytest.mark.parametrize("name", TFLITE)
def test_mediapipe_classifies_with_the_file_alone(quickstart, reference, name):
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import BaseOptions, vision

    options = BaseOptions(model_asset_path=str(quickstart / "export" / FORMATS[name].file))
    with vision.ImageClassifier.create_from_options(
        vision.ImageClassifierOptions(base_options=options)
    ) as classifier:
        for image, probabilities in zip(
            reference.images[:20], reference.probabilities, strict=False
        ):
            color = np.ascontiguousarray(np.repeat(image, 3, axis=2))
            found = classifier.classify(
                mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=color)
            )
            assert found.classifications[0].categories[0].category_name == str(
                probabilities.argmax()
            )


def test_rgb_input_of_a_grayscale_model_computes_luma(model, tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype="uint8")
    keras.utils.save_img(tmp_path / "color.png", colors, scale=False)
    gray = keras_arch.images.read.read_image(tmp_path / "color.png", (8, 8, 1))
    front = keras.Model(
        *(lambda built: (built.inputs, built.get_layer("grey").output))(build_tflite_model(model))
    )
    np.testing.assert_allclose(
        front.predict_on_batch(colors[np.newaxis].astype("float32"))[0], gray, atol=1
    )
    assert sum(LUMA) == pytest.approx(1)


def test_adding_metadata_keeps_weights_aligned(quickstart):
    """TFLite's schema requires buffers at multiples of 16 bytes."""
    content = (quickstart / "export/model_float32.tflite").read_bytes()
    model = schema.Model.GetRootAs(content, 0)
    whole = np.frombuffer(content, "uint8")
    starts = [
        data.ctypes.data - whole.ctypes.data
        for data in (model.Buffers(number).DataAsNumpy() for number in range(model.BuffersLength()))
        if isinstance(data, np.ndarray)
    ]
    assert len(starts) > 10
    assert not any(start % 16 for start in starts)


def test_server_takes_images_of_any_size(quickstart, digits):
    loaded = tf.saved_model.load(quickstart / "export/saved_model")
    encoded = tf.io.read_file("examples/digit.png")
    larger = tf.io.encode_png(np.full((31, 57, 3), 200, "uint8"))
    outputs = loaded.signatures["serve_bytes"](image=tf.stack([encoded, larger]))
    assert outputs["classes"][0].numpy() == b"7"
    assert outputs["probabilities"].shape == (2, 10)
    images, _ = digits.test.sample(3, 0)  # uint8
    assert loaded(images)["classes"].shape == (3,)


def test_another_size_and_grayscale_input(tmp_path):
    model = keras_arch.ResNet8(input_shape=(8, 8, 1), classes=3)
    larger = resize_model(model, 24, 16)
    assert larger.input_shape == (None, 24, 16, 1)
    images = np.random.default_rng(0).integers(0, 256, (30, 24, 16, 1), dtype="uint8")
    settings = only("float32", "int8", keep_channels=True, int8_output="float32")
    specs, _ = export_model(larger, tmp_path, ("a", "b", "c"), images, settings)
    reference = Reference(
        images, np.zeros(30, int), larger.predict(images, verbose=0), ("a", "b", "c"), max_drop=100
    )
    rows = verify(tmp_path, specs, reference)
    assert [row.problems for row in rows.values()] == [(), ()]
    assert specs["int8"].inputs[0].shape == (1, 24, 16, 1)
    assert specs["int8"].outputs[0].type == "float32"
    with pytest.raises(
        keras_arch.InputError, match=r"a size that resnet8 can take\. Received: 0x0"
    ):
        resize_model(model, 0, 0)


def test_onnx(model, calibration, reference, digits, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tf2onnx")
    specs, _ = export_model(model, tmp_path, digits.class_names, calibration, only("onnx"))
    assert verify(tmp_path, specs, reference)["onnx"].problems == ()
    onnx = pytest.importorskip("onnx")
    content = onnx.load(tmp_path / "model_float32.onnx")
    assert [(entry.key, json.loads(entry.value)) for entry in content.metadata_props] == [
        ("names", list("0123456789"))
    ]
    content.metadata_props[0].value = content.metadata_props[0].value.replace('"4"', '"four"')
    onnx.save(content, tmp_path / "model_float32.onnx")
    assert verify(tmp_path, specs, reference)["onnx"].problems == (
        "labels: output 4 must be '4'. Received: 'four'.",
    )


# --- int8, layer by layer ---


def test_a_layer_with_a_high_int8_error_is_ranked_first_and_kept(tmp_path):
    """One unused channel is 1000 times as large as the others, so that int8 has no steps for them."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Rescaling(1 / 255, name="normalize")(image)
    for name in ("first", "spoiled", "reader"):
        x = layers.Conv2D(8, 3, activation="relu", name=name)(x)
    x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    model = keras.Model(
        image, layers.Dense(4, activation="softmax", name="predictions")(x), name="small"
    )
    spoiled, reader = model.get_layer("spoiled"), model.get_layer("reader")
    spoiled.set_weights(
        [spoiled.get_weights()[0] * np.array([1000, *[1] * 7]), spoiled.get_weights()[1]]
    )
    reader.set_weights(
        [reader.get_weights()[0] * np.array([0, *[1] * 7])[:, np.newaxis], reader.get_weights()[1]]
    )
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype="uint8")
    ranking = quantization_errors(model, images, images)
    assert ranking[0].layer == "spoiled"
    assert ranking[0].readers == ("reader",)
    assert {row.layer: row.added for row in ranking}["first"] < 0.05
    assert layers_to_keep(ranking) == ["spoiled", "reader"]
    probabilities = model.predict(images, verbose=0)
    reference = Reference(
        images, probabilities.argmax(axis=1), probabilities, tuple("abcd"), max_drop=100
    )

    def difference(keep_float):
        settings = only("int8", keep_float=keep_float, int8_output="float32")
        specs, refused = export_model(model, tmp_path, tuple("abcd"), images, settings)
        assert not refused
        row = verify(tmp_path, specs, reference)["int8"]
        return row.metrics.mean_difference, specs["int8"].inputs[0].type

    (ruined, taken), (kept, taken_then) = difference(()), difference(("spoiled", "reader"))
    assert (taken, taken_then) == ("uint8", "float32")
    assert kept < 0.2 * ruined
    with pytest.raises(keras_arch.InputError, match="Did you mean spoiled"):
        difference(("spoilt",))


# --- faults, planted one by one ---


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


def other_model(model, change):
    """Return a model of the same architecture with other weights."""
    copy = keras.models.clone_model(model)
    copy.set_weights([change(weights) for weights in model.get_weights()])
    return copy


def with_other_normalization(model):
    image = keras.Input(model.input_shape[1:], name="image")
    return keras.Model(image, model(image * 1.02), name=model.name)


def perturb(model):
    noise = np.random.default_rng(0)
    return other_model(
        model, lambda weights: weights * (1 + 0.001 * noise.standard_normal(weights.shape))
    )


def swap_outputs(model):
    """Return a model whose first two outputs are swapped."""
    copy = other_model(model, lambda weights: weights)
    head = copy.layers[-1]
    head.set_weights([weights[..., [1, 0, *range(2, 10)]] for weights in head.get_weights()])
    return copy


def with_flex(model):
    """Return a file with an operator that TFLite does not have. It does not change gray images."""
    image = keras.Input((8, 8, 3), batch_size=1, name="image")
    x = layers.Lambda(lambda x: tf.image.adjust_hue(x, 0.25), output_shape=(8, 8, 3))(image)
    with trace(keras.Model(image, build_tflite_model(model)(x))) as source:
        converter = tf.lite.TFLiteConverter.from_saved_model(source)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
        return converter.convert()


def with_two_outputs(model):
    phone = build_tflite_model(model)
    image = keras.Input((8, 8, 3), batch_size=1, name="image")
    x = phone(image)["probabilities"]
    with trace(keras.Model(image, {"probabilities": x, "auxiliary": x + 1})) as source:
        return tf.lite.TFLiteConverter.from_saved_model(source).convert()


class Training(layers.BatchNormalization):
    """Batch normalization that always uses the statistics of the batch."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


def small_tflite(*between, name="float32"):
    """Return a .tflite file with the layers `between`, an average pool and a softmax."""
    image = x = keras.Input((8, 8, 3), batch_size=1, name="image")
    rng = np.random.default_rng(0)
    for layer in between:
        x = layer(x)
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights(
                [rng.uniform(0.5, 1.5, weights.shape) for weights in layer.get_weights()]
            )
    x = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    with trace(keras.Model(image, {"probabilities": x})) as source:
        return convert(open_converter(source), FORMATS[name], rng.integers(0, 256, (4, 8, 8, 3)))


def norms_left(content):
    return list(find_batch_norms(schema.ModelT.InitFromPackedBuf(content, 0)))


class PositionEmbedding(layers.Layer):
    """Learned positions, as in vision transformers."""

    def build(self, shape):
        self.embedding = self.add_weight(shape=(1, *shape[1:]), initializer="normal")

    def call(self, inputs):
        return inputs + self.embedding


def conv(activation=None):
    return layers.Conv2D(4, 3, activation=activation)


NO_FAULT = {  # name: layers of a network without a batch norm that conversion could fold
    "norm after a relu": lambda: [conv("relu"), layers.BatchNormalization()],
    "norm after a dense layer's relu": lambda: [
        layers.Dense(4, "relu"),
        layers.BatchNormalization(),
    ],
    "hard sigmoid": lambda: [conv("hard_sigmoid")],
    "hard sigmoid after a norm": lambda: [
        conv(),
        layers.BatchNormalization(),
        layers.Activation("hard_sigmoid"),
    ],
    "pre-activation after a stem": lambda: [
        conv(),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.BatchNormalization(),  # of the first block
        layers.ReLU(),
        conv(),
    ],
    "layer normalization": lambda: [conv(), layers.LayerNormalization()],
    "group normalization": lambda: [conv(), layers.GroupNormalization(2)],
    "position embedding": lambda: [conv(), PositionEmbedding()],
    "one minus a convolution": lambda: [conv(), layers.Lambda(lambda x: 1 - x)],
}


@pytest.mark.parametrize(
    ("network", "name"),
    [
        *((network, "float32") for network in NO_FAULT),
        ("hard sigmoid", "float16"),
        ("norm after a relu", "int8"),
    ],
)
def test_operators_that_cannot_be_folded_are_no_fault(network, name):
    assert norms_left(small_tflite(*NO_FAULT[network](), name=name)) == []


def without_activation(content):
    """Return the unpacked model of a .tflite file, with no activation in its first convolution."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    (first, *_) = (
        one
        for one in model.subgraphs[0].operators
        if isinstance(one.builtinOptions, schema.Conv2DOptionsT)
    )
    assert first.builtinOptions.fusedActivationFunction != schema.ActivationFunctionType.NONE
    first.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
    return model


@pytest.mark.parametrize("name", ["float32", "float16", "int8"])
def test_an_unfolded_batch_norm_is_found(name):
    """Without the relu before it, the converter would have folded the norm."""
    content = small_tflite(conv("relu"), layers.BatchNormalization(), name=name)
    assert norms_left(content) == []
    found = find_batch_norms(without_activation(content))
    assert [norm.split(" (")[0] for norm in found] == ["MUL after a convolution"]


def test_one_number_for_all_channels_is_no_batch_norm():
    """A hard sigmoid multiplies by 1/6 after its relu6."""
    model = without_activation(small_tflite(conv("hard_sigmoid")))
    names = operator_names(model)[1]
    assert [names[one.opcodeIndex] for one in model.subgraphs[0].operators][1] == "MUL"
    assert list(find_batch_norms(model)) == []


@pytest.mark.parametrize(("name", "activation"), [("float32", None), ("int8", "relu")])
def test_a_batch_norm_in_training_mode_is_found(name, activation):
    content = small_tflite(conv(activation), Training(), name=name)
    assert [norm.split(" (")[0] for norm in norms_left(content)] == [
        "SQUARED_DIFFERENCE over the batch"
    ]


def with_multiplication(model):
    """Return a file with a multiplication after a convolution, as in an unfolded norm."""
    with trace(build_tflite_model(model)) as source:
        content = tf.lite.TFLiteConverter.from_saved_model(source).convert()
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = file.subgraphs[0]
    first = next(
        one
        for one in graph.operators
        if len(one.inputs) == 3  # image, kernel, bias
        and graph.tensors[one.outputs[0]].shape[-1] > 1  # not the conversion to grayscale
        and one.builtinOptions.fusedActivationFunction == schema.ActivationFunctionType.NONE
    )
    output, shape = first.outputs[0], graph.tensors[first.outputs[0]].shape
    scale, scaled, buffer = schema.TensorT(), schema.TensorT(), schema.BufferT()
    buffer.data = np.frombuffer(np.linspace(1, 2, shape[-1], dtype="float32").tobytes(), "uint8")
    scale.shape, scale.buffer, scale.name = [shape[-1]], len(file.buffers), "scale"
    scaled.shape, scaled.buffer, scaled.name = shape, 0, "scaled"
    code, multiply = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MUL
    multiply.opcodeIndex = len(file.operatorCodes)
    multiply.inputs, multiply.outputs = [output, len(graph.tensors)], [len(graph.tensors) + 1]
    multiply.builtinOptionsType, multiply.builtinOptions = (
        schema.BuiltinOptions.MulOptions,
        schema.MulOptionsT(),
    )
    place = graph.operators.index(first) + 1
    for one in graph.operators[place:]:
        one.inputs = [multiply.outputs[0] if number == output else number for number in one.inputs]
    file.buffers.append(buffer)
    file.operatorCodes.append(code)
    graph.tensors += [scale, scaled]
    graph.operators.insert(place, multiply)
    builder = flatbuffers.Builder()
    builder.Finish(file.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def with_nan(model):
    copy = other_model(
        model, lambda weights: np.full_like(weights, np.nan) if weights.ndim == 1 else weights
    )
    with trace(build_tflite_model(copy)) as source:
        return tf.lite.TFLiteConverter.from_saved_model(source).convert()


NOISE = np.random.default_rng(0).integers(
    0, 3, (20, 8, 8, 1), dtype="uint8"
)  # black images of a camera

EXPORT_FAULTS = {  # name: (formats, change of the model, class names, calibration, problem)
    "another normalization": (
        ("float32",),
        with_other_normalization,
        None,
        None,
        "probabilities: the maximum absolute error is",
    ),
    "weights perturbed": (
        ("float32",),
        perturb,
        None,
        None,
        "probabilities: the maximum absolute error is",
    ),
    "swapped outputs": (
        ("float32",),
        swap_outputs,
        None,
        None,
        r"top class: \d+ of 200 images differ",
    ),
    "scrambled labels": (
        ("saved_model", "int8"),
        None,
        "1023456789",
        None,
        "labels: output 0 must be '0'. Received: '1'.",
    ),
    "calibration on noise": (
        ("int8",),
        None,
        None,
        NOISE,
        "accuracy: the drop is .* points .*The limit is 1",
    ),
}
# Other tests have faults of labels, order and probabilities.
SLOW_FAULTS = ("scrambled labels", "swapped outputs", "weights perturbed")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=pytest.mark.slow) if fault in SLOW_FAULTS else fault
        for fault in EXPORT_FAULTS
    ],
)
def test_a_fault_in_the_export_is_reported(
    fault, model, reference, calibration, digits, tmp_path, monkeypatch
):
    formats, change, names, noise, message = EXPORT_FAULTS[fault]
    if noise is not None:  # one stretched image of noise would suffice
        monkeypatch.setattr(
            "keras_arch.export.tflite.stretch_contrast", lambda images: images.astype("float32")
        )
    specs, _ = export_model(
        change(model) if change else model,
        tmp_path,
        tuple(names or digits.class_names),
        calibration if noise is None else noise,
        only(*formats),
    )
    for row in verify(tmp_path, specs, reference).values():
        assert any(re.match(message, problem) for problem in row.problems), row.problems


def replace_model(content):
    """Return a fault: another model in the file, with the correct metadata and labels."""

    def plant(path, model, metadata, labels):
        path.write_bytes(add_metadata(content(model), metadata))
        pack_labels(path, read_labels(labels))

    return plant


def cut(share):
    return lambda path, *_: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def remove_labels(path, model, metadata, labels):
    path.write_bytes(path.read_bytes()[: -labels.stat().st_size])


def change_normalization(path, model, metadata, labels):
    """Write the mean and std of MobileNet's metadata, 127.5, but the model takes raw pixels."""
    numbers = np.array([127.5], "float32").tobytes()
    assert metadata.count(np.array([1], "float32").tobytes()) >= 1
    rewrite(
        path,
        lambda content: content.replace(
            metadata, metadata.replace(np.float32(1).tobytes(), numbers)
        ),
    )


def change_labels_file(path, model, metadata, labels):
    labels.write_text("\n".join(["zero", *"123456789"]) + "\n")


def copy_int8_file(path, model, metadata, labels):
    shutil.copy(path.with_name("model_int8.tflite"), path)


FILE_FAULTS = {  # name: (change of model_float32.tflite, problem)
    "a Flex operator": (
        replace_model(with_flex),
        "operator: FlexAdjustHue is not built into the runtime",
    ),
    "an auxiliary output": (
        replace_model(with_two_outputs),
        r"output: names must be \['probabilities'\]. Received: \[",
    ),
    "an unfolded batch norm": (
        replace_model(with_multiplication),
        r"batch norm: MUL after a convolution \(scaled\) is not folded",
    ),
    "batch statistics": (
        replace_model(lambda _: small_tflite(conv(), Training())),
        "batch norm: SQUARED_DIFFERENCE over the batch",
    ),
    "another labels.txt": (change_labels_file, "labels: output 0 must be '0'. Received: 'zero'"),
    "NaN": (replace_model(with_nan), "output: must be 10 finite numbers for each image"),
    "truncated": (cut(0.5), "file: cannot run"),
    "emptied": (cut(0), "file: cannot run"),
    "labels cut off": (
        remove_labels,
        "labels: expected 10 names. Received: 0",
    ),
    "metadata of another normalization": (
        change_normalization,
        "metadata: differs from the metadata that was written",
    ),
    "other types": (copy_int8_file, "input: type of image must be float32. Received: uint8"),
}


SLOW_FILE_FAULTS = ("a Flex operator", "an auxiliary output", "batch statistics", "emptied")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, marks=pytest.mark.slow) if fault in SLOW_FILE_FAULTS else fault
        for fault in FILE_FAULTS
    ],
)
def test_a_fault_in_a_file_is_reported(fault, quickstart, model, reference, tmp_path):
    plant, message = FILE_FAULTS[fault]
    shutil.copytree(quickstart / "export", tmp_path / "export")
    path = tmp_path / "export/model_float32.tflite"
    expected = build_spec(
        FORMATS["float32"],
        model,
        build_tflite_model(model),
        build_metadata(model, (8, 8, 3), "not stated"),
    )
    plant(path, model, expected.metadata, path.with_name("labels.txt"))
    problems = verify(path.parent, {"float32": expected}, reference)["float32"].problems
    assert any(re.match(message, problem) for problem in problems), problems


@pytest.mark.slow
def test_swapped_outputs_of_a_server_are_reported(model, reference, tmp_path):
    names = tf.constant(list("0123456789"))

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")])
    def serve(image):
        probabilities = model(image)
        return {
            "classes": probabilities,
            "probabilities": tf.gather(names, tf.argmax(probabilities, axis=-1)),
        }

    module = tf.Module()
    module.weights = [weight.value for weight in model.variables]
    tf.saved_model.save(module, str(tmp_path / "saved_model"), signatures=serve)
    write_labels(tmp_path / "labels.txt", reference.class_names)
    expected = build_spec(FORMATS["saved_model"], model, build_tflite_model(model), None)
    problems = verify(tmp_path, {"saved_model": expected}, reference)["saved_model"].problems
    assert "output: type of probabilities must be float32. Received: string." in problems


def test_other_probabilities_are_reported(model, reference, calibration, digits, tmp_path):
    """Logits of a tenth change the probabilities but not the top class."""
    soft = other_model(model, lambda weights: weights)
    head = soft.layers[-1]
    head.set_weights([weights / 10 for weights in head.get_weights()])
    specs, _ = export_model(
        soft, tmp_path, digits.class_names, calibration, only("float16", "int8")
    )
    for row in verify(tmp_path, specs, reference).values():
        assert any(
            re.match("probabilities: the mean absolute error of the top class", problem)
            for problem in row.problems
        )
    with pytest.raises(keras_arch.InputError, match="do not sum to 1"):
        verify(tmp_path, specs, replace(reference, probabilities=2 * reference.probabilities))


@pytest.mark.slow
def test_norms_that_cannot_be_folded_are_no_fault(tmp_path):
    """In a pre-activation ResNet, norms follow additions."""
    model = keras_arch.ResNet20V2(input_shape=(32, 32, 3), classes=4)
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype="uint8")
    specs, _ = export_model(model, tmp_path, tuple("abcd"), images, only("float32"))
    reference = Reference(
        images, np.zeros(30, int), model.predict(images, verbose=0), tuple("abcd")
    )
    assert verify(tmp_path, specs, reference)["float32"].problems == ()


@pytest.mark.slow
def test_other_networks_have_no_unfolded_batch_norm(tmp_path):
    """They have hard sigmoids and norms after the relu of a stem."""
    networks = (
        keras.applications.MobileNetV3Small(weights=None, input_shape=(32, 32, 3), classes=4),
        keras_arch.ResNet50V2(input_shape=(32, 32, 3), classes=4, stem="cifar"),
        keras_arch.ResNet164V2(input_shape=(32, 32, 3), classes=4),
    )
    for model in networks:
        write_tflite(model, tmp_path / "model.tflite")
        assert norms_left((tmp_path / "model.tflite").read_bytes()) == [], model.name


@pytest.mark.slow
def test_float_operators_in_an_int8_file_are_reported(tmp_path):
    """The converter has no int8 operators for local response normalization."""
    model = keras_arch.GoogLeNet(
        input_shape=(32, 32, 3), classes=4, stem="cifar", batch_norm=False, width=0.125
    )
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype="uint8")
    specs, refused = export_model(model, tmp_path, tuple("abcd"), images, only("int8", "int16x8"))
    assert list(refused) == ["int16x8"]
    reference = Reference(
        images, np.zeros(5, int), model.predict(images, verbose=0), tuple("abcd"), max_drop=100
    )
    problems = verify(tmp_path, specs, reference)["int8"].problems
    assert (
        "operator: POW computes in float32 in an int8 file. int8 has no such operator." in problems
    )


def test_mixed_precision_is_refused(calibration, digits, tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10, dtype="mixed_bfloat16")]
    )
    with pytest.raises(
        keras_arch.InputError,
        match=r"in float32 for an export\. Received: `dense_\d+` in mixed_bfloat16",
    ):
        export_model(model, tmp_path, digits.class_names, calibration, only("float32"))


def test_interval_covers_the_true_drop():
    """About 95% of the intervals of simulated classifiers contain the true drop, 1 point."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        kind = rng.choice(4, 500, p=[0.88, 0.03, 0.02, 0.07])  # both right, lost, won, both wrong
        low, high = drop_interval((kind < 2), (kind == 0) | (kind == 2))
        covered += low <= 0.01 <= high
    assert 0.93 <= covered / 1000 <= 0.98


@pytest.mark.slow
def test_a_failed_export_leaves_the_earlier_one(quickstart, script, tmp_path, capfd, monkeypatch):
    """The script exits with status 1 and prints the file and the reason."""
    run = tmp_path / "run"
    shutil.copytree(quickstart, run)
    before = {path: path.read_bytes() for path in (run / "export").rglob("*") if path.is_file()}
    monkeypatch.setattr("keras_arch.export.verification.checks.TOLERANCE", 0)
    few = ("--calibration-images", "20")
    assert script("export.py", run, "--formats", "float32", "int8", *few) == 1
    printed = capfd.readouterr()
    assert "error: 1 problem, so" in printed.err
    assert "model_float32.tflite: probabilities: the maximum absolute error is" in printed.err
    assert "FAILED" in printed.out
    assert before == {
        path: path.read_bytes() for path in (run / "export").rglob("*") if path.is_file()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert script("export.py", run, "--debug-quantization", *few) == 0
    assert re.search(
        r"stage1_block1_conv2 .* CONV_2D .*\d%.* stage1_block1_add", capfd.readouterr().out
    )


def test_the_python_code_of_the_docs_runs(quickstart, capsys):
    text = (ROOT / "docs/mobile.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(
        snippet.replace("saved_models/quickstart", str(quickstart)).replace(
            "examples/", f"{ROOT}/examples/"
        ),
        {},
    )
    assert capsys.readouterr().out.startswith("7 0.")
