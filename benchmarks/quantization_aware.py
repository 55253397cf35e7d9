"""Compare int8 files with calibrated ranges and with ranges that a training learned.

    keras-arch train fashion-mnist-resnet20 --output r20
    python benchmarks/quantization_aware.py r20 --outlier

The run is trained on for the same number of epochs with and without simulated int8. With an outlier,
one channel is scaled by 100 and divided out in the next layer. All files classify the complete test
split. The results are added to results/quantization_aware.json under the name of the run.
"""

import argparse
import dataclasses
import json
import os
import shlex
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

# Set before TensorFlow is imported. The second enables fast kernels.
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"} | os.environ

import keras
import numpy as np

import keras_arch
from keras_arch.cli import quiet
from keras_arch.evaluation.evaluate import predict_split
from keras_arch.evaluation.metrics import mcnemar_test
from keras_arch.export.verification.checks import SIMULATED, drop_interval
from keras_arch.files import write_json
from keras_arch.machine import available_cores, cpu_name
from keras_arch.models import load_keras, plain_model, strip_auxiliary_heads
from keras_arch.quantization.copy import plain_weights, quantized_copy
from keras_arch.quantization.equalize import channel_pairs, equalize_channels
from keras_arch.runs.record import read_run
from keras_arch.training.fast_copy import make_repeatable

OUTPUT = Path(__file__).parent / "results" / "quantization_aware.json"
CALIBRATION_IMAGES = 100
OUTLIER = 100.0  # factor of a channel
INT8 = keras_arch.ExportSettings(formats=("int8",), keep_channels=True)


def train_on(model, data, recipe, aware):
    """Train a model on, with or without simulated int8. Return its ranges, or None."""
    if aware:
        changes = {"quantize_aware": "int8", "quantize_epochs": recipe.epochs}
    else:  # the same rate
        rate = recipe.learning_rate / 10
        changes = {"learning_rate": rate, "quantize_aware": "none", "quantize_epochs": None}
    make_repeatable(recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        keras_arch.fit(model, data, dataclasses.replace(recipe, **changes), folder)
        return keras_arch.read_int8_ranges(Path(folder) / "model.keras")


def predict_int8(model, data, ranges):
    """Return the probabilities of an int8 file for the test images."""
    calibration, _ = data.train.sample(CALIBRATION_IMAGES, 0)
    with tempfile.TemporaryDirectory() as folder, quiet():
        keras_arch.export_model(model, folder, data.class_names, calibration, INT8, ranges)
        artifact = keras_arch.open_artifact(Path(folder) / "model_int8.tflite")
        return predict_split(artifact, data)[0]


def add_outlier(model, data):
    """Scale the strongest channel of the first convolution that a ReLU and another one follow."""
    norm, after = next(
        (norm, after) for _, norm, after in channel_pairs(plain_model(model)) if norm
    )
    norm, after = model.get_layer(norm), model.get_layer(after)
    until_norm = keras.Model(model.inputs, norm.output)
    outputs = until_norm.predict(data.train.sample(100, 0)[0], verbose=0)
    channel = outputs.max(axis=(0, 1, 2)).argmax()
    gamma, beta, *statistics = norm.get_weights()
    gamma[channel] *= OUTLIER
    beta[channel] *= OUTLIER
    norm.set_weights([gamma, beta, *statistics])
    kernel, *others = after.get_weights()
    kernel[:, :, channel] /= OUTLIER
    after.set_weights([kernel, *others])


def rescale(model):
    """Rescale the outlier channels of a model, as a training with simulated int8 does first."""
    copy = quantized_copy(plain_model(model))
    equalize_channels(copy, plain_model(model))
    model.set_weights(plain_weights(copy))


def measure(folder, data_dir, epochs, outlier=False):
    """Return {name: row} of one run."""
    run = read_run(folder)
    recipe = dataclasses.replace(
        run["recipe"],
        epochs=epochs,
        precision=run["precision"],
        warmup_epochs=0,
        weights=None,
        early_size=None,
        early_epochs=None,
    )
    data = keras_arch.load_dataset(recipe.dataset, data_dir or run["data_dir"], recipe.image_size)

    def load():
        model = strip_auxiliary_heads(load_keras(folder / "model.keras"))
        if outlier:
            add_outlier(model, data)
        return model

    images, labels = data.test.at(np.arange(data.test.count))
    images = images.astype("float32")
    before = load().predict(images, verbose=0).argmax(axis=1) == labels
    rows, calibrated = {}, None
    # The rate of a training without simulated int8 is too high for an outlier.
    middle = ("rescaled", None) if outlier else ("trained on", False)
    for name, aware in (("calibrated", None), middle, ("learned", True)):
        model = load()
        if name == "rescaled":
            rescale(model)
        ranges = None if aware is None else train_on(model, data, recipe, aware)
        probabilities = predict_int8(model, data, ranges)
        right = probabilities.argmax(axis=1) == labels
        calibrated = right if calibrated is None else calibrated
        own = model.predict(images, verbose=0).argmax(axis=1) == labels
        rows[name] = {
            "float32": float(own.mean()),
            "int8": float(right.mean()),
            "drop_of_the_run": 100 * float(before.mean() - right.mean()),
            "drop_interval": [100 * value for value in drop_interval(before, right)],
            "against_calibrated": dataclasses.asdict(mcnemar_test(calibrated, right)),
        }
        if ranges:
            simulated = quantized_copy(plain_model(model), ranges).predict(images, verbose=0)
            differences = np.abs(probabilities - simulated)
            rows[name]["within_simulation"] = {
                "limit": SIMULATED,
                "images": float(np.mean(differences.max(axis=1) < SIMULATED)),
                "probabilities": float(np.mean(differences < SIMULATED)),
                "maximum": float(differences.max()),
            }
        print(f"{folder.name:12}{'outlier, ' if outlier else ''}{name}", rows[name], flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="Run directory.")
    parser.add_argument("--outlier", action="store_true", help="Also test the run with an outlier.")
    parser.add_argument("--data-dir", help="Directory of prepared TFDS data sets.")
    parser.add_argument("--epochs", type=int, default=3, help="Epochs to train on. Default: 3.")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="JSON file to write.")
    options = parser.parse_args()
    name = options.run.name
    results = {name: measure(options.run, options.data_dir, options.epochs)}
    if options.outlier:
        results[f"{name}, outlier"] = measure(
            options.run, options.data_dir, options.epochs, outlier=True
        )
    words = [Path(word).name for word in sys.argv[1:]]  # without directories
    record = {
        "command": shlex.join(["python", "benchmarks/quantization_aware.py", *words]),
        "epochs": options.epochs,
        "results": results,
        "versions": {name: version(name) for name in ("keras", "tensorflow", "numpy")},
        "hardware": {"processor": cpu_name(), "cores": available_cores()},
    }
    known = json.loads(options.output.read_text()) if options.output.exists() else {}
    write_json(options.output, {**known, name: record})


if __name__ == "__main__":
    main()
