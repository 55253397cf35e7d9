"""Run one exported file as a stranger would: started by proof.py as a process of its own, without keras_arch.

    python -P probe.py < job.json

A .tflite file runs on ai_edge_litert alone, an .onnx file on onnxruntime, a SavedModel on TensorFlow without Keras. The
job names the file, the images, the threads and where probabilities go; the answer is JSON on stdout.
"""

import importlib
import json
import sys
import time

import numpy as np

job = json.load(sys.stdin)
RUNTIMES = {
    "tflite": "ai_edge_litert.interpreter",
    "onnx": "onnxruntime",
    "saved_model": "tensorflow",
}
for module in ("keras_arch", "keras", "tensorflow"):
    if module != RUNTIMES[job["kind"]]:
        sys.modules[module] = None  # type: ignore[assignment]  # an import of it now fails

WARMUP = 5  # images before the clock runs
BATCH = 100  # images at once where the file takes them
MOST = 10  # seconds that latency is measured for, about


def end(name, dtype, shape, **quantization):
    """One input or output as JSON; free sides are null."""
    return {
        "name": name,
        "type": dtype,
        "shape": [side if isinstance(side, int) else None for side in shape],
        **quantization,
    }


def open_tflite(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images):
        interpreter.set_tensor(inputs[0]["index"], images.astype(inputs[0]["dtype"]))
        interpreter.invoke()
        values, (scale, zero) = (
            interpreter.get_tensor(outputs[0]["index"]),
            outputs[0]["quantization"],
        )
        return (values.astype("float32") - zero) * np.float32(scale) if scale else values

    def ends(tensors):
        return [
            end(
                tensor["name"],
                np.dtype(tensor["dtype"]).name,
                tensor["shape"].tolist(),
                scale=float(tensor["quantization"][0]),
                zero_point=int(tensor["quantization"][1]),
            )
            for tensor in tensors
        ]

    (signature,) = interpreter.get_signature_list().values()
    return predict, {"inputs": ends(inputs), "outputs": ends(outputs), "signature": signature}, 1


def open_onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()

    def predict(images):
        return session.run([outputs[0].name], {inputs[0].name: images.astype("float32")})[0]

    def ends(tensors):
        names = {"tensor(float)": "float32"}
        return [
            end(tensor.name, names.get(tensor.type, tensor.type), tensor.shape)
            for tensor in tensors
        ]

    return predict, {"inputs": ends(inputs), "outputs": ends(outputs)}, BATCH


def open_saved_model(path, threads):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    module = tf.saved_model.load(path)
    default = module.signatures["serving_default"]
    (image,), outputs = default.structured_input_signature[1].values(), default.structured_outputs

    def predict(images):
        return default(**{image.name: tf.constant(images, tf.float32)})["probabilities"].numpy()

    ends = {
        "inputs": [end(image.name, image.dtype.name, image.shape.as_list())],
        "outputs": [
            end(name, output.dtype.name, output.shape.as_list())
            for name, output in sorted(outputs.items())
        ],
    }
    return predict, ends, BATCH


def ask_server(path, predict, images):
    """The other ways into a SavedModel beside its default signature, and the names in it."""
    import tensorflow as tf

    module = tf.saved_model.load(path)
    pictures = [bytes.fromhex(picture) for picture in job["pictures"]]
    resized = np.array(job["resized"], "uint8")  # what the pictures should become
    reference = predict(resized)
    others = {
        "serve_uint8": module.signatures["serve_uint8"](image=tf.constant(resized)),
        "serve_bytes": module.signatures["serve_bytes"](image=tf.constant(pictures)),
        "the loaded object": module(tf.constant(resized)),
    }
    differences = {
        name: float(np.abs(answer["probabilities"] - reference).max())
        for name, answer in others.items()
    }
    return {
        "differences": differences,
        "classes": [
            name.decode()
            for start in range(0, len(images), BATCH)
            for name in module.signatures["serving_default"](
                image=tf.constant(images[start : start + BATCH], tf.float32)
            )["classes"].numpy()
        ],
        "labels": tf.io.read_file(module.labels_file.asset_path)
        .numpy()
        .decode()
        .removesuffix("\n")
        .split("\n"),
    }


def memory():
    """The most memory that this process has had, in bytes; None where the system is not Linux."""
    try:
        with open("/proc/self/status") as status:
            kilobytes = next(line.split()[1] for line in status if line.startswith("VmHWM"))
    except OSError:
        return None
    return 1024 * int(kilobytes)


def latency(predict, images, runs):
    """Median and 95th percentile in milliseconds of one image at a time."""
    milliseconds: list[float] = []
    for run in range(WARMUP + runs):
        if sum(milliseconds) > 1000 * MOST and run > 2 * WARMUP:
            break
        image = images[run % len(images)][np.newaxis]
        started = time.perf_counter()
        predict(image)
        milliseconds.append(1000 * (time.perf_counter() - started))
    return np.percentile(milliseconds[WARMUP:], [50, 95]).tolist()


def main(answer):
    importlib.import_module(RUNTIMES[job["kind"]])
    before = memory()
    opened = {"tflite": open_tflite, "onnx": open_onnx, "saved_model": open_saved_model}[
        job["kind"]
    ]
    predict, ends, batch = opened(job["path"], job["threads"])
    answer |= ends
    images = np.load(job["images"], mmap_mode="r")
    answer["latency_ms"] = latency(predict, images[: job["latency_runs"]], job["latency_runs"])
    answer["peak_memory"] = before and memory() - before
    if job["predict"]:
        if job["kind"] == "saved_model":
            answer |= ask_server(job["path"], predict, images)
        answers, started = [], time.perf_counter()
        for start in range(0, len(images), batch):
            answers.append(predict(images[start : start + batch]))
            if time.perf_counter() - started > job["seconds"]:
                break
        np.save(job["predict"], np.concatenate(answers))


answer: dict = {}
try:
    main(answer)
except Exception as error:  # whatever is wrong with the file, the one who asks has to know
    answer["error"] = f"{type(error).__name__}: {error}"
json.dump(answer, sys.stdout)
