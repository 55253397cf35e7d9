"""Try the installed commands on images outside the clone: python -I try_commands.py.

The environment has keras_arch[all]. The current directory must be empty.
"""

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

COMMAND = Path(sys.executable).with_name("keras-arch")


def run(*words):
    """Run keras-arch and return what it prints."""
    print("keras-arch", *words, flush=True)
    found = subprocess.run([COMMAND, *words], capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stdout + found.stderr)
    return found.stdout


if __name__ == "__main__":
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        folder = Path("images") / f"digit {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9375).round().astype("uint8")).save(folder / f"{number}.png")
    run("show-data", "images")
    words = ("--dataset", "images", "--allow-duplicates", "--epochs", "8", "--output", "run")
    run("train", "quickstart", *words)
    run("export", "run", "--formats", "saved_model", "float32", "int8", "onnx")
    tables = run("evaluate", "run/model.keras", "run/export/model_int8.tflite", "--output", "out")
    metrics = json.loads(Path("out/metrics.json").read_text())
    accuracy = [artifact["metrics"]["top1"] for artifact in metrics["artifacts"]]
    assert min(accuracy) > 0.9, tables
    line = run("predict", "run/export/model_int8.tflite", "images/digit 7/7.png", "--format", "csv")
    assert "digit 7" in line.splitlines()[1], line
    assert "multiply-adds" in run("cost", "resnet8")
    run("demo", "run")  # downloads LiteRT.js, unless it is in the cache
    assert Path("run/export/demo.html").stat().st_size > 3_000_000
    print("keras-arch: passed, top-1", *(f"{value:.1%}" for value in accuracy))
