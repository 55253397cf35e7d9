"""Measure the training speed of engines and of two processes.

    python benchmarks/scale_speed.py resnet20

- TensorFlow and JAX train the same network on all cores or on one GPU.
- Two processes train together with Keras on JAX, over 127.0.0.1. Each has one core, or one GPU if
  there are two. One process with the same hardware and the same images per process is the
  reference. The efficiency is the speed per process of both, divided by the speed of the reference.
  Two processes that do not communicate show how much of the loss is that of one shared processor.

The sides alternate round by round, so they share the noise of the machine. The results are written
to results/scale_speed.json.
"""

import argparse
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

OUTPUT = Path(__file__).parent / "results" / "scale_speed.json"
NETWORKS = {"resnet20": (32, 128), "resnet50": (224, 32)}  # image size, images per process
PREFIX = "seconds"
SECONDS = 8  # approximate duration of a round
ALONE = "JAX, 1 process, 1 core"
SEPARATE = "JAX, 2 processes that do not communicate, 1 core each"
TOGETHER = "JAX, 2 processes, 1 core each"
SIDES = {  # {side: (Keras backend, number of processes, cores of each)}
    "TensorFlow": ("tensorflow", 1, None),
    "JAX": ("jax", 1, None),
    ALONE: ("jax", 1, 1),
    SEPARATE: ("jax", 2, 1),
    TOGETHER: ("jax", 2, 1),
}


def work(network, precision, processes, process, port):
    """Read numbers of steps from stdin, train and print the seconds."""
    if processes > 1:
        import jax

        jax.distributed.initialize(f"127.0.0.1:{port}", processes, process)
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_arch
    from keras_arch.data.order import without_autotuning
    from keras_arch.training.fit import compile_copy

    if processes > 1:
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
    keras.utils.set_random_seed(0)
    size, batch = NETWORKS[network]
    model = keras_arch.build(network, input_shape=(size, size, 3), classes=10)
    recipe = keras_arch.Recipe(network, "noise", epochs=1, learning_rate=0.01, precision=precision)
    model = compile_copy(model, recipe, 1000)
    random = np.random.default_rng(process)
    images = random.integers(0, 256, (batch, size, size, 3)).astype("uint8")
    labels = np.eye(10, dtype="float32")[random.integers(0, 10, batch)]
    batches = without_autotuning(tf.data.Dataset.from_tensors((images, labels)).repeat())
    for line in itertools.chain(["2"], sys.stdin):  # the first steps compile
        started = time.perf_counter()
        model.fit(batches, steps_per_epoch=int(line), verbose=0, shuffle=False)
        print(PREFIX, time.perf_counter() - started, flush=True)


class Side:
    """The processes that train one variant."""

    def __init__(self, network, precision, name):
        backend, count, cores = SIDES[name]
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        connected = count if name == TOGETHER else 1
        words = [sys.executable, __file__, network, "--precision", precision, "--worker", connected]
        self.images, self.speeds = count * NETWORKS[network][1], []
        self.processes = []
        for process in range(count):
            environment = {
                **os.environ,
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TF_ENABLE_ONEDNN_OPTS": "1",  # as in the scripts
            }
            if cores and has_gpus():
                environment["CUDA_VISIBLE_DEVICES"] = str(process)
            pin = ["taskset", "--cpu-list", process] if cores and not has_gpus() else []
            command = [*pin, *words, process, port]
            pipe = subprocess.PIPE
            self.processes.append(
                subprocess.Popen(
                    list(map(str, command)),
                    stdin=pipe,
                    stdout=pipe,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    env=environment,
                )
            )
        self.read()
        self.steps = max(1, round(SECONDS / self.seconds(2) * 2))

    def read(self):
        """Return the seconds of the slowest process."""
        return max(map(read_seconds, self.processes))

    def seconds(self, steps):
        for process in self.processes:
            print(steps, file=process.stdin, flush=True)
        return self.read()

    def round(self):
        self.speeds.append(self.steps * self.images / self.seconds(self.steps))

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()


def read_seconds(process):
    """Return the next seconds that a process prints. The libraries of JAX print lines, too."""
    for line in process.stdout:
        if line.startswith(PREFIX):
            return float(line.removeprefix(PREFIX))
    raise RuntimeError(f"A process ended with status {process.wait()}.")


def has_gpus():
    """Return whether each of two processes can have a GPU."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) > 1


def measure(network, precision, rounds):
    """Return {side: img/s of each round}. The sides of a group alternate."""
    speeds = {}
    for group in (("TensorFlow", "JAX"), (ALONE, SEPARATE, TOGETHER)):
        sides = {name: Side(network, precision, name) for name in group}
        for _ in range(rounds):
            for side in sides.values():
                side.round()
        for name, side in sides.items():
            side.close()
            speeds[name] = side.speeds
            print(f"{network}, {precision}, {name}: {statistics.median(side.speeds):.0f} img/s")
    return speeds


def median_ratio(speeds, one, other):
    """Return the median over rounds of a ratio of speeds."""
    return statistics.median(a / b for a, b in zip(speeds[one], speeds[other], strict=True))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="+", choices=NETWORKS)
    parser.add_argument("--precision", nargs="+", default=["float32"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", type=int, nargs=3, help="processes, process and port")
    options = parser.parse_args()
    if options.worker:
        return work(options.networks[0], options.precision[0], *options.worker)
    from importlib.metadata import version

    from keras_arch.machine import available_cores, cpu_name, git_commit

    rows = []
    for network in options.networks:
        for precision in options.precision:
            speeds = measure(network, precision, options.rounds)
            rows.append(
                {
                    "network": network,
                    "precision": precision,
                    "JAX / TensorFlow": median_ratio(speeds, "JAX", "TensorFlow"),
                    "efficiency of 2 processes": median_ratio(speeds, TOGETHER, ALONE) / 2,
                    "of that, by sharing the processor": median_ratio(speeds, SEPARATE, ALONE) / 2,
                    "img/s of each round": speeds,
                }
            )
    result = {
        "hardware": f"{cpu_name()}, {available_cores()} cores",
        "versions": {name: version(name) for name in ("keras", "jax", "tensorflow")},
        "commit": git_commit(),
        "command": f"python benchmarks/scale_speed.py {' '.join(sys.argv[1:])}",
        "rows": rows,
    }
    OUTPUT.write_text(json.dumps(result, indent=2) + "\n")
    for row in rows:
        print({name: value for name, value in row.items() if name != "img/s of each round"})


if __name__ == "__main__":
    main()
