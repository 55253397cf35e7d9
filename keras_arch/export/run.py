"""A whole run folder exported and proven: where data, model, export and proof meet."""

import numpy as np
import tensorflow as tf

from ..data.load import load_dataset
from ..errors import InputError
from ..files import write_json
from ..models import load_keras, plain_model, resize_model, strip_auxiliary_heads
from ..runs.record import data_changes, read_run
from .model import export_model, quantization_errors, version_of
from .quantization import SUSPECT, suspects
from .record import describe_export
from .verification.verify import Reference, verify

BATCH = 100
DEBUG_IMAGES = 100  # that the errors of int8 are measured on
SHOWN = 20  # layers
ERROR_LEGEND = (
    "error: root mean square in the layer's median channel, as a share of the channel's deviation; added: by this layer.\n"
    "Of a softmax: square root of the share of images whose top class is another.\n"
    f"A layer that adds more than {SUSPECT:.0%} is worth keeping in float32, with the layers that read it."
)


def open_run(folder, settings, data_dir=None):
    """What run.json in a run folder says, its model and its data, both of the size that `settings` want.

    Raises:
        InputError (a ValueError): not a run that has ended; its data are others than it was trained on.
    """
    run = read_run(folder)
    if "metrics" not in run:
        raise InputError(
            f"expected a run that has ended, got {folder}; train.py with --resume would go on with it"
        )
    model = strip_auxiliary_heads(load_keras(folder / "model.keras"))
    recipe, size = run["recipe"], run["recipe"].image_size
    if settings.height is not None:
        size = (settings.height, settings.width)
        model = resize_model(model, *size)
    data = load_dataset(recipe.dataset, data_dir or run["data_dir"], size, **recipe.data_options)
    if changed := data_changes(folder, run, data):
        raise InputError(
            f"{folder} was trained on other data. Received: {recipe.dataset}, where {', '.join(changed)}. Restore the original "
            "data, or train again"
        )
    return run, model, data


def export_and_verify(run, model, data, folder, settings, progress=lambda items, total: items):
    """Write and verify all files in `folder`, with export.json; return what export.json holds."""
    # What the GPU makes of float32 by default, where there is one, is ten bits of it.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    calibration, _ = data.train.sample(settings.calibration_images, settings.seed)
    promises, refused = export_model(model, folder, data.class_names, calibration, settings)
    images, labels = data.test.sample(settings.proof_images, settings.seed)
    probabilities = plain_model(model).predict(images, batch_size=BATCH, verbose=0)
    truth = Reference(images, labels, probabilities, data.class_names, settings.max_drop)
    rows = verify(folder, promises, truth, progress)
    about = {
        "calibration": len(calibration),
        "proof": len(images),
        "size": list(images.shape[1:3]),
        "top1": float(np.mean(probabilities.argmax(axis=1) == labels)),
    }
    report = describe_export(
        model.name, version_of(model), run, settings, about, promises, refused, rows
    )
    write_json(folder / "export.json", report)
    return report


def debug_quantization(model, data, settings):
    """The layers that lose most to int8, as rows of a table, and the names of those to keep in float32."""
    calibration, _ = data.train.sample(settings.calibration_images, settings.seed)
    images, _ = data.validation.sample(DEBUG_IMAGES, settings.seed)
    ranking = quantization_errors(model, calibration, images, settings.keep_channels)
    rows = [
        {
            "layer": row["layer"],
            "operator": row["operator"],
            "added": f"{row['added']:.1%}",
            "error": f"{row['error']:.1%}",
            "read by": ", ".join(row["readers"]),
        }
        for row in ranking[:SHOWN]
    ]
    return rows, suspects(ranking)
