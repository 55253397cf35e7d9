"""Run one exported file without keras_arch. process.py starts this file as a process.

    python -P probe.py KIND < job.json

A .tflite file runs on ai_edge_litert, an .onnx file on onnxruntime, a SavedModel on TensorFlow
without Keras. The job names the file, the images, the number of threads and the output file for
probabilities. The result is JSON on stdout. The runtime is imported before the job is read, so that
the process can start before the file is written.
"""

import importlib
import json
import sys
import time

import numpy as np

kind = sys.argv[1]
RUNTIMES = {
    "tflite": "ai_edge_litert.interpreter",
    "onnx": "onnxruntime",
    "saved_model": "tensorflow",
}
for module in ("keras_arch", "keras", "tensorflow"):
    if module != RUNTIMES[kind]:
        sys.modules[module] = None  # type: ignore[assignment]  # an import of it now fails

WARMUP = 5  # images before the latency is measured
BATCH = 100  # batch size of files that take any
LATENCY_SECONDS = 10  # approximate time limit of the latency measurement


def describe_tensor(name, dtype, shape, **quantization):
    """Return an input or output as a dict. Sides of any size are None."""
    return {
        "name": name,
        "type": dtype,
        "shape": [side if isinstance(side, int) else None for side in shape],
        **quantization,
    }


def open_tflite(path, threads):
    """Return a predict function, the inputs and outputs, and the batch size of a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(images):
        interpreter.set_tensor(inputs[0]["index"], images.astype(inputs[0]["dtype"]))
        interpreter.invoke()
        values = interpreter.get_tensor(outputs[0]["index"])
        scale, zero_point = outputs[0]["quantization"]
        return (values.astype("float32") - zero_point) * np.float32(scale) if scale else values

    def describe(tensors):
        return [
            describe_tensor(
                tensor["name"],
                np.dtype(tensor["dtype"]).name,
                tensor["shape"].tolist(),
                scale=float(tensor["quantization"][0]),
                zero_point=int(tensor["quantization"][1]),
            )
            for tensor in tensors
        ]

    (signature,) = interpreter.get_signature_list().values()
    tensors = {"inputs": describe(inputs), "outputs": describe(outputs), "signature": signature}
    return predict, tensors, 1


def open_onnx(path, threads):
    """Return a predict function, the inputs and outputs, and the batch size of an .onnx file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()

    def predict(images):
        return session.run([outputs[0].name], {inputs[0].name: images.astype("float32")})[0]

    def describe(tensors):
        names = {"tensor(float)": "float32"}
        return [
            describe_tensor(tensor.name, names.get(tensor.type, tensor.type), tensor.shape)
            for tensor in tensors
        ]

    metadata = session.get_modelmeta().custom_metadata_map
    tensors = {
        "inputs": describe(inputs),
        "outputs": describe(outputs),
        "labels": json.loads(metadata.get("names", "[]")),
    }
    return predict, tensors, BATCH


def open_saved_model(path, threads):
    """Return a predict function, the inputs and outputs, and the batch size of a SavedModel."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)  # branches run one after the other
    tf.config.experimental.enable_tensor_float_32_execution(False)
    module = tf.saved_model.load(path)
    default = module.signatures["serving_default"]
    (image,), outputs = default.structured_input_signature[1].values(), default.structured_outputs

    def predict(images):
        return default(**{image.name: tf.constant(images, tf.float32)})["probabilities"].numpy()

    tensors = {
        "inputs": [describe_tensor(image.name, image.dtype.name, image.shape.as_list())],
        "outputs": [
            describe_tensor(name, output.dtype.name, output.shape.as_list())
            for name, output in sorted(outputs.items())
        ],
    }
    return predict, tensors, BATCH


def run_signatures(job, predict, images):
    """Compare the other signatures of a SavedModel with the default one, and read its names."""
    import tensorflow as tf

    module = tf.saved_model.load(job["path"])
    encoded = [bytes.fromhex(image) for image in job["encoded"]]
    resized = np.array(job["resized"], "uint8")  # the expected pixels of the encoded images
    expected = predict(resized)
    others = {
        "serve_uint8": module.signatures["serve_uint8"](image=tf.constant(resized)),
        "serve_bytes": module.signatures["serve_bytes"](image=tf.constant(encoded)),
        "the loaded object": module(tf.constant(resized)),
    }
    return {
        "differences": {
            name: float(np.abs(outputs["probabilities"] - expected).max())
            for name, outputs in others.items()
        },
        "classes": [
            name.decode()
            for some in batches_of(images, BATCH, job["seconds"])
            for name in module.signatures["serving_default"](image=tf.constant(some, tf.float32))[
                "classes"
            ].numpy()
        ],
        "labels": tf.io.read_file(module.labels_file.asset_path)
        .numpy()
        .decode()
        .removesuffix("\n")
        .split("\n"),
    }


def batches_of(images, size, seconds):
    """Yield batches of images until the time limit."""
    started = time.perf_counter()
    for start in range(0, len(images), size):
        yield images[start : start + size]
        if time.perf_counter() - started > seconds:
            break


def peak_memory():
    """Return the peak memory of this process in bytes, or None if the system does not count it."""
    try:
        with open("/proc/self/status") as status:
            lines = [line.split() for line in status if line.startswith("VmHWM")]
    except OSError:
        return None
    return 1024 * int(lines[0][1]) if lines else None


def measure_latency(predict, images, runs):
    """Return the median and the 95th percentile in milliseconds at batch size 1."""
    milliseconds: list[float] = []
    for run in range(WARMUP + runs):
        if sum(milliseconds) > 1000 * LATENCY_SECONDS and run > 2 * WARMUP:
            break
        image = images[run % len(images)][np.newaxis]
        started = time.perf_counter()
        predict(image)
        milliseconds.append(1000 * (time.perf_counter() - started))
    return np.percentile(milliseconds[WARMUP:], [50, 95]).tolist()


def main(result):
    """Run the job and add what it finds to `result`."""
    importlib.import_module(RUNTIMES[kind])
    print(flush=True)  # process.py waits for this line
    job = json.load(sys.stdin)
    before = peak_memory()
    openers = {"tflite": open_tflite, "onnx": open_onnx, "saved_model": open_saved_model}
    predict, tensors, batch = openers[kind](job["path"], job["threads"])
    result |= tensors
    images = np.load(job["images"], mmap_mode="r")
    result["latency_ms"] = measure_latency(
        predict, images[: job["latency_runs"]], job["latency_runs"]
    )
    result["peak_memory"] = before and peak_memory() - before
    if job["predict"]:
        if kind == "saved_model":
            result |= run_signatures(job, predict, images)
        found = [predict(some) for some in batches_of(images, batch, job["seconds"])]
        np.save(job["predict"], np.concatenate(found))


result: dict = {}
try:
    main(result)
except Exception as error:  # verify.py reports it, whatever it is
    result["error"] = f"{type(error).__name__}: {error}"
json.dump(result, sys.stdout)
