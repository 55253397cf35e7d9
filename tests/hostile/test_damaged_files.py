"""Damaged files: after any seeded mutation, a file can be read or is refused with an InputError.

A separate process reads the files. If it crashes or hangs, another one replaces it. A failure has
the number of the mutation. `damaged(name, content, number)` creates the same file again.
"""

import copy
import csv
import dataclasses
import faulthandler
import io
import json
import multiprocessing
import os
import resource
import shutil
import traceback
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest

FEW, MANY = 5, 100  # damaged files of each kind in make test and in make slowtest
SIDE, LABELS = 8, ("zero", "one", "two")
TIME_LIMIT = 60  # seconds for one file
MEMORY = 4 << 30  # bytes that reading a file may allocate
LONGEST = 300  # characters of a message without the directory of the file
LARGEST = 1 << 24  # numbers in an image; a damaged file may require more than the memory

# --- mutations of bytes ---


def span(rng, content, most=64):
    """Return the start and end of a random part of `content`."""
    start = int(rng.integers(len(content)))
    return start, min(len(content), start + int(rng.integers(1, most + 1)))


def flip_bits(rng, content):
    changed = np.frombuffer(content, "uint8").copy()
    for _ in range(int(rng.integers(1, 5))):
        changed[rng.integers(len(changed))] ^= np.uint8(1 << rng.integers(8))
    return changed.tobytes()


def set_byte(rng, content):
    start = int(rng.integers(len(content)))
    return content[:start] + bytes([int(rng.choice([0, 1, 127, 128, 255]))]) + content[start + 1 :]


def cut(rng, content):
    return content[: rng.integers(len(content))]


def delete(rng, content):
    start, end = span(rng, content)
    return content[:start] + content[end:]


def insert(rng, content):
    start, end = span(rng, content)
    return content[:start] + rng.bytes(end - start) + content[start:]


def duplicate(rng, content):
    start, end = span(rng, content)
    return content[:end] + content[start:]


def fill(rng, content):
    """Fill a part with 0 or 255."""
    start, end = span(rng, content)
    return content[:start] + bytes([int(rng.choice([0, 255]))]) * (end - start) + content[end:]


def swap(rng, content):
    """Swap two parts of the same length."""
    (a, b), c = span(rng, content), int(rng.integers(len(content)))
    changed, length = bytearray(content), min(b - a, len(content) - c)
    changed[a : a + length], changed[c : c + length] = (
        content[c : c + length],
        content[a : a + length],
    )
    return bytes(changed)


SAME_LENGTH = [flip_bits, set_byte, fill, swap]  # mutations that move nothing
BYTES = [*SAME_LENGTH, *SAME_LENGTH, cut, delete, insert, duplicate]


def bytes_of(rng, content):
    for _ in range(int(rng.integers(1, 3))):
        if content:
            content = BYTES[rng.integers(len(BYTES))](rng, content)
    return content


# --- mutations of JSON, of tables and of archives ---

STRANGE = [
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    0.5,
    2**31,
    -(2**63),
    10**400,
    1e308,
    "",
    "a",
    "é\n\x00",
    "x" * 5000,
]
STRANGE += [
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    {"class_name": "Dense"},
    float("nan"),
    float("inf"),
    "0",
    ["a", "b"],
]


def places(value):
    """Yield every (container, key) inside a JSON value."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield value, key
        yield from places(value[key])


def json_of(rng, content):
    """Change JSON values or, in one file of five, bytes."""
    return (bytes_of if rng.random() < 0.2 else change_json)(rng, content)


def change_json(rng, content):
    """Delete, replace or nest one or two values."""
    root = [json.loads(content)]
    for _ in range(int(rng.integers(1, 3))):
        found = list(places(root))
        container, key = found[rng.integers(len(found))]
        match rng.integers(5):
            case 0 if container is not root:
                del container[key]
            case 1:  # up to deeper than Python's recursion limit
                depth, container[key] = int(rng.choice([3, 100, 20_000])), "NESTED"
                return json.dumps(root[0]).replace('"NESTED"', "[" * depth + "]" * depth).encode()
            case 2:
                other, name = found[rng.integers(len(found))]
                container[key] = copy.deepcopy(other[name])
            case _:
                container[key] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
    return json.dumps(root[0]).encode()


DEEPER = 0.9  # probability of descending one more level


def message_of(kind):
    """Return a mutation of a part of a protobuf message that keeps it valid.

    Args:
        kind: function that returns the class of the message.
    """

    def change_message(rng, content):
        from google.protobuf import json_format

        message = kind().FromString(content)
        while message == kind().FromString(content):
            part = message
            while rng.random() < DEEPER and (parts := list(parts_of(part))):
                part = parts[rng.integers(len(parts))]
            fields = json.dumps(json_format.MessageToDict(part)).encode()
            with suppress(Exception):  # the field does not accept the value
                part.CopyFrom(
                    json_format.ParseDict(json.loads(change_json(rng, fields)), type(part)())
                )
        return message.SerializeToString()

    return change_message


def parts_of(message):
    """Yield the messages directly inside a protobuf message."""
    for _, value in message.ListFields():
        repeated = (
            value.values()
            if isinstance(value, Mapping)
            else value
            if isinstance(value, Sequence)
            else [value]
        )
        yield from (part for part in repeated if hasattr(part, "ListFields"))


def onnx_model():
    return pytest.importorskip("onnx").ModelProto


def saved_model():
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    return SavedModel


NUMBERS = [0, 1, -1, 2, 3, 5, 31, 100, 127, 255, 2**15, 2**31 - 1, -(2**31), 2**40]


def tflite_numbers(rng, content):
    """Replace one or two numbers in a .tflite model, which stays a valid flatbuffer."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    while True:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        holders = list(holders_of_numbers(model))
        builder = flatbuffers.Builder()
        with suppress(Exception):  # the field does not accept the number
            for _ in range(int(rng.integers(1, 3))):
                holder, keys = holders[rng.integers(len(holders))]
                holder[keys[rng.integers(len(keys))]] = NUMBERS[rng.integers(len(NUMBERS))]
            builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
            return bytes(builder.Output())


def holders_of_numbers(value):
    """Yield every (table or vector, keys of its numbers) of an unpacked flatbuffer."""
    if isinstance(value, np.ndarray) and value.size:
        yield value, range(len(value))
    elif isinstance(value, list):
        for item in value:
            yield from holders_of_numbers(item)
    elif hasattr(value, "__dict__"):
        fields = vars(value)
        fields |= {key: item.copy() for key, item in fields.items() if isinstance(item, np.ndarray)}
        for item in fields.values():
            yield from holders_of_numbers(item)
        if keys := [key for key, item in fields.items() if isinstance(item, (int, float))]:
            yield fields, keys


FIELDS = [
    "",
    "nan",
    "inf",
    "-1",
    "1e999",
    "a",
    '"',
    "\x00",
    "é",
    "0x10",
    "1,2",
    "9" * 5000,
    "\r",
    " ",
    "\ufeff",
]
ENCODINGS = ["utf-8-sig", "utf-16", "latin-1"]


def lines_of(rng, content):
    """Change lines, fields or the encoding of a text or, in one file of five, bytes."""
    if rng.random() < 0.2:
        return bytes_of(rng, content)
    lines = [line.split(",") for line in content.decode().split("\n")]
    for _ in range(int(rng.integers(1, 4))):
        number, other = rng.integers(len(lines), size=2)
        field, text = int(rng.integers(len(lines[number]))), FIELDS[rng.integers(len(FIELDS))]
        match rng.integers(6):
            case 0 if len(lines) > 1:
                del lines[number]
            case 1:
                lines.insert(other, list(lines[number]))
            case 2:
                lines[number], lines[other] = lines[other], lines[number]
            case 3:
                lines[number].insert(field, text)
            case _:
                lines[number][field] = text
    text = "\n".join(map(",".join, lines))
    return (
        text.encode(str(rng.choice(ENCODINGS)), "replace") if rng.random() < 0.2 else text.encode()
    )


def members_of(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def inside(member, mutate):
    """Return a mutation of a member of an archive, with a valid checksum. "" is any member."""

    def mutate_member(rng, content):
        members = members_of(content)
        name = member or sorted(members)[rng.integers(len(members))]
        members[name] = mutate(rng, members[name])
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w") as archive:
            for one, text in members.items():
                archive.writestr(one, text)
        return written.getvalue()

    return mutate_member


def in_model(mutate):
    """Return a mutation of the model in a .tflite file, without the archive of class names."""

    def mutate_model(rng, content):
        start = content.index(b"PK\x03\x04")
        return mutate(rng, content[:start]) + content[start:]

    return mutate_model


def in_archive(rng, content):
    """Damage the archive of class names at the end of a .tflite file."""
    start = content.index(b"PK\x03\x04")
    return content[:start] + bytes_of(rng, content[start:])


# --- how files are read ---


def classify(path):
    """Open a model, classify two images and compare the class names."""
    import keras_arch
    from keras_arch.class_names import check_class_order

    artifact = keras_arch.open_artifact(path)
    shape = (2, *(side or SIDE for side in artifact.image_shape))
    if np.prod(shape, dtype=object) <= LARGEST:
        artifact.predict(np.random.default_rng(0).integers(0, 256, shape, dtype="uint8"))
    check_class_order(artifact, LABELS)


def load(path):
    """Load a data set and read two images from each split."""
    import keras_arch
    from keras_arch.data.tfds import SPLITS

    dataset = keras_arch.load_dataset(path)
    for split in SPLITS:
        list(getattr(dataset, split).examples.take(2))


def compare(path):
    """Read a run as scripts/compare.py does."""
    from keras_arch.reports.tables import comparison_row
    from keras_arch.runs.history import read_history
    from keras_arch.runs.record import read_run

    run, history = read_run(path.parent), read_history(path.parent)
    comparison_row(path.parent, run, history, SimpleNamespace(parameters=1, multiply_adds=1))


def draw(path):
    """Read and draw the history of a run."""
    from keras_arch.reports.figures import draw_curves
    from keras_arch.runs.history import best_epoch, read_history

    history = read_history(path.parent)
    best_epoch(history)
    draw_curves(path.with_name("curves.png"), {"a": history})


def classify_with_labels(path):
    """Classify with a model without names in the directory of labels.txt."""
    classify(path.parent / "without_names.onnx")


# --- files that work ---


def write_onnx(path, metadata):
    onnx = pytest.importorskip("onnx")
    node, value, real = (
        onnx.helper.make_node,
        onnx.helper.make_tensor_value_info,
        onnx.TensorProto.FLOAT,
    )
    rng = np.random.default_rng(0)
    constants = {"kernel": (4, 3, 3, 3), "bias": (4,), "weights": (4, len(LABELS))}
    graph = onnx.helper.make_graph(
        [
            node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2]),
            node("Conv", ["first", "kernel", "bias"], ["conv"], strides=[2, 2]),
            node("Relu", ["conv"], ["relu"]),
            node("GlobalMaxPool", ["relu"], ["pooled"]),
            node("Flatten", ["pooled"], ["features"]),
            node("Gemm", ["features", "weights"], ["logits"]),
            node("Softmax", ["logits"], ["probabilities"]),
        ],
        "small",
        [value("image", real, ("n", SIDE, SIDE, 3))],
        [value("probabilities", real, ("n", len(LABELS)))],
        [
            onnx.numpy_helper.from_array(rng.normal(size=shape).astype("float32"), name)
            for name, shape in constants.items()
        ],
    )
    opset = onnx.helper.make_opsetid("", 17)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)


def write_run(folder):
    from keras_arch import RECIPES

    recipe = dataclasses.asdict(RECIPES["quickstart"])
    part = {"images": 8, "top1": 0.5, "balanced_accuracy": 0.5}
    metrics = {
        "best_epoch": 1,
        "training_seconds": 1.5,
        "validation": part,
        "test": part,
        "weights_sha256": "0",
    }
    run = {
        "recipe": recipe,
        "data_dir": None,
        "precision": "float32",
        "images": {"train": 8, "validation": 8, "test": 8},
        "data_fingerprint": "0",
        "metrics": metrics,
    }
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    with (folder / "history.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"]
        )
        rows.writerows([epoch, 1.5, 0.25, 1.25, 0.5, 0.1, 1.0] for epoch in (1, 2, 3))


def write_tflite(model, path):
    from conftest import write_tflite

    from keras_arch.class_names import pack_labels
    from keras_arch.export.metadata import add_metadata, image_classifier_metadata

    write_tflite(model, path)
    metadata = image_classifier_metadata("small", "A test.", "1", "MIT", (SIDE, SIDE, 3))
    path.write_bytes(add_metadata(path.read_bytes(), metadata))
    pack_labels(path, LABELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run directory with a model in every format."""
    import keras

    from keras_arch.class_names import pack_labels, to_onnx_metadata

    folder = tmp_path_factory.mktemp("files")
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.BatchNormalization()(
        layers.Conv2D(4, 3, strides=2)(layers.Rescaling(1 / 255)(image))
    )
    x = layers.GlobalMaxPooling2D()(layers.ReLU()(x))
    model = keras.Model(image, layers.Dense(len(LABELS), activation="softmax")(x))
    write_run(folder)
    model.save(folder / "model.keras")
    pack_labels(folder / "model.keras", LABELS)
    model.export(folder / "saved", verbose=False)
    write_tflite(model, folder / "model.tflite")
    with zipfile.ZipFile(folder / "model.tflite") as archive:
        assert archive.namelist() == ["labels.txt"]
    write_onnx(folder / "model.onnx", to_onnx_metadata(LABELS))
    write_onnx(folder / "without_names.onnx", {})
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (40, SIDE, SIDE, 3), dtype="uint8"), np.arange(40) % 4
    np.savez(
        folder / "images.npz",
        x_train=images[:30],
        y_train=labels[:30],
        x_test=images[30:],
        y_test=labels[30:],
    )
    return folder


# {name: (file, mutation, function that reads it)}
FILES = {
    "keras archive": ("model.keras", bytes_of, classify),
    "keras config": ("model.keras", inside("config.json", json_of), classify),
    "keras weights": ("model.keras", inside("model.weights.h5", bytes_of), classify),
    "keras labels": ("model.keras", inside("labels.txt", bytes_of), classify),
    "tflite model": ("model.tflite", in_model(bytes_of), classify),
    "tflite numbers": ("model.tflite", in_model(tflite_numbers), classify),
    "tflite labels": ("model.tflite", in_archive, classify),
    "onnx": ("model.onnx", bytes_of, classify),
    "onnx fields": ("model.onnx", message_of(onnx_model), classify),
    "saved model graph": ("saved/saved_model.pb", bytes_of, classify),
    "saved model fields": ("saved/saved_model.pb", message_of(saved_model), classify),
    "saved model index": ("saved/variables/variables.index", bytes_of, classify),
    "saved model variables": ("saved/variables/variables.data-00000-of-00001", bytes_of, classify),
    "npz archive": ("images.npz", bytes_of, load),
    "npz arrays": ("images.npz", inside("", bytes_of), load),
    "run.json": ("run.json", json_of, compare),
    "history.csv": ("history.csv", lines_of, draw),
    "labels.txt": ("labels.txt", lines_of, classify_with_labels),
}


def damaged(name, content, number):
    """Return the content of a file after mutation `number`."""
    return FILES[name][1](np.random.default_rng([crc32(name.encode()), number]), content)


# --- a process that reads them ---

HEAVY = [
    "tensorflow",
    "keras",
    "onnxruntime",
    "ai_edge_litert.interpreter",
    "keras_arch.data.tfds",
    "keras_arch.artifacts.tflite",
]
PROCESSES = multiprocessing.get_context("forkserver")  # its server has no threads
PROCESSES.set_forkserver_preload([*HEAVY, "matplotlib.figure"])


WORKS, REFUSED = "works", "is refused"


def replace(path, content):
    path.unlink()  # a process may still have the old file mapped into memory
    path.write_bytes(content)


def outcome_of(name, folder):
    """Read a file; return `WORKS`, `REFUSED` for an InputError of one line, or the problem."""
    from keras_arch import InputError

    file, _, read = FILES[name]
    try:
        read(folder / Path(file).parts[0])
    except InputError as error:
        text = str(error).replace(str(folder), "")
        return (
            f"a message of {len(text)} characters: {text}"
            if len(text) >= LONGEST or "\n" in text
            else REFUSED
        )
    except Exception as error:
        return "".join(traceback.format_exception(error))
    return WORKS


def serve(folder, scratch, connection):
    """Receive (name, number), damage and read that file, and send the outcome.

    If the number is None, the file is not damaged.
    """
    os.dup2(os.open(scratch / "stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, 2 * [virtual_memory() + MEMORY])
    warnings.simplefilter("ignore")
    shutil.copytree(folder, scratch / "files")
    while True:
        name, number = connection.recv()
        content, target = (folder / FILES[name][0]).read_bytes(), scratch / "files" / FILES[name][0]
        replace(target, content if number is None else damaged(name, content, number))
        connection.send(outcome_of(name, scratch / "files"))
        replace(target, content)


def virtual_memory():
    """Return the size of the address space of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


class Reader:
    """A process that reads damaged files. Another one replaces it after a crash."""

    def __init__(self, folder, scratch):
        self.folder, self.scratch, self.started, self.process = folder, scratch, 0, None

    def start(self):
        self.started += 1
        self.place = self.scratch / str(self.started)
        self.place.mkdir()
        self.connection, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(
            target=serve, args=(self.folder, self.place, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process = None

    def read(self, name, number=None):
        """Return the outcome of reading a file, or how the process ended."""
        if self.process is None:
            self.start()
        self.connection.send((name, number))
        if not self.connection.poll(TIME_LIMIT):
            self.stop()
            return f"no outcome within {TIME_LIMIT} s"
        try:
            return self.connection.recv()
        except EOFError:
            self.process.join()
            status, self.process = self.process.exitcode, None
            return f"the process ended with {status}: {(self.place / 'stderr').read_text(errors='replace')[-3000:]}"


@pytest.fixture(scope="module")
def reader(folder, tmp_path_factory):
    reader = Reader(folder, tmp_path_factory.mktemp("readers"))
    yield reader
    reader.stop()


def bad_outcomes(reader, name, numbers):
    """Return {number: outcome} of the damaged files that neither work nor are refused."""
    outcomes = {number: reader.read(name, number) for number in numbers}
    return {
        number: outcome for number, outcome in outcomes.items() if outcome not in (WORKS, REFUSED)
    }


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_works_or_is_refused(name, reader):
    assert reader.read(name) == WORKS
    assert bad_outcomes(reader, name, range(FEW)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_damaged_files_work_or_are_refused(name, reader):
    assert bad_outcomes(reader, name, range(FEW, MANY)) == {}


@pytest.mark.parametrize("text", [b"batch", b"Softmax"])
def test_an_onnx_file_whose_text_is_not_utf_8_is_refused(text, folder, tmp_path, capfd):
    """ONNX Runtime opens such a file. It fails later, or prints on stdout that it tries again."""
    from keras_arch import InputError, open_artifact

    onnx = pytest.importorskip("onnx")
    model = onnx.load(folder / "model.onnx")
    for end in (model.graph.input[0], model.graph.output[0]):
        end.type.tensor_type.shape.dim[0].dim_param = "batch"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString().replace(text, b"\xff" * len(text)))
    with pytest.raises(InputError, match=r"is not a valid .onnx file.*can't decode byte 0xff"):
        open_artifact(path)
    assert capfd.readouterr().out == ""


# --- .tflite graphs that crash the interpreter ---


def edit_graph(path, edit):
    """Return the content of a .tflite file after `edit` changed its unpacked main graph."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    edit(model.subgraphs[0])
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def write_into_a_constant(graph):
    constant = graph.operators[0].inputs[1]
    graph.tensors[graph.operators[0].outputs[0]].buffer = graph.tensors[constant].buffer


def write_twice(graph):
    graph.operators[-1].outputs = graph.operators[0].outputs


def skip_an_operator(graph):
    del graph.operators[1]


def omit_the_kernel(graph):
    graph.operators[1].inputs = np.array([graph.operators[1].inputs[0], -1], "int32")


def omit_the_output(graph):
    graph.outputs = np.array([-1], "int32")


def write_beyond_the_tensors(graph):
    graph.operators[-1].outputs = np.array([100], "int32")


def output_text(graph):
    graph.tensors[graph.outputs[0]].type = 5


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (write_into_a_constant, "is written and has a value"),
        (write_twice, "is written and has a value"),
        (skip_an_operator, "is read and has no value"),
        (omit_the_kernel, "tensor -1 is read and has no value"),
        (omit_the_output, "tensor -1 is read and has no value"),
        (write_beyond_the_tensors, "tensor 100 is written and does not exist"),
        (output_text, "holds text"),
    ],
)
def test_a_graph_that_crashes_the_interpreter_is_refused(edit, message, folder, tmp_path):
    from keras_arch import InputError, open_artifact
    from keras_arch.artifacts.tflite_graph import check_graph

    check_graph(edit_graph(folder / "model.tflite", lambda graph: None))
    path = tmp_path / "model.tflite"
    path.write_bytes(edit_graph(folder / "model.tflite", edit))
    with pytest.raises(ValueError, match=message):
        check_graph(path.read_bytes())
    with pytest.raises(InputError, match=rf"model\.tflite .* Received: .*{message}"):
        open_artifact(path)


def test_a_graph_without_a_bias_is_accepted(folder):
    from keras_arch.artifacts.tflite_graph import check_graph

    def omit_the_bias(graph):
        graph.operators[0].inputs = np.array([*graph.operators[0].inputs[:2], -1], "int32")

    check_graph(edit_graph(folder / "model.tflite", omit_the_bias))
