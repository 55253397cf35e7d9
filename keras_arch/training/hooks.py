"""What a caller adds to `fit`: callbacks, metrics, an augmentation, a loss and a teacher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ..data.policies import check_augment
from ..errors import InputError, first_line
from ..plugins import is_function, load_function
from ..text import brief, shorten

# Columns of a history that `fit` writes.
OWN_COLUMNS = {"epoch", "loss", "accuracy", "balanced_accuracy", "learning_rate", "seconds"}
SCHEDULES = "Set `schedule` and `learning_rate` of the recipe, which `fit` follows at every step."
REFUSED = {  # {callback of Keras that cannot work in `fit`: what to do}
    keras.callbacks.ModelCheckpoint: "`fit` saves the best model as model.keras in `folder`.",
    keras.callbacks.BackupAndRestore: "`fit` saves a checkpoint. Pass resume=True to continue.",
    keras.callbacks.LearningRateScheduler: SCHEDULES,
    keras.callbacks.ReduceLROnPlateau: SCHEDULES,
    keras.callbacks.SwapEMAWeights: "Set `ema` of the recipe.",
}


@dataclass(frozen=True)
class Hooks:
    """Checked callbacks, metrics, augmentation, loss and teacher of a call of `fit`."""

    callbacks: Sequence[keras.callbacks.Callback] = ()
    metrics: Sequence[keras.metrics.Metric] = ()
    augment: Callable | None = None
    loss: Any = None
    teacher: keras.Model | None = None

    def check_history(self, history):
        """Raise InputError if the history to resume lacks a metric."""
        missing = [metric.name for metric in self.metrics if metric.name not in history]
        if history and missing:
            raise InputError(
                f"`metrics` must be those of the interrupted run. Received: {missing[0]}, which "
                "its history does not have. Pass the original metrics."
            )


NO_HOOKS = Hooks()


def check_hooks(callbacks, metrics, augment, loss, recipe, dataset, padded=False) -> Hooks:
    """Return the `Hooks` of a call of `fit`, or raise InputError if one cannot be used.

    Args:
        padded: whether images with zero weight fill the batches of a validation.
    """
    classes = len(dataset.class_names)
    if loss is not None:
        loss = check_loss(loss, recipe, classes)
    if augment is not None:
        check_augment(augment, dataset, recipe.seed)
    elif is_function(recipe.augment):
        check_augment(load_function(recipe.augment), dataset, recipe.seed)
    metrics = check_metrics(metrics, classes)
    if padded:
        for metric in metrics:
            check_weights(metric, classes)
    return Hooks(check_callbacks(callbacks, recipe.callback or ()), metrics, augment, loss)


def check_callbacks(callbacks, texts):
    """Return a list of the callbacks and of those that `FILE.py:function` texts create."""
    if not isinstance(callbacks, (list, tuple)):
        raise InputError(f"`callbacks` must be a list. Received: {brief(callbacks)}.")
    callbacks = [*callbacks, *map(create_callback, texts)]
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise InputError(
                f"`callbacks` must be keras.callbacks.Callback objects. Received: "
                f"{brief(callback)}."
            )
        for kind, fix in REFUSED.items():
            if isinstance(callback, kind):
                raise InputError(
                    f"`callbacks` must not have a {kind.__name__}. Received: "
                    f"{type(callback).__name__}. {fix}"
                )
    return callbacks


def create_callback(text):
    """Return the callback that `FILE.py:function` creates."""
    function = load_function(text)
    try:
        return function()
    except Exception as error:
        raise InputError(
            f"{text} must return a callback without arguments. Received: "
            f"{type(error).__name__}: {first_line(error)}. Correct the function."
        ) from error


def check_metrics(metrics, classes):
    """Return a list of `keras.metrics.Metric` objects with different, free names."""
    if not isinstance(metrics, (list, tuple)):
        raise InputError(f"`metrics` must be a list. Received: {brief(metrics)}.")
    checked, taken = [], set(OWN_COLUMNS)
    for given in metrics:
        metric = to_metric(given)
        name = metric.name
        if name in taken or name.startswith("val_"):
            raise InputError(
                f"The name of a metric must be free. Received: {shorten(name)}, which `fit` or "
                'another metric uses. Pass name="..." to the metric.'
            )
        try:
            value = np.asarray(keras.ops.convert_to_numpy(metric(*sample(classes))))
            metric.reset_state()
            if value.ndim:
                raise ValueError(f"an array of shape {value.shape}")
        except Exception as error:
            raise InputError(
                f"The metric {shorten(name)} must compute one number from one-hot labels and "
                f"probabilities. Received: {first_line(error)}."
            ) from error
        taken.add(name)
        checked.append(metric)
    return checked


def check_weights(metric, classes):
    """Raise InputError unless a metric ignores images with a `sample_weight` of zero."""
    labels, outputs = sample(classes)
    expected = keras.ops.convert_to_numpy(metric(labels, outputs))
    metric.reset_state()
    twice = keras.ops.concatenate([labels, keras.ops.zeros_like(labels)])
    weights = np.repeat(np.array([1.0, 0.0], "float32"), len(outputs))
    try:
        metric.update_state(twice, np.concatenate([outputs, outputs]), sample_weight=weights)
        found = keras.ops.convert_to_numpy(metric.result())
    except TypeError:  # the method has no such argument
        found = np.nan
    metric.reset_state()
    if not np.allclose(found, expected, atol=1e-5):
        raise InputError(
            f"On several devices, the metric {shorten(metric.name)} must take `sample_weight`. "
            "Received: another value with images of weight 0. Use the weights in its update_state."
        )


def to_metric(given):
    """Return a metric, its name in Keras or a function of labels and outputs as a `Metric`."""
    try:
        metric = keras.metrics.get(given)
    except Exception:
        metric = None
    if metric is None:
        raise InputError(
            f"`metrics` must be Keras metrics. Received: {brief(given)}. Pass "
            'keras.metrics.TopKCategoricalAccuracy(5, name="top5"), for example.'
        )
    if isinstance(metric, keras.metrics.Metric):
        return metric
    return keras.metrics.MeanMetricWrapper(metric, name=getattr(metric, "__name__", "metric"))


def check_loss(loss, recipe, classes):
    """Return a loss of Keras or a function of one-hot labels and probabilities."""
    try:
        checked = keras.losses.get(loss)
        value = keras.ops.convert_to_numpy(checked(*sample(classes)))
    except Exception as error:
        raise InputError(
            "`loss` must be a Keras loss of one-hot labels and probabilities. Received: "
            f"{brief(loss)}: {first_line(error)}. Pass keras.losses.CategoricalFocalCrossentropy(),"
            " for example."
        ) from error
    if getattr(checked, "from_logits", False):
        raise InputError(
            "`loss` must be a loss of probabilities. Received: from_logits=True. Remove it."
        )
    if not np.isfinite(value).all():
        raise InputError(
            f"`loss` must be finite for equal probabilities. Received: {brief(value)}."
        )
    if recipe.label_smoothing:
        raise InputError(
            "`label_smoothing` of the recipe must be 0 with a `loss`, which it does not change. "
            f"Received: label_smoothing={recipe.label_smoothing:g}. Pass it to the loss."
        )
    return checked


def sample(classes):
    """Return one-hot labels and equal probabilities of a few images."""
    count = 3 if classes != 3 else 4  # sparse metrics raise if this is not the number of classes
    labels = keras.ops.one_hot(np.arange(count) % classes, classes, dtype="float32")
    return labels, np.full((count, classes), 1 / classes, "float32")
