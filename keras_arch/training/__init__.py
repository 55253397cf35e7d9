"""Train a model as a recipe says and keep the best checkpoint."""

import math
import time

import keras
from keras import ops
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from .errors import InputError
from .runs import save_whole

EVALUATION_BATCH = 256
AUXILIARY_LOSS_WEIGHT = 0.3  # of each training head of GoogLeNet (Szegedy et al. 2014, section 5)


def fit(model, dataset, recipe, folder):
    """Train on `dataset.train` and keep in `folder`/model.keras what does best on `dataset.validation`.

    A copy is compiled and trained, so that the model that is saved stays plain: stock layers, no optimizer.

    Args:
        model: a `keras.Model` from images of `dataset.image_shape` to probabilities of its classes; it ends with the
            weights of the best epoch.
        dataset: a `keras_arch.data.Dataset`; its test split is not touched.
        recipe: a `keras_arch.Recipe`.
        folder: an existing folder for model.keras, which is written whole or not at all.

    Returns:
        The history, {column: [value of each epoch]}: loss, accuracy, val_loss, val_accuracy, learning_rate, seconds.

    Raises:
        InputError (a ValueError): the loss is no longer a number.
    """
    steps = steps_per_epoch(dataset, recipe)
    heads = len(model.outputs)  # more than one where training heads are on it, each of which learns the same labels
    trained = keras.models.clone_model(model)
    trained.set_weights(model.get_weights())
    trained.compile(
        optimizer=build_optimizer(recipe, steps),
        loss=[keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing) for _ in range(heads)],
        loss_weights=[1.0] + [AUXILIARY_LOSS_WEIGHT] * (heads - 1),
        metrics=[[keras.metrics.CategoricalAccuracy(name="accuracy")]] + [[]] * (heads - 1),
    )
    validation = evaluation_batches(dataset.validation, len(dataset.class_names), EVALUATION_BATCH)
    with progress_bar() as progress:  # which must let go of the terminal however training ends
        history = trained.fit(
            for_heads(training_batches(dataset, recipe), heads),
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            validation_data=for_heads(validation, heads),
            shuffle=False,  # the batches are shuffled already
            verbose=0,
            callbacks=[
                MainHead(),
                StopAtNaN(recipe),
                Report(recipe, steps, progress),
                KeepBest(model, folder / "model.keras"),
            ],
        )
    return history.history


# --- optimizer and schedule ---


def build_optimizer(recipe, steps):
    """The optimizer with its schedule over `steps` an epoch; weight decay spares biases and batch norm."""
    schedule = build_schedule(recipe, steps)
    if recipe.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay)
    else:
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def build_schedule(recipe, steps):
    """The learning rate of every step: a linear warm-up, then what the recipe names."""
    peak, total = recipe.learning_rate, recipe.epochs * steps
    warmup = min(round(recipe.warmup_epochs * steps), total - 1)
    drops = [total // 2 - warmup, total * 3 // 4 - warmup]
    after = {
        "cosine": keras.optimizers.schedules.CosineDecay(peak, total - warmup),
        "step": keras.optimizers.schedules.PiecewiseConstantDecay(drops, [peak, peak / 10, peak / 100]),
        "constant": lambda step: peak,
    }[recipe.schedule]
    return WarmUp(peak, warmup, after)


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Climb to `peak` over `warmup` steps, then follow the schedule `after`."""

    def __init__(self, peak, warmup, after):
        self.peak, self.warmup, self.after = peak, warmup, after

    def __call__(self, step):
        step = ops.cast(step, "float32")
        climb = self.peak * (step + 1) / max(self.warmup, 1)
        return ops.where(step < self.warmup, climb, self.after(ops.maximum(step - self.warmup, 0.0)))


# --- what happens between steps ---


def for_heads(batches, heads):
    """The same labels for every head."""
    return batches if heads == 1 else batches.map(lambda images, labels: (images, (labels,) * heads))


class MainHead(keras.callbacks.Callback):
    """Where there are several heads, call the accuracy of the first what it is called where there is one."""

    def on_epoch_end(self, epoch, logs=None):
        main = self.model.output_names[0]
        for part in ("", "val_"):
            if f"{part}{main}_accuracy" in logs:
                logs[f"{part}accuracy"] = logs[f"{part}{main}_accuracy"]


class KeepBest(keras.callbacks.Callback):
    """Save the plain model whenever validation accuracy, or the loss at equal accuracy, is better than before."""

    def __init__(self, plain, path):
        super().__init__()
        self.plain, self.path, self.best = plain, path, (-math.inf, -math.inf)

    def on_epoch_end(self, epoch, logs=None):
        score = (logs["val_accuracy"], -logs["val_loss"])
        if score > self.best:
            self.best = score
            self.plain.set_weights(self.model.get_weights())
            save_whole(self.path, self.plain.save)


class StopAtNaN(keras.callbacks.Callback):
    """Stop at the first step or validation whose loss is no number; the best checkpoint so far stays."""

    def __init__(self, recipe):
        super().__init__()
        self.recipe, self.epoch = recipe, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.check(logs["loss"], f"in epoch {self.epoch + 1} at step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self.check(logs["val_loss"], f"in validation after epoch {epoch + 1}")

    def check(self, loss, where):
        if not math.isfinite(loss):
            raise InputError(
                f"expected a finite loss, got {loss} {where}; a --learning-rate below {self.recipe.learning_rate} or a "
                "longer --warmup-epochs would work"
            )


def progress_bar():
    """A bar that shows on a terminal only."""
    console = Console(highlight=False)
    columns = TextColumn("epoch {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class Report(keras.callbacks.Callback):
    """A bar while an epoch runs, a line when it is done; and the columns learning_rate and seconds of the history."""

    def __init__(self, recipe, steps, progress):
        super().__init__()
        self.recipe, self.steps, self.progress = recipe, steps, progress

    def on_train_begin(self, logs=None):
        self.started = time.perf_counter()
        self.progress.console.print("  epoch    loss  accuracy  val_loss  val_accuracy  learning_rate   img/s    left")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_started = time.perf_counter()
        self.task = self.progress.add_task(f"{epoch + 1}/{self.recipe.epochs}", total=self.steps)

    def on_train_batch_end(self, batch, logs=None):
        self.progress.advance(self.task)

    def on_test_begin(self, logs=None):
        self.training_seconds = time.perf_counter() - self.epoch_started

    def on_epoch_end(self, epoch, logs=None):
        self.progress.remove_task(self.task)
        now = time.perf_counter()
        optimizer = self.model.optimizer
        logs["learning_rate"] = float(optimizer._learning_rate(optimizer.iterations - 1))  # of the step just done
        logs["seconds"] = round(now - self.epoch_started, 3)
        left = (now - self.started) / (epoch + 1) * (self.recipe.epochs - epoch - 1)
        epochs, speed = self.recipe.epochs, self.steps * self.recipe.batch_size / self.training_seconds
        self.progress.console.print(
            f"{epoch + 1:3}/{epochs:<3} {logs['loss']:7.4f} {logs['accuracy']:9.2%} {logs['val_loss']:9.4f} "
            f"{logs['val_accuracy']:13.2%} {logs['learning_rate']:14.5f} {speed:7,.0f} {clock(left):>7}"
        )


def clock(seconds):
    """Seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
