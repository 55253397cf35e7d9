"""Measure the throughput of the data pipeline and compare it with baselines of the same run.

python benchmarks/data_speed.py --output benchmarks/results/data_speed.json
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import keras_arch
from keras_arch.data.dataset import Dataset
from keras_arch.data.pipeline import training_batches
from keras_arch.data.splits import InFiles, InMemory, InStream
from keras_arch.machine import cpu_name, git_commit

ROUNDS = 5  # the result is the median; the two sides of a ratio alternate


def images_per_second(batches, seconds=4.0):
    """Return the throughput of `batches`, measured for some seconds after the first batch."""
    count, started = 0, None
    for batch in batches:
        now = time.perf_counter()
        if started is None:
            started = now
            continue
        count += len(batch[0])
        if now - started > seconds:
            break
    return count / (now - started)


def noise_set(size, channels, count=20_000):
    """Return a `Dataset` of random images in memory."""
    images = (
        np.random.default_rng(0).integers(0, 256, (count, size, size, channels)).astype("uint8")
    )
    split = InMemory(images, np.arange(count) % 10)
    return Dataset("noise", split, split, split, tuple("0123456789"), (size, size, channels))


def recipe(augment, batch_size=128, epochs=1000):
    return keras_arch.Recipe(
        "resnet20",
        "noise",
        epochs=epochs,
        learning_rate=0.1,
        batch_size=batch_size,
        augment=augment,
    )


def in_memory():
    """Measure each augmentation policy on batches of 128 images in memory."""
    rows = {}
    for size, channels in ((28, 1), (32, 3)):
        data = noise_set(size, channels)
        for augment in (
            "none",
            "flip_crop",
            "random_erasing",
            "mixup",
            "cutmix",
            "trivial_augment",
        ):
            rows[f"{augment} {size}x{size}x{channels}"] = float(
                np.median(
                    [
                        images_per_second(
                            training_batches(data, recipe(augment)).as_numpy_iterator(), 1.5
                        )
                        for _ in range(3)
                    ]
                )
            )
    return rows


def write_jpegs(folder, count):
    """Write JPEG files of 500x375 pixels, some 60 kB each: smooth noise at several scales."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        layers = [
            np.asarray(
                Image.fromarray(rng.integers(0, 256, (n, n, 3)).astype("uint8")).resize(
                    (500, 375), Image.Resampling.BICUBIC
                )
            )
            for n in (3, 12, 48, 190)
        ]
        image = np.average(layers, axis=0, weights=[8, 4, 2, 1])
        path = folder / f"{number}.jpg"
        Image.fromarray(image.astype("uint8")).save(path, quality=90)
        paths.append(str(path))
    return paths


def jpeg_folder():
    """Compare decoding and cropping JPEG files to 224 pixels with tf.io and tf.image."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_jpegs(Path(folder), 400)
        labels = np.zeros(len(paths), "int64")
        split = InFiles(paths, labels, (224, 224, 3), np.full(len(paths), True))
        data = Dataset("jpegs", split, split, split, ("a", "b"), (224, 224, 3))

        def bare(path):
            return tf.image.resize(tf.io.decode_jpeg(tf.io.read_file(path), 3), (224, 224)), 0

        def baseline():
            files = tf.data.Dataset.from_tensor_slices(paths).repeat()
            return (
                files.map(bare, num_parallel_calls=tf.data.AUTOTUNE)
                .batch(32)
                .prefetch(2)
                .as_numpy_iterator()
            )

        ours, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(images_per_second(baseline()))
            ours.append(
                images_per_second(
                    training_batches(data, recipe("inception_crop", 32)).as_numpy_iterator()
                )
            )
        return {
            "inception_crop 224, img/s": float(np.median(ours)),
            "tf.io.decode_jpeg + tf.image.resize, img/s": float(np.median(theirs)),
            "ratio": float(np.median(np.array(ours) / theirs)),
            "bytes a file": int(np.mean([os.path.getsize(path) for path in paths])),
        }


def training():
    """Compare training ResNet-20 from the pipeline with training on one batch in memory."""
    data = noise_set(28, 1)
    model = keras_arch.ResNet20(input_shape=(28, 28, 1))
    model.compile(keras.optimizers.SGD(0.01), "categorical_crossentropy")
    ready = next(iter(training_batches(data, recipe("flip_crop"))))
    steps, fed, held = 25, [], []
    for rounds in range(ROUNDS + 1):
        for times, batches in (
            (held, tf.data.Dataset.from_tensors(ready).repeat()),
            (fed, training_batches(data, recipe("flip_crop"))),
        ):
            iterator = iter(batches)
            model.train_on_batch(*next(iterator))
            started = time.perf_counter()
            for _ in range(steps):
                model.train_on_batch(*next(iterator))
            if rounds:  # the first round compiles
                times.append(time.perf_counter() - started)
    return {
        "fed by the pipeline, img/s": 128 * steps / float(np.median(fed)),
        "batches held in memory, img/s": 128 * steps / float(np.median(held)),
        "slowed by": float(np.median(np.array(fed) / held)) - 1,
    }


def streamed_memory(count):
    """Stream `count` JPEG files at 224 pixels for one epoch and print the peak memory in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        paths = write_jpegs(Path(folder), 400)
        size = int(np.mean([os.path.getsize(path) for path in paths]))
        with tf.io.TFRecordWriter(f"{folder}/records") as writer:
            for path in paths:
                writer.write(Path(path).read_bytes())
        records = tf.data.TFRecordDataset([f"{folder}/records"] * (count // len(paths)))
        records = records.map(lambda record: (record, 0))
        split = InStream(
            records, count, (224, 224, 3), lambda record: tf.io.decode_jpeg(record, 3), size
        )
        data = Dataset("stream", split, split, split, ("a", "b"), (224, 224, 3))
        for _ in training_batches(data, recipe("flip_crop", 64, epochs=1)):
            pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def stream():
    """Measure the peak memory for two data set sizes larger than the shuffle buffer."""
    rows = {}
    for count in (40_000, 80_000):
        command = [sys.executable, __file__, "--stream", str(count)]
        rows[f"{count:,} JPEGs to 224x224x3, GB"] = (
            int(subprocess.check_output(command, text=True).split()[-1]) / 1e9
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument(
        "--stream", type=int, help="number of images to stream; prints the peak memory"
    )
    options = parser.parse_args()
    if options.stream:
        streamed_memory(options.stream)
        return
    results = {
        "hardware": f"{cpu_name()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "commit": git_commit(),
    }
    for name, measure in (
        ("in memory, img/s", in_memory),
        ("JPEG folder", jpeg_folder),
        ("training ResNet-20", training),
        ("stream", stream),
    ):
        results[name] = measure()
        print(name, json.dumps(results[name], indent=2), flush=True)
    if options.output:
        options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
