"""Measure the latency of exported files: one image at a time, in alternating processes.

python benchmarks/inference_latency.py --output benchmarks/results/inference_latency.json

The model is ResNet-50 at 224x224 pixels in each TFLite format. It is compared with
keras.applications.ResNet50, exported by Keras, and with the same network in ONNX Runtime, OpenVINO,
PyTorch and TensorFlow. Packages that are not installed are skipped. To install all of them:
pip install onnxruntime tf2onnx openvino torch.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZE = 224
SECONDS = 4  # approximate duration of a round
SIDES = {  # name: (package, file)
    "ours, float32": ("ai_edge_litert", "model_float32.tflite"),
    "ours, float16": ("ai_edge_litert", "model_float16.tflite"),
    "ours, dynamic": ("ai_edge_litert", "model_dynamic.tflite"),
    "ours, int8": ("ai_edge_litert", "model_int8.tflite"),
    "keras.applications, float32": ("ai_edge_litert", "applications.tflite"),
    "ours, ONNX Runtime": ("onnxruntime", "model_float32.onnx"),
    "ours, OpenVINO": ("openvino", "model_float32.onnx"),
    "ours, PyTorch eager": ("torch", "network.pt"),
    "ours, SavedModel": ("tensorflow", "saved_model"),
}


def write_files(folder):
    """Write all files. Print the duration and peak memory of the export, and the multiply-adds."""
    import keras

    import keras_arch

    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (500, SIZE, SIZE, 3), dtype="uint8")
    model = keras_arch.ResNet50()
    names = tuple(f"class {number}" for number in range(1000))
    formats = keras_arch.ExportSettings().formats
    started = time.perf_counter()
    _, refused = keras_arch.export_model(
        model, folder, names, images[: keras_arch.ExportSettings().calibration_images]
    )
    record = {
        "formats": [name for name in formats if name not in refused],
        "seconds": time.perf_counter() - started,
        "peak memory, GB": peak_memory() / 1e9,
    }
    if is_installed("tf2onnx") and is_installed("onnxruntime"):
        keras_arch.export_model(
            model, folder, names, images[:10], keras_arch.ExportSettings(formats=("onnx",))
        )
    theirs = keras.applications.ResNet50(weights=None)
    theirs.export(folder / "applications.tflite", format="litert", verbose=False)
    if is_installed("torch"):
        import torch
        from torch_network import to_torch

        torch.save(to_torch(model).eval(), folder / "network.pt")
    record["multiply-adds"] = {
        "ours": keras_arch.cost(model).multiply_adds,
        "keras.applications": keras_arch.cost(theirs).multiply_adds,
    }
    print(json.dumps(record))


def peak_memory():
    """Return the peak memory in bytes, from VmHWM of Linux.

    The value of getrusage includes the memory of the parent process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def is_installed(package):
    return importlib.util.find_spec(package) is not None


def load_classifier(package, path, threads):
    """Return a function that classifies one image with `package`."""
    image = np.random.default_rng(1).integers(0, 256, (1, SIZE, SIZE, 3)).astype("float32")
    if package == "ai_edge_litert":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
        (entry,) = interpreter.get_input_details()
        interpreter.set_tensor(entry["index"], image.astype(entry["dtype"]))
        return interpreter.invoke
    if package == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"image": image})
    if package == "openvino":
        import openvino

        # By default, OpenVINO computes in bfloat16 on processors that support it.
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(str(path), "CPU", options)
        return lambda: compiled(image)
    if package == "torch":
        import torch

        torch.set_num_threads(threads)
        model = torch.load(path, weights_only=False)
        pixels = torch.tensor(image.transpose(0, 3, 1, 2))

        def classify():
            with torch.inference_mode():
                model(pixels)

        return classify
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    module = tf.saved_model.load(path)
    pixels = tf.constant(image)
    return lambda: module.signatures["serving_default"](image=pixels)


def worker(side, folder, threads):
    """Read a number of images from stdin, classify that many and print the milliseconds of each."""
    package, file = SIDES[side]
    classify = load_classifier(package, folder / file, threads)
    for _ in range(3):
        classify()
    print("ready", flush=True)
    for line in sys.stdin:
        milliseconds = []
        for _ in range(int(line)):
            started = time.perf_counter()
            classify()
            milliseconds.append(1000 * (time.perf_counter() - started))
        print(json.dumps(milliseconds), flush=True)


def start_process(*arguments, **options):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, **options)


def measure(folder, threads, rounds):
    running = {}
    for side, (package, file) in SIDES.items():
        if is_installed(package) and (folder / file).exists():
            process = start_process(
                "--side",
                side,
                "--folder",
                folder,
                "--threads",
                threads,
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            if process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{side}: the process ended before it was ready")
            running[side] = process
    times = {side: [] for side in running}
    for _ in range(rounds + 1):
        for side, process in running.items():
            count = max(3, round(SECONDS * 1000 / np.median(times[side][-1]))) if times[side] else 3
            print(count, file=process.stdin, flush=True)
            times[side].append(json.loads(process.stdout.readline()))
    for process in running.values():
        process.stdin.close()
        process.wait()
    return {side: [float(np.median(some)) for some in found[1:]] for side, found in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        return write_files(options.folder)
    if options.side:
        return worker(options.side, options.folder, options.threads)
    from keras_arch.machine import cpu_name, git_commit

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        writing = start_process("--write", "--folder", folder)
        record = json.loads(writing.communicate()[0].splitlines()[-1])
        rounds = measure(folder, options.threads, options.rounds)
        sizes = {
            name: (folder / file).stat().st_size
            for name, (_, file) in SIDES.items()
            if (folder / file).is_file()
        }
    reference = np.array(rounds["ours, float32"])
    rows = {
        side: {
            "ms": float(np.median(found)),
            "times ours, float32": float(np.median(np.array(found) / reference)),
            "ms of each round": [round(one, 2) for one in found],
            **({"bytes": sizes[side]} if side in sizes else {}),
        }
        for side, found in rounds.items()
    }
    work = record.pop("multiply-adds")
    ours, theirs = (
        rows[side]["times ours, float32"]
        for side in ("ours, float32", "keras.applications, float32")
    )
    report = {
        "command": "python " + " ".join(sys.argv),
        "what": f"ResNet-50, {SIZE}x{SIZE}, one image at a time, {options.threads} threads",
        "rows": rows,
        "multiply-adds": work,
        "ours to keras.applications, time per multiply-add": (ours / work["ours"])
        / (theirs / work["keras.applications"]),
        "int8 to float32, time": rows["ours, int8"]["times ours, float32"],
        "int8 to float32, size": sizes["ours, int8"] / sizes["ours, float32"],
        "writing all formats": record,
        "hardware": {"processor": cpu_name(), "cores": os.cpu_count()},
        "git_commit": git_commit(),
        "versions": {
            package: importlib.metadata.version(package)
            for package in (
                "keras",
                "tensorflow",
                "ai-edge-litert",
                "onnxruntime",
                "openvino",
                "torch",
            )
            if is_installed(package.replace("-", "_"))
        },
    }
    for side, row in rows.items():
        print(
            f"{side:30}{row['ms']:8.1f} ms {row['times ours, float32']:6.2f} {row.get('bytes', 0) / 1e6:8.1f} MB"
        )
    print(
        json.dumps({key: value for key, value in report.items() if key not in ("rows",)}, indent=1)
    )
    if options.output:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
