"""report.html of a model with the layer names of keras.applications."""

import html
import re

import keras
import numpy as np

import keras_arch
from keras_arch.data.splits import InMemory
from keras_arch.evaluation.metrics import compute_metrics
from keras_arch.reports.html import write_figures_and_report
from keras_arch.runs.history import write_history
from keras_arch.runs.record import finish_run, start_run
from keras_arch.training.precision import Precision

NAMES = ("a", "b", "c")


def test_report_shows_the_stages_of_any_model(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype="uint8")
    labels = np.arange(6) % 3
    split = InMemory(images, labels)
    data = keras_arch.Dataset("noise", split, split, split, NAMES, (32, 32, 3))
    model = keras.applications.MobileNetV3Small(weights=None, input_shape=(32, 32, 3), classes=3)
    cost = keras_arch.cost(model)
    recipe = keras_arch.Recipe(model.name, data.name, epochs=1, learning_rate=0.1)
    start_run(tmp_path, recipe, Precision("float32"), None, data)
    history = {name: [0.5] for name in ("loss", "val_loss", "accuracy", "val_accuracy", "seconds")}
    write_history(tmp_path / "history.csv", history)
    metrics = dict.fromkeys(
        ("validation", "test"), compute_metrics(np.eye(3)[labels], labels, NAMES)
    )
    finish_run(tmp_path, history, metrics, cost, "0")
    write_figures_and_report(tmp_path, [])
    text = (tmp_path / "report.html").read_text()
    assert "<title>MobileNetV3Small on noise</title>" in text
    table = text.partition("Computational cost")[2].partition("</table>")[0]
    rows = [
        [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", row)]
        for row in table.split("<tr>")[2:]
    ]
    sums = {name: multiply_adds for name, _, multiply_adds, _ in rows}
    # The block expands 24 channels of 4x4 pixels to 88, filters each by 3x3 and projects to 24.
    assert sums["expanded_conv_2"] == f"{16 * 88 * (24 + 9 + 24):,}"
    total = sums.pop("total")
    assert total == f"{sum(int(count.replace(',', '')) for count in sums.values()):,}"
    assert len(sums) < len(model.layers) / 2
