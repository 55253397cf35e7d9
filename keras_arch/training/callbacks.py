"""Callbacks of `fit`, in the order in which they run."""

import itertools
import math
import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..class_names import pack_labels
from ..errors import InputError
from ..files import atomic_write
from ..quantization.copy import plain_weights, ranges_of
from ..quantization.ranges import pack_ranges
from ..runs.history import best_epoch, write_history
from .checkpoint import save_checkpoint
from .optimizers import averaged_variables, rate_of, unwrap

LOSS_LIMIT = 100  # times the loss of guessing, far above the loss of a bad initialization


class SwapAverages(keras.callbacks.Callback):
    """Swap the weights for their EMA during validation, so that the EMA is validated and saved.

    The statistics of batch norm are moving averages already and stay as they are. Keras's
    `SwapEMAWeights` swaps by addition, which changes the last bits of the weights.
    """

    def on_test_begin(self, logs=None):
        self.swap()

    def on_test_end(self, logs=None):
        self.swap()

    def swap(self):
        for variable, average in averaged_variables(self.model.optimizer):
            weights = keras.ops.convert_to_numpy(variable)
            variable.assign(average)
            average.assign(weights)


class MainHead(keras.callbacks.Callback):
    """Copy the metrics of the main head to the names that a model with one output has.

    Args:
        names: names of further metrics.
    """

    def __init__(self, names=()):
        super().__init__()
        self.names = ("accuracy", "balanced_accuracy", *names)

    def on_epoch_end(self, epoch, logs=None):
        main = self.model.output_names[0]
        for part, metric in itertools.product(("", "val_"), self.names):
            if f"{part}{main}_{metric}" in logs:
                logs[f"{part}{metric}"] = logs[f"{part}{main}_{metric}"]


class StopAtNaN(keras.callbacks.Callback):
    """Raise InputError if the loss of a training step or of validation diverges.

    A training loss must be below 100 times the loss of guessing. A validation loss must be finite.
    It may be large in the first epochs of a small data set, when batch norm has seen few batches.
    Keras's `TerminateOnNaN` detects only NaN and infinity, in the mean loss of the epoch.

    Args:
        phase: a `Phase` of the training.
        guessing: loss of equal probabilities for all classes.
    """

    def __init__(self, phase, guessing):
        super().__init__()
        self.rate, self.limit = phase.recipe.learning_rate, LOSS_LIMIT * guessing
        self.field = "fine_tuning_rate" if phase.first else "learning_rate"
        self.warmup = phase.recipe.quantize_aware == "none"  # int8 epochs have none
        if not self.warmup:
            self.field = "quantize_rate"

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.total = epoch, 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)  # Keras reports the mean of the epoch
        self.check(total - self.total, self.limit, f"in epoch {self.epoch + 1} at step {batch + 1}")
        self.total = total

    def on_epoch_end(self, epoch, logs=None):
        self.check(logs["val_loss"], math.inf, f"in validation after epoch {epoch + 1}")

    def check(self, loss, limit, where):
        if not loss < limit:  # also true for NaN
            bound = "" if math.isinf(limit) else f" and below {limit:.0f}"
            fields = [self.field, *["warmup_epochs"] * self.warmup, "clip_norm"]
            raise InputError(
                f"The loss must be finite{bound}. Received: {loss:g} {where}. Pass a {self.field} "
                f"below {self.rate:g}{', more warmup_epochs' * self.warmup} or a clip_norm of 1 "
                f"({', '.join('--' + name.replace('_', '-') for name in fields)})."
            )


class SaveProgress(keras.callbacks.Callback):
    """Save the history, the best model and the checkpoint after each epoch.

    The checkpoint is saved last. If the process is killed before, a resumed run repeats the epoch.
    Keras's `ModelCheckpoint` and `BackupAndRestore` save the compiled copy and not the plain
    model.

    Args:
        plain: `keras.Model` to save. It gets the validated weights.
        folder: `Path` of the directory for model.keras, history.csv and checkpoint.npz.
        history: {column: [value of each epoch]} of the finished epochs. It is extended in place.
        recipe: a `keras_arch.Recipe` whose precision is not "auto".
        class_names: names of the classes, for model.keras.
        writes: whether this process writes the files. All processes have the same history, except
            the seconds.
    """

    def __init__(self, plain, folder, history, recipe, class_names, writes=True):
        super().__init__()
        self.plain, self.folder, self.history = plain, folder, history
        self.recipe, self.class_names, self.writes = recipe, class_names, writes

    def on_test_end(self, logs=None):
        self.plain.set_weights(plain_weights(self.model))

    def on_epoch_end(self, epoch, logs=None):
        if self.history and set(self.history) != set(logs):
            columns = ", ".join(sorted(set(self.history) ^ set(logs)))
            raise InputError(
                f"`metrics` must be those of the interrupted run. Received: other columns: "
                f"{columns}. Pass the original metrics."
            )
        for column, value in logs.items():
            self.history.setdefault(column, []).append(float(value))
        if self.writes:
            self.write(epoch)
        if patience_is_over(self.history, self.recipe):  # a callback may have ended it already
            self.model.stop_training = True

    def write(self, epoch):
        """Write all files after an epoch."""
        if best_epoch(self.history, self.recipe.first_candidate) == epoch:
            atomic_write(self.folder / "model.keras", self.save)
        write_history(self.folder / "history.csv", self.history)
        save_checkpoint(self.folder, self.model, self.history, self.recipe.precision)

    def save(self, path):
        """Write the plain model, its class names and the ranges of int8 to a .keras file."""
        self.plain.save(path)
        pack_labels(path, self.class_names)
        if ranges := ranges_of(self.model):
            pack_ranges(path, ranges)


def patience_is_over(history, recipe):
    """Return whether the last `recipe.patience` epochs of a history brought no improvement.

    Only epochs of the last phase with images of the full size count.
    """
    if recipe.patience is None or not history:
        return False
    best = best_epoch(history, recipe.first_candidate)
    waited_from = max(best + 1, recipe.phases[-1].first, recipe.small_epochs)
    return len(history["loss"]) - waited_from >= recipe.patience


class PrintProgress(keras.callbacks.Callback):
    """Show a progress bar and print a line per epoch. Add learning_rate and seconds to the history.

    Args:
        recipe: a `keras_arch.Recipe`.
        steps: number of batches per epoch.
        batch_size: images per batch.
        progress: a `rich.progress.Progress`, from `progress_bar`.
        first: number of epochs before the first step of the optimizer.
    """

    def __init__(self, recipe, steps, batch_size, progress, first=0):
        super().__init__()
        self.first = first
        self.epochs, self.steps, self.batch_size, self.progress = (
            recipe.epochs,
            steps,
            batch_size,
            progress,
        )
        self.balanced, self.accumulate = recipe.class_weights != "none", recipe.accumulate

    def on_train_begin(self, logs=None):
        self.spent = []  # seconds of each epoch of this process
        balanced = "  val_balanced" if self.balanced else ""
        self.progress.console.print(
            "  epoch    loss  accuracy  val_loss  val_accuracy"
            f"{balanced}  learning_rate   img/s    left"
        )

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.started = epoch, time.perf_counter()
        self.task = self.progress.add_task(
            f"{epoch + 1}/{self.epochs}", total=self.steps, speed="", rate=""
        )

    def on_train_batch_end(self, batch, logs=None):
        if self.progress.disable:
            return
        speed = (batch + 1) * self.batch_size / (time.perf_counter() - self.started)
        step = ((self.epoch - self.first) * self.steps + batch) // self.accumulate
        rate = rate_of(self.model.optimizer, step)
        self.progress.update(
            self.task, advance=1, speed=f"{speed:,.0f} img/s", rate=f"learning rate {rate:.5f}"
        )

    def on_test_begin(self, logs=None):
        self.training_seconds = time.perf_counter() - self.started

    def on_epoch_end(self, epoch, logs=None):
        self.progress.remove_task(self.task)
        self.spent.append(time.perf_counter() - self.started)
        optimizer = self.model.optimizer
        logs["learning_rate"] = rate_of(optimizer, unwrap(optimizer).iterations - 1)  # last step
        logs["seconds"] = round(self.spent[-1], 3)
        left = sum(self.spent) / len(self.spent) * (self.epochs - epoch - 1)
        speed = self.steps * self.batch_size / self.training_seconds
        balanced = f" {logs['val_balanced_accuracy']:13.2%}" if self.balanced else ""
        self.progress.console.print(
            f"{epoch + 1:3}/{self.epochs:<3} {logs['loss']:7.4f} {logs['accuracy']:9.2%} "
            f"{format_loss(logs['val_loss']):>9} {logs['val_accuracy']:13.2%}{balanced} "
            f"{logs['learning_rate']:14.5f} {speed:7,.0f} {format_duration(left):>7}"
        )


def progress_bar(prints=True):
    """Return a progress bar. It is visible on terminals only, not in notebooks.

    Args:
        prints: whether it and its console print anything.
    """
    interactive = prints and Console().is_terminal
    console = Console(
        highlight=False, force_terminal=interactive, force_jupyter=False, quiet=not prints
    )
    columns = (
        *(
            TextColumn("epoch {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ),
        *(TextColumn("{task.fields[speed]}"), TextColumn("{task.fields[rate]}")),
    )
    return Progress(*columns, console=console, transient=True, disable=not interactive)


def format_loss(loss):
    """Return a loss as text of at most nine characters. Early validation losses may be huge."""
    return f"{loss:.4f}" if loss < 1000 else f"{loss:.3g}"


def format_duration(seconds):
    """Return seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
