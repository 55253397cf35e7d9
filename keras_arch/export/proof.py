"""The proof: each exported file is run on held-out images by a process without keras_arch, and judged by its answers."""

import io
import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from PIL import Image

from ..class_names import LABELS, check_class_names, packed_labels, read_labels
from ..errors import InputError, first_line, is_disk_full
from ..evaluation.metrics import accuracy, agreement
from ..files import existing_folder, plain_path, size_of
from ..images.resize import resize
from ..models import are_probabilities
from .checks import check_images
from .metadata import read_metadata

PROBE = Path(__file__).with_name("probe.py")
TOLERANCE = 1e-4  # between probabilities that are computed in float32
CONFIDENCE = 0.05  # that the probability of a class may move by in smaller numbers, on average
LATENCY_RUNS = 50  # images one at a time
SECONDS = 60  # that a slow file answers for, about
THREADS = (1, 2)
PICTURES = 8  # held-out images that a server gets as larger PNGs, too
Z = 1.959964  # standard deviations: 95% of a normal distribution are within

OPERATOR_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
CONSTANT_STEPS = {"MUL", "ADD", "SUB", "DIV"}  # what an unfolded batch norm consists of
SQUARES = {"SQUARED_DIFFERENCE", "SQUARE"}  # whose mean is a variance
WEIGHTED = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}  # what it could have been folded into


@dataclass(frozen=True)
class Promise:
    """What the receiver of a file may rely on."""

    file: str
    kind: str  # "saved_model", "tflite" or "onnx"
    exact: bool  # whether its arithmetic is float32
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    integers: bool = False  # whether nothing but its ends may be anything else
    metadata: bytes | None = None


@dataclass(frozen=True)
class Truth:
    """What every file is held against."""

    images: np.ndarray  # held-out, (count, height, width, channels) of 0-255, uint8
    labels: np.ndarray  # (count,)
    probabilities: np.ndarray  # (count, classes), the model's own, from Keras
    class_names: tuple[str, ...]
    max_drop: float = 1.0  # points of accuracy that a file may lose, 0-100

    def first(self, count):
        """The same of the first images alone, which are all that a slow file answered."""
        return replace(
            self, images=self.images[:count], labels=self.labels[:count], probabilities=self.probabilities[:count]
        )


def prove(folder, promises, truth, progress=lambda items, total: items):
    """Run every file of an export where keras_arch is not, and say what is wrong with it.

    Args:
        folder: path of an export.
        promises: {format name: `Promise`}, what `export_model` returned.
        truth: a `Truth`.
        progress: a function of the files and their number that gives the files on, and may count them.

    Returns:
        {format name: row}; a row is a dict of "file", "bytes", "problems" (sentences; none where the file keeps its
        promise) and, where it ran, "images", "top1", "top5" with more than five classes, "drop" of top-1 in points and its
        95% "drop_interval", "agreement" of the top class with the model's, "max_difference" and "mean_difference" of
        probabilities, "confidence_difference", the mean one of the model's top class, "latency_ms" {threads: [median, 95th
        percentile]} at batch 1, "peak_memory" in bytes beyond the empty process, and "operators" of a .tflite file.
    """
    folder = existing_folder(folder)
    truth = replace(truth, class_names=check_class_names(truth.class_names))
    check_images(truth.images, "images")
    if not are_probabilities(truth.probabilities):
        raise InputError("expected a model that gives probabilities, got one whose answers do not add up to 1")
    with tempfile.TemporaryDirectory() as scratch:
        return {
            name: prove_file(folder / promise.file, promise, truth, Path(scratch))
            for name, promise in progress(promises.items(), len(promises))
        }


def prove_file(path, promise, truth, scratch):
    row: dict[str, Any] = {"file": promise.file, "bytes": size_of(path), "problems": []}
    beside = path.with_name(LABELS)  # which an app may read instead of those in the file
    row["problems"] += check_labels(read_labels(beside) if beside.exists() else (), truth.class_names)
    if promise.kind == "tflite":
        try:
            row["operators"], problems = read_tflite(path, promise, truth.class_names)
            row["problems"] += problems
        except Exception as error:  # a damaged file raises whatever its bytes happen to mean
            row["problems"].append(f"file: cannot be read ({first_line(error)})")
    *_, channels = promise.inputs[0]["shape"]
    answers = {threads: ask(path, promise.kind, threads, truth.images, channels, scratch) for threads in THREADS}
    answer = answers[THREADS[-1]]
    if "outputs" in answer:
        row["problems"] += check_ends(answer, promise)
    if errors := [one["error"] for one in answers.values() if "error" in one]:
        if is_disk_full(errors[-1]):
            raise InputError(f"{path} cannot be run: {first_line(errors[-1])}")
        row["problems"].append(f"file: cannot be run ({first_line(errors[-1])})")
        return row
    if promise.kind == "saved_model":
        row["problems"] += check_server(answer, truth)
    probabilities = np.load(scratch / "probabilities.npy")
    if probabilities.shape[1:] != truth.probabilities.shape[1:] or not np.isfinite(probabilities).all():
        row["problems"].append(f"output: expected {truth.probabilities.shape[1]} finite numbers for each image")
        return row
    row |= measure(probabilities, truth.first(len(probabilities)))
    row["problems"] += check_answers(row, promise, truth)
    row["latency_ms"] = {str(threads): answers[threads]["latency_ms"] for threads in THREADS}
    row["peak_memory"] = answer["peak_memory"]
    return row


def ask(path, kind, threads, images, channels, scratch):
    """What the file answers to a stranger: what probe.py prints, and probabilities.npy where all images were asked for."""
    file = scratch / f"{channels}.npy"
    if not file.exists():
        np.save(file, np.broadcast_to(images, (*images.shape[:3], channels)))  # a grey image for a colour input
    job = {
        "kind": kind,
        "threads": threads,
        "images": str(file),
        "latency_runs": LATENCY_RUNS,
        "seconds": SECONDS,
        "predict": str(scratch / "probabilities.npy") if threads == THREADS[-1] else None,
    }
    if kind == "saved_model" and job["predict"]:
        larger = [enlarged(image) for image in images[:PICTURES]]
        job["pictures"] = [png(image).hex() for image in larger]
        job["resized"] = np.stack([resize(tf.constant(image), images.shape[1:]) for image in larger]).tolist()
    command = [sys.executable, "-P", str(PROBE)]
    with plain_path(path) as plain:
        job["path"] = str(plain)
        done = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:  # it crashed
        return {"error": f"its process ended with status {done.returncode}: {done.stderr[-500:]}"}


def enlarged(image):
    """A picture (height, width, channels) three times as large and wider than it was, as those that a server gets."""
    width = image.shape[1]
    return np.pad(image.repeat(3, axis=0).repeat(3, axis=1), ((0, 0), (width, 2 * width), (0, 0)), "edge")


def png(image):
    """The bytes of an image (height, width, channels) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def read_tflite(path, promise, class_names):
    """{operator: count} of a .tflite file, and what is wrong with it before it is run."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    custom, names = operator_names(model)
    graph = model.subgraphs[0]
    operators = Counter(names[operator.opcodeIndex] for operator in graph.operators)
    problems = [f"operator: {name} is not built into the runtime" for name in custom if name]
    problems += [f"batch norm: {name} is left" for name in batch_norms(model)]
    if not model.metadata or read_metadata(model) != promise.metadata:
        problems.append("metadata: not what was written")
    if promise.integers:
        ends = {*graph.inputs, *graph.outputs}
        floats = {number for number, tensor in enumerate(graph.tensors) if tensor.type == schema.TensorType.FLOAT32}
        inside = [names[one.opcodeIndex] for one in graph.operators if floats & {*one.outputs} - ends]
        problems += [f"operator: {name} computes in float32 within an int8 file" for name in dict.fromkeys(inside)]
    problems += check_labels(packed_labels(path), class_names)
    return dict(sorted(operators.items())), problems


def operator_names(model):
    """Return two lists of names of a file's operator codes: the custom ones, else None; and all.

    Args:
        model: an unpacked `schema.ModelT`.
    """
    custom = [code.customCode.decode() if code.customCode else None for code in model.operatorCodes]
    builtin = [
        OPERATOR_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes
    ]  # old codes, below 127, stand in the deprecated field
    return custom, [own or name for own, name in zip(custom, builtin, strict=True)]


def batch_norms(model):
    """Yield the operators of a batch norm that the converter should have folded away.

    The converter can fold a constant for each channel into a convolution or dense layer that has no
    activation and no other reader. A norm behind an activation or an addition stays, as in
    pre-activation ResNets. Layer, instance and group normalization stay, too: their statistics are
    not over the batch. What stays is not a fault.

    Args:
        model: an unpacked `schema.ModelT`.
    """
    graph, (_, names) = model.subgraphs[0], operator_names(model)
    makers = {output: operator for operator in graph.operators for output in operator.outputs}
    readers = Counter(tensor for operator in graph.operators for tensor in operator.inputs)

    def name_of(tensor):
        return names[makers[tensor].opcodeIndex] if tensor in makers else None

    def data(tensor):
        if name_of(tensor) == "DEQUANTIZE":  # a float16 file's weights
            tensor = makers[tensor].inputs[0]
        return model.buffers[graph.tensors[tensor].buffer].data

    def for_each_channel(tensor):
        return data(tensor) is not None and all(side == 1 for side in graph.tensors[tensor].shape[:-1])

    def foldable(tensor):
        if name_of(tensor) not in WEIGHTED or readers[tensor] > 1:
            return False
        return makers[tensor].builtinOptions.fusedActivationFunction == schema.ActivationFunctionType.NONE

    def over_batch(values, axes):
        rank = len(graph.tensors[values].shape)
        return 0 in np.frombuffer(bytes(data(axes)), "int32") % rank

    for operator in graph.operators:
        name, inputs = names[operator.opcodeIndex], list(operator.inputs)
        if name in CONSTANT_STEPS and foldable(inputs[0]) and for_each_channel(inputs[1]):
            yield f"{name} behind a convolution ({output_name(graph, operator)})"
        if name == "MEAN" and name_of(inputs[0]) in SQUARES and over_batch(*inputs):
            yield f"{name_of(inputs[0])}, statistics of the batch ({output_name(graph, operator)})"


def output_name(graph, operator):
    return graph.tensors[operator.outputs[0]].name.decode()


def check_labels(labels, class_names):
    """What is wrong with the labels in a file."""
    for number, (found, expected) in enumerate(zip(labels, class_names, strict=False)):
        if found != expected:
            return [f"labels: expected {expected!r} for output {number}, got {found!r}"]
    if len(labels) != len(class_names):
        return [f"labels: expected {len(class_names)}, got {len(labels)}"]
    return []


def check_ends(answer, promise):
    """What is wrong with the names, types and shapes of the inputs and outputs."""
    problems = []
    for kind, expected in (("inputs", promise.inputs), ("outputs", promise.outputs)):
        found, names = answer[kind], [end["name"] for end in expected]
        if [end["name"] for end in found] != names:
            problems.append(f"{kind[:-1]}: expected {names}, got {[end['name'] for end in found]}")
        elif answer.get("signature", {kind: names})[kind] != names:
            problems.append(f"{kind[:-1]}: expected {names} in the signature, got {answer['signature'][kind]}")
        else:
            pairs = zip(expected, found, strict=True)
            problems += [
                f"{kind[:-1]}: expected {field} {end[field]} of {end['name']}, got {other[field]}"
                for end, other in pairs
                for field in end
                if end[field] != other[field]
            ]
    return problems


def check_server(answer, truth):
    """What is wrong with the other ways into a SavedModel, and with its class names."""
    problems = [
        f"signature: {name} answers otherwise than serving_default, by up to {difference:.2g}"
        for name, difference in answer["differences"].items()
        if not difference <= TOLERANCE
    ]
    best = truth.probabilities[: len(answer["classes"])].argmax(axis=1)
    named = check_labels(answer["classes"], [truth.class_names[number] for number in best])
    problems += [problem.replace("labels: ", "classes: ").replace("output", "image") for problem in named]
    return problems + check_labels(answer["labels"], truth.class_names)


def measure(probabilities, truth):
    """How right the answers are, and how far from the model's own."""
    differences = np.abs(probabilities - truth.probabilities)
    best = truth.probabilities.argmax(axis=1)
    before, after = (one.argmax(axis=1) == truth.labels for one in (truth.probabilities, probabilities))
    return {
        **accuracy(probabilities, truth.labels),
        "drop": 100 * float(before.mean() - after.mean()),
        "drop_interval": [100 * side for side in drop_interval(before, after)],
        "agreement": agreement(probabilities, truth.probabilities),
        "max_difference": float(differences.max()),
        "mean_difference": float(differences.mean()),
        "confidence_difference": float(np.take_along_axis(differences, best[:, np.newaxis], axis=1).mean()),
    }


def drop_interval(before, after):
    """95% interval of the loss in accuracy from one classifier to another on the same images.

    Args:
        before: (images,) truths: whether the first was right.
        after: the same of the second.

    Reference: Agresti and Min 2005, Simple improved confidence intervals for comparing matched proportions: half an
    image more in each of the four cells, so that no disagreement does not mean no doubt.
    """
    images = len(before) + 2
    lost, won = (np.sum(before & ~after) + 0.5) / images, (np.sum(after & ~before) + 0.5) / images
    error = Z * np.sqrt((lost + won - (lost - won) ** 2) / images)
    return float(lost - won - error), float(lost - won + error)


def check_answers(row, promise, truth):
    """What is wrong with the answers to the held-out images."""
    problems = []
    if promise.exact and not row["max_difference"] <= TOLERANCE:
        problems.append(
            f"probabilities: differ from the model's by up to {row['max_difference']:.2g}; at most {TOLERANCE:g} is "
            "rounding"
        )
    if promise.exact and row["agreement"] < 1:
        others = round((1 - row["agreement"]) * row["images"])
        problems.append(f"top class: differs from the model's on {others} of {row['images']} images")
    if not promise.exact and not row["confidence_difference"] <= CONFIDENCE:
        problems.append(
            f"probabilities: that of the model's class differs by {row['confidence_difference']:.2g} on average; at most "
            f"{CONFIDENCE:g} is rounding"
        )
    if not row["drop"] <= truth.max_drop:
        low, high = row["drop_interval"]
        problems.append(
            f"accuracy: drops by {row['drop']:.2f} points (95%: {low:.2f} to {high:.2f}); at most {truth.max_drop:g} is "
            "allowed" + "; --debug-quantization names the layers to keep in float32" * promise.integers
        )
    return problems
