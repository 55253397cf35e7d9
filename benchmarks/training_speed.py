"""How fast training is: ours, the same builder through stock Keras, and the same network in PyTorch, one process each.

The processes take turns, round by round, and so share the noise of the machine:

python benchmarks/training_speed.py resnet20 resnet50 googlenet --output benchmarks/results/training_speed.json

PyTorch's rows need `pip install torch` beside keras_arch; they are left out without it.
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
from pathlib import Path

import numpy as np

NETWORKS = {"resnet20": (32, 128), "resnet50": (224, 32), "googlenet": (224, 32)}  # image size, batch size
SIDES = {
    "ours, auto": {},
    "ours, float32": {},
    "stock Keras, float32": {},
    "stock Keras, mixed_bfloat16": {"bfloat16": True},
    "stock Keras, float32, TensorFlow as it comes": {"as it comes": True},
    "PyTorch eager, float32": {"torch": True},
    "PyTorch compiled, float32": {"torch": True},
    "PyTorch eager, channels_last, bfloat16": {"torch": True, "bfloat16": True},
    "PyTorch compiled, channels_last, bfloat16": {"torch": True, "bfloat16": True},
}
SECONDS = 6  # that a round lasts, about
FLOP_PER_MULTIPLY_ADD = 6  # two forward, twice as many for the gradients of the images and of the weights


def build(network):
    import keras

    import keras_arch

    keras.utils.set_random_seed(0)
    size, batch = NETWORKS[network]
    model = keras_arch.build(network, input_shape=(size, size, 3), classes=10)
    rng = np.random.default_rng(0)
    return model, rng.integers(0, 256, (batch, size, size, 3)).astype("uint8"), rng.integers(0, 10, batch)


def keras_trainer(network, side):
    """A function that trains so many steps through `fit`."""
    import keras
    import tensorflow as tf

    import keras_arch
    from keras_arch.data.splits import untuned
    from keras_arch.training import compiled_copy
    from keras_arch.training.fast import choose_precision

    if side == "stock Keras, mixed_bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model, images, labels = build(network)
    labels = np.eye(10, dtype="float32")[labels]
    if side.startswith("ours"):
        recipe = keras_arch.Recipe(network, "noise", epochs=1, learning_rate=0.01, precision=side.split(", ")[1])
        model = compiled_copy(model, recipe, 1000, choose_precision(recipe.precision))
    else:
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), "categorical_crossentropy")
    batches = untuned(tf.data.Dataset.from_tensors((images, labels)).repeat())
    return lambda steps: model.fit(batches, steps_per_epoch=steps, verbose=0, shuffle=False)


def write_torch_network(network, path):
    """The same network for PyTorch, in a file, so that the process that trains it holds no TensorFlow."""
    import torch
    from torch_network import to_torch

    model, images, labels = build(network)
    translated = to_torch(model)
    pixels = torch.tensor(images.transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        answers = torch.softmax(translated.eval()(pixels[:2]), 1).numpy()
    np.testing.assert_allclose(answers, model.predict_on_batch(images[:2]), atol=1e-4)
    torch.save((translated, pixels, torch.tensor(labels)), path)


def torch_trainer(network, side):
    """The same in PyTorch."""
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
    """Read numbers of steps from stdin, train so many, and answer with the seconds; then with the peak memory."""
    train = (torch_trainer if SIDES[side].get("torch") else keras_trainer)(network, side)
    train(2)  # traces or compiles
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        train(int(line))
        print(time.perf_counter() - started, flush=True)
    print(peak_memory(), flush=True)


def peak_memory():
    """Bytes. Linux's VmHWM, since what getrusage tells begins with the memory of the parent process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


class Side:
    """A worker process."""

    def __init__(self, network, name):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
        if "as it comes" not in SIDES[name]:
            environment["TF_ENABLE_ONEDNN_OPTS"] = "1"  # as our scripts have it, and as a user of stock Keras could
        command = [sys.executable, __file__, network, "--side", name]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        self.speeds, self.batch = [], NETWORKS[network][1]
        if self.read() != "ready":
            raise SystemExit(f"{name}: the process ended before it was ready; see it with {' '.join(command)!r}")
        self.steps = max(1, round(SECONDS / self.seconds(1)))

    def read(self):
        return self.process.stdout.readline().strip()

    def seconds(self, steps):
        print(steps, file=self.process.stdin, flush=True)
        return float(self.read())

    def round(self):
        self.speeds.append(self.steps * self.batch / self.seconds(self.steps))

    def close(self):
        self.process.stdin.close()
        peak = int(self.read())
        self.process.wait()
        return peak


def measure(network, sides, rounds):
    import keras_arch

    size = NETWORKS[network][0]
    work = keras_arch.cost(keras_arch.build(network, input_shape=(size, size, 3), classes=10)).multiply_adds
    running = {name: Side(network, name) for name in sides}
    for _ in range(rounds):
        for side in running.values():
            side.round()
    reference = np.array(running["stock Keras, float32"].speeds)
    rows = {}
    for name, side in running.items():
        speed = float(np.median(side.speeds))
        rows[name] = {
            "img/s": speed,
            "times stock Keras, float32": float(np.median(side.speeds / reference)),
            "GFLOP/s": speed * work * FLOP_PER_MULTIPLY_ADD / 1e9,
            "peak memory, GB": side.close() / 1e9,
            "img/s of each round": [round(speed, 1) for speed in side.speeds],
        }
    return rows


def matrix_product_peak(has_bfloat16):
    """GFLOP/s of a product of 4096 x 4096 matrices, the best of some."""
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--side", choices=SIDES, help="be one of the processes")
    parser.add_argument("--write-torch", type=Path, help="write the network for PyTorch")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if options.side:
        return worker(options.networks[0], options.side)
    if options.write_torch:
        return write_torch_network(options.networks[0], options.write_torch)
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    import keras
    import tensorflow as tf

    from keras_arch.runs import cpu_name, git_commit
    from keras_arch.training.fast import has_bfloat16

    with_torch, half = importlib.util.find_spec("torch") is not None, has_bfloat16()
    sides = [
        name
        for name, side in SIDES.items()
        if (with_torch or not side.get("torch")) and (half or not side.get("bfloat16"))
    ]
    if not half:
        sides.remove("ours, auto")  # which is float32 here
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    if with_torch:
        import torch

        versions["torch"] = torch.__version__
    peaks = matrix_product_peak(half)
    results = {
        "hardware": f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}",
        "bfloat16 in hardware": half,
        "matrix product peak, GFLOP/s": peaks,
        "versions": versions,
        "commit": git_commit(),
    }
    print(json.dumps(results, indent=2), flush=True)
    for network in options.networks:
        rows = results[network] = measure(network, sides, options.rounds)
        print(f"\n{network}, {NETWORKS[network][0]} pixels, batch {NETWORKS[network][1]}")
        for name, row in rows.items():
            kind = "bfloat16" if half and ("bfloat16" in name or name == "ours, auto") else "float32"
            row["share of the matrix product's peak"] = row["GFLOP/s"] / peaks[kind]
            shown = {column: value for column, value in row.items() if not isinstance(value, list)}
            print(f"  {name:46}" + "  ".join(f"{column} {value:8.3g}" for column, value in shown.items()), flush=True)
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
