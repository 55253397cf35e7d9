"""Training on the Keras backends JAX and PyTorch: every option runs and agrees with TensorFlow."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT
from sklearn.datasets import load_digits

import keras_arch
from keras_arch.data.splits import InMemory

BASE = keras_arch.Recipe(
    *("resnet8", "digits"),
    epochs=2,
    learning_rate=0.01,
    batch_size=16,
    precision="float32",
)
OPTIONS = {
    "plain": {},
    "ema": {"ema": 0.9},
    "class weights": {"class_weights": "balanced"},
    "clip norm": {"clip_norm": 0.1},
    "mixup": {"augment": "mixup"},
    "adamw": {"optimizer": "adamw", "learning_rate": 1e-3},
    "lamb": {"optimizer": "lamb"},
    "onecycle": {"schedule": "onecycle", "warmup_epochs": 1},
    "freeze": {"freeze": "backbone"},
    "label smoothing": {"label_smoothing": 0.1},
    "mixed_bfloat16": {"precision": "mixed_bfloat16"},
    "mixed_float16": {"precision": "mixed_float16"},
    "auto": {"precision": "auto"},
}


def few_digits():
    digits = load_digits()
    images = (digits.images[..., np.newaxis] * 255 / 16).astype("uint8")
    train, held_out = (InMemory(images[part], digits.target[part]) for part in (slice(48), slice(48, 64)))
    names = tuple(map(str, range(10)))
    return keras_arch.Dataset("digits", train, held_out, held_out, names, (8, 8, 1))


def train_all(folder, names=OPTIONS):
    import time
    data, histories = few_digits(), {}
    for name in names:
        t = time.time()
        run = Path(folder) / name
        run.mkdir(parents=True)
        keras.utils.set_random_seed(0)
        model = keras.models.load_model(Path(folder).parent / "initial.keras")
        recipe = dataclasses.replace(BASE, **OPTIONS[name])
        try:
            histories[name] = keras_arch.fit(model, data, recipe, run)
        except Exception as e:
            import traceback; traceback.print_exc()
            print(name, "FAILED", repr(e)[:300])
            continue
        np.savez(run / "weights.npz", *model.get_weights())
        print(name, time.time() - t, histories[name])
    (Path(folder) / "histories.json").write_text(json.dumps(histories))
