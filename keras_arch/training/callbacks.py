"""What happens between the steps and epochs of `fit`, in the order in which it happens."""

import itertools
import math
import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import InputError
from ..files import atomic_write
from ..runs.history import best_epoch, write_history
from .checkpoint import save_checkpoint
from .optimizers import averaged_variables, rate_of, unwrap

EXPLODED = 100  # times the loss of guessing: far above what a bad start gives


class SwapAverages(keras.callbacks.Callback):
    """Validate, and so save, the moving averages of the weights in their place; then train on where training was.

    The statistics of batch norm, which are moving averages themselves, stay those of the weights in training.
    """

    def on_test_begin(self, logs=None):
        self.swap()

    def on_test_end(self, logs=None):
        self.swap()

    def swap(self):
        for variable, average in averaged_variables(self.model.optimizer):
            held = keras.ops.convert_to_numpy(variable)
            variable.assign(average)
            average.assign(held)


class MainHead(keras.callbacks.Callback):
    """Where there are several heads, call the metrics of the first what they are called where there is one."""

    def on_epoch_end(self, epoch, logs=None):
        main = self.model.output_names[0]
        for part, metric in itertools.product(("", "val_"), ("accuracy", "balanced_accuracy")):
            if f"{part}{main}_{metric}" in logs:
                logs[f"{part}{metric}"] = logs[f"{part}{main}_{metric}"]


class StopAtNaN(keras.callbacks.Callback):
    """Stop at the first step whose loss is no number or far above that of guessing, and where validation's is no number.

    Validation may be far off in the first epochs of a small data set, when batch norm has seen a few batches only.
    """

    def __init__(self, recipe, guessing):
        super().__init__()
        self.recipe, self.limit = recipe, EXPLODED * guessing

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.total = epoch, 0.0

    def on_train_batch_end(self, batch, logs=None):
        total = logs["loss"] * (batch + 1)  # Keras tells the mean of the epoch so far
        self.check(total - self.total, self.limit, f"in epoch {self.epoch + 1} at step {batch + 1}")
        self.total = total

    def on_epoch_end(self, epoch, logs=None):
        self.check(logs["val_loss"], math.inf, f"in validation after epoch {epoch + 1}")

    def check(self, loss, limit, where):
        if not loss < limit:  # so that NaN is caught, too
            raise InputError(
                f"expected a finite loss{'' if math.isinf(limit) else f' below {limit:.0f}'}, got {loss:g} {where}; a "
                f"--learning-rate below {self.recipe.learning_rate:g}, a longer --warmup-epochs or --clip-norm 1 would work"
            )


class SaveProgress(keras.callbacks.Callback):
    """Keep the history, in history.csv too; save the plain model where validation is best; then save the state.

    The state is written last: a run that is killed before goes back to the epoch before, and does all of this again.

    Args:
        plain: the model to save, which gets the weights that were validated.
        folder: for model.keras, history.csv and the checkpoint.
        history: of the epochs that are done, {column: [value of each epoch]}; it grows.
        patience: epochs without a better one after which training stops, or None.
        precision: name of the precision of training, which a resumed run keeps.
    """

    def __init__(self, plain, folder, history, patience, precision):
        super().__init__()
        self.plain, self.folder, self.history, self.patience = plain, folder, history, patience
        self.precision = precision

    def on_test_end(self, logs=None):
        self.plain.set_weights(self.model.get_weights())

    def on_epoch_end(self, epoch, logs=None):
        for column, value in logs.items():
            self.history.setdefault(column, []).append(float(value))
        if best_epoch(self.history) == epoch:
            atomic_write(self.folder / "model.keras", self.plain.save)
        write_history(self.folder / "history.csv", self.history)
        save_checkpoint(self.folder, self.model, self.history, self.precision)
        self.model.stop_training = patience_is_over(self.history, self.patience)


def patience_is_over(history, patience):
    """Whether the last `patience` epochs of a history brought nothing better."""
    return (
        patience is not None
        and bool(history)
        and len(history["loss"]) - 1 - best_epoch(history) >= patience
    )


class PrintProgress(keras.callbacks.Callback):
    """A bar while an epoch runs, a line when it is done; and the columns learning_rate and seconds of the history."""

    def __init__(self, recipe, steps, batch_size, progress):
        super().__init__()
        self.epochs, self.steps, self.batch_size, self.progress = (
            recipe.epochs,
            steps,
            batch_size,
            progress,
        )
        self.balanced = recipe.class_weights == "balanced"

    def on_train_begin(self, logs=None):
        self.spent = []  # seconds of each epoch of this sitting
        balanced = "  val_balanced" if self.balanced else ""
        self.progress.console.print(
            f"  epoch    loss  accuracy  val_loss  val_accuracy{balanced}  learning_rate   img/s    left"
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
        rate = rate_of(self.model.optimizer, self.epoch * self.steps + batch)
        self.progress.update(
            self.task, advance=1, speed=f"{speed:,.0f} img/s", rate=f"learning rate {rate:.5f}"
        )

    def on_test_begin(self, logs=None):
        self.training_seconds = time.perf_counter() - self.started

    def on_epoch_end(self, epoch, logs=None):
        self.progress.remove_task(self.task)
        self.spent.append(time.perf_counter() - self.started)
        logs["learning_rate"] = rate_of(
            self.model.optimizer, unwrap(self.model.optimizer).iterations - 1
        )  # just used
        logs["seconds"] = round(self.spent[-1], 3)
        left = sum(self.spent) / len(self.spent) * (self.epochs - epoch - 1)
        speed = self.steps * self.batch_size / self.training_seconds
        balanced = f" {logs['val_balanced_accuracy']:13.2%}" if self.balanced else ""
        self.progress.console.print(
            f"{epoch + 1:3}/{self.epochs:<3} {logs['loss']:7.4f} {logs['accuracy']:9.2%} {format_loss(logs['val_loss']):>9} "
            f"{logs['val_accuracy']:13.2%}{balanced} {logs['learning_rate']:14.5f} {speed:7,.0f} {format_duration(left):>7}"
        )


def progress_bar():
    """A bar that shows on a terminal only; a notebook gets lines of plain text."""
    interactive = Console().is_terminal
    console = Console(highlight=False, force_terminal=interactive, force_jupyter=False)
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
    """A loss in nine characters: that of validation can be anything while batch norm has seen a few batches only."""
    return f"{loss:.4f}" if loss < 1000 else f"{loss:.3g}"


def format_duration(seconds):
    """Seconds as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
