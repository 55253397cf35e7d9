"""Measure the training speed of keras_arch, stock Keras and PyTorch on the same network.

    python benchmarks/training_speed.py resnet20 resnet50 --output benchmarks/results/training_speed/PROCESSOR.json

Each variant runs in its own process. The processes alternate round by round, so they share the
noise of the machine. They run in groups that fit into memory, each with stock Keras in float32 as
the reference. Each group is written to the file after its last round. If a process dies, its row
has the reason.

The rows of PyTorch require `pip install torch` and are skipped without it. Rows in bfloat16 are
skipped on processors that emulate it.
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

REFERENCE = "stock Keras, float32"
NETWORKS = {
    "resnet20": (32, 128),
    "resnet50": (224, 32),
    "googlenet": (224, 32),
}  # image size, batch size
SIDES = {
    "ours, auto": {},
    "ours, float32": {},
    "ours, mixed_bfloat16": {"bfloat16": True},
    "stock Keras, float32": {},
    "stock Keras, mixed_bfloat16": {"bfloat16": True},
    "stock Keras, float32, TensorFlow as it comes": {"as it comes": True},
    "PyTorch eager, float32": {"torch": True},
    "PyTorch compiled, float32": {"torch": True},
    "PyTorch eager, channels_last, bfloat16": {"torch": True, "bfloat16": True},
    "PyTorch compiled, channels_last, bfloat16": {"torch": True, "bfloat16": True},
}
SECONDS = 6  # approximate duration of a round
FLOP_PER_MULTIPLY_ADD = 6  # 2 forward, 2 for the gradient of the input, 2 for that of the weights


def build(network):
    import keras

    import keras_arch

    keras.utils.set_random_seed(0)
    size, batch = NETWORKS[network]
    model = keras_arch.build(network, input_shape=(size, size, 3), classes=10)
    rng = np.random.default_rng(0)
    return (
        model,
        rng.integers(0, 256, (batch, size, size, 3)).astype("uint8"),
        rng.integers(0, 10, batch),
    )


def keras_trainer(network, side):
    """Return a function that trains a number of steps with `keras.Model.fit`."""
    import keras
    import tensorflow as tf

    import keras_arch
    from keras_arch.data.order import without_autotuning
    from keras_arch.training.fit import compile_copy
    from keras_arch.training.precision import choose_precision

    if side == "stock Keras, mixed_bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model, images, labels = build(network)
    labels = np.eye(10, dtype="float32")[labels]
    if side.startswith("ours"):
        recipe = keras_arch.Recipe(
            network, "noise", epochs=1, learning_rate=0.01, precision=side.split(", ")[1]
        )
        precision = choose_precision(recipe.precision).name
        model = compile_copy(model, replace(recipe, precision=precision), 1000)
    else:
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), "categorical_crossentropy"
        )
    batches = without_autotuning(tf.data.Dataset.from_tensors((images, labels)).repeat())
    return lambda steps: model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)


def write_torch_network(network, path):
    """Write the network as a PyTorch module to a file.

    The process that trains it then does not import TensorFlow.
    """
    import torch
    from torch_network import to_torch

    model, images, labels = build(network)
    translated = to_torch(model)
    pixels = torch.tensor(images.transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        probabilities = torch.softmax(translated.eval()(pixels[:2]), 1).numpy()
    np.testing.assert_allclose(probabilities, model.predict_on_batch(images[:2]), atol=1e-4)
    torch.save((translated, pixels, torch.tensor(labels)), path)


def torch_trainer(network, side):
    """Return a function that trains a number of steps in PyTorch."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.pt"
        subprocess.run([sys.executable, __file__, network, "--write-torch", path], check=True)
        model, pixels, labels = torch.load(path, weights_only=False)
    model.train()
    half = "bfloat16" in side
    if half:
        model, pixels = (x.to(memory_format=torch.channels_last) for x in (model, pixels))
    call = torch.compile(model) if "compiled" in side else model
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, nesterov=True)

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = call(pixels)
            torch.nn.functional.cross_entropy(logits.float(), labels).backward()
            optimizer.step()

    return train


def worker(network, side):
    """Read numbers of steps from stdin, train and print the seconds, then the peak memory."""
    train = (torch_trainer if SIDES[side].get("torch") else keras_trainer)(network, side)
    train(2)  # traces or compiles
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        train(int(line))
        print(time.perf_counter() - started, flush=True)
    print(peak_memory(), flush=True)


def peak_memory():
    """Return the peak memory in bytes, from VmHWM of Linux.

    The value of getrusage includes the memory of the parent process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class DiedError(Exception):
    """A worker process ended unexpectedly."""


class Side:
    """A worker process that trains one variant."""

    def __init__(self, network, name):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
        if "as it comes" not in SIDES[name]:
            environment["TF_ENABLE_ONEDNN_OPTS"] = "1"  # as in the scripts
        command = [sys.executable, __file__, network, "--side", name]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        self.name, self.speeds, self.batch = name, [], NETWORKS[network][1]
        self.read()  # "ready"
        self.steps = max(1, round(SECONDS / self.seconds(1)))

    def read(self):
        line = self.process.stdout.readline().strip()
        if not line:
            raise DiedError(f"the process ended with status {self.process.wait()}")
        return line

    def seconds(self, steps):
        try:
            print(steps, file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise DiedError(f"the process ended with status {self.process.wait()}") from None
        return float(self.read())

    def round(self):
        self.speeds.append(self.steps * self.batch / self.seconds(self.steps))

    def close(self):
        """End the process and return its peak memory in bytes."""
        self.process.stdin.close()
        peak = int(self.read())
        self.process.wait()
        return peak


def measure(network, sides, rounds):
    """Yield {side: row} for each group of sides."""
    waiting = [name for name in sides if name != REFERENCE]
    while waiting:
        rows = {}
        try:
            group = [Side(network, REFERENCE)]
        except DiedError as end:
            yield {name: {"died": f"reference: {end}"} for name in (REFERENCE, *waiting)}
            return
        while waiting and (len(group) == 1 or fits_another(group)):
            name = waiting.pop(0)
            try:
                group.append(Side(network, name))
            except DiedError as end:
                rows[name] = {"died": str(end)}
        yield {**run_group(network, group, rounds), **rows}


def fits_another(group):
    """Return whether another process of the size of the largest one fits into memory."""
    largest = max(psutil.Process(side.process.pid).memory_info().rss for side in group)
    return psutil.virtual_memory().available > 1.5 * largest + 2**30


def run_group(network, group, rounds):
    """Measure the sides of a group in alternating rounds and return {side: row}."""
    import keras_arch

    size = NETWORKS[network][0]
    work = keras_arch.cost(
        keras_arch.build(network, input_shape=(size, size, 3), classes=10)
    ).multiply_adds
    rows = {}
    for _ in range(rounds):
        for side in [side for side in group if side.name not in rows]:
            try:
                side.round()
            except DiedError as end:
                rows[side.name] = {"died": str(end)}
    reference = np.array(group[0].speeds)
    for side in [side for side in group if side.name not in rows]:
        speed, peak = float(np.median(side.speeds)), side.close()
        rows[side.name] = {
            "img/s": speed,
            "times stock Keras, float32": float(
                np.median(side.speeds[: len(reference)] / reference)
            ),
            "GFLOP/s": speed * work * FLOP_PER_MULTIPLY_ADD / 1e9,
            "peak memory, GB": peak / 1e9,
            "img/s of each round": [round(speed, 1) for speed in side.speeds],
            "measured with": [other.name for other in group if other is not side],
        }
    return rows


def matrix_product_peak(has_bfloat16):
    """Return the highest GFLOP/s of five products of 4096x4096 matrices."""
    import tensorflow as tf

    peaks = {}
    for kind in ["float32"] + ["bfloat16"] * has_bfloat16:
        matrix = tf.cast(tf.random.normal((4096, 4096)), kind)
        times = []
        for _ in range(5):
            started = time.perf_counter()
            tf.matmul(matrix, matrix).numpy()
            times.append(time.perf_counter() - started)
        peaks[kind] = 2 * 4096**3 / min(times) / 1e9
    return peaks


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--side", choices=SIDES, help="side to run as a worker process")
    parser.add_argument("--write-torch", type=Path, help="file for the network as a PyTorch module")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if options.side:
        return worker(options.networks[0], options.side)
    if options.write_torch:
        return write_torch_network(options.networks[0], options.write_torch)
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    import keras
    import tensorflow as tf

    from keras_arch.machine import available_cores, cpu_name, git_commit
    from keras_arch.training.precision import choose_precision

    with_torch, chosen = importlib.util.find_spec("torch") is not None, choose_precision("auto")
    speeds = chosen.speeds or {}  # none on a GPU
    half = speeds["bfloat16"] > speeds["float32"] / 2 if speeds else chosen.name == "mixed_bfloat16"
    sides = [
        name
        for name, side in SIDES.items()
        if (with_torch or not side.get("torch")) and (half or not side.get("bfloat16"))
    ]
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    if with_torch:
        import torch

        versions["torch"] = torch.__version__
    results = {
        "hardware": f"{cpu_name()}, {available_cores()} cores, {platform.system()}",
        "auto is": chosen.name,
        "probe, GFLOP/s": chosen.speeds,
        "matrix product peak, GFLOP/s": matrix_product_peak(half),
        "versions": versions,
        "commit": git_commit(),
        "command": " ".join(
            [
                "python",
                "benchmarks/training_speed.py",
                *options.networks,
                f"--rounds {options.rounds}",
            ]
        ),
    }
    print(json.dumps(results, indent=2), flush=True)
    for network in options.networks:
        print(f"\n{network}, {NETWORKS[network][0]} pixels, batch {NETWORKS[network][1]}")
        results[network] = {}
        for rows in measure(network, sides, options.rounds):
            for name, row in rows.items():
                show(name, row)
                # The row of the reference is that of the first group.
                results[network].setdefault(name, row)
            if options.output:
                options.output.parent.mkdir(parents=True, exist_ok=True)
                options.output.write_text(json.dumps(results, indent=2) + "\n")


def show(name, row):
    shown = [f"{title} {value:8.3g}" for title, value in row.items() if isinstance(value, float)]
    print(f"  {name:46}" + "  ".join(shown or [row["died"]]), flush=True)


if __name__ == "__main__":
    main()
