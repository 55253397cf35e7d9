"""Train a model as a recipe says, keep the best checkpoint, and lose nothing when the process dies."""

import math
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ..data.pipeline import evaluation_batches, steps_per_epoch, training_batches
from ..errors import explain_surroundings
from ..files import plain_path
from ..models import all_layers, head_layers, plain_model
from .callbacks import (
    MainHead,
    PrintProgress,
    SaveProgress,
    StopAtNaN,
    SwapAverages,
    patience_is_over,
    progress_bar,
)
from .checkpoint import load_checkpoint, recorded_precision
from .checks import check_arguments
from .fast_copy import fast_copy
from .metrics import BalancedAccuracy
from .optimizers import build_optimizer
from .precision import choose_precision

EVALUATION_BATCH = 256
AUXILIARY_LOSS_WEIGHT = 0.3  # of each training head of GoogLeNet (Szegedy et al. 2014, section 5)


@explain_surroundings()
def fit(model, dataset, recipe, folder, resume=False, tensorboard=False):
    """Train on `dataset.train` and keep in `folder`/model.keras what does best on `dataset.validation`.

    A fast copy is compiled and trained (see `keras_arch.training.fast_copy`), so that the model that is saved stays plain:
    stock layers in float32, no optimizer.

    Args:
        model: a functional `keras.Model` from images of `dataset.image_shape` to probabilities of its classes; it ends
            with the weights of the best epoch.
        dataset: a `keras_arch.data.dataset.Dataset`; its test split is not touched.
        recipe: a `keras_arch.Recipe`; `model`, `dataset`, `stem` and `weights` of it are for whoever built the model.
        folder: path of an existing folder for model.keras, history.csv and checkpoint.npz, from which `resume` goes on. Each is
            written whole or not at all.
        resume: go on behind the last epoch in `folder`; from the beginning where there is none. All that follows is
            then as it would have been, to the bit on the same machine.
        tensorboard: write logs for TensorBoard into `folder`/tensorboard.

    Returns:
        The history, {column: [value of each epoch]}: loss, accuracy, val_loss, val_accuracy, learning_rate, seconds. With
        class weights also balanced_accuracy and val_balanced_accuracy, which then chooses the best epoch.

    Raises:
        InputError (a ValueError): an argument is of another type; the model has other classes or images than the data or
            gives no probabilities; the batch size is larger than the training split; the folder does not exist; memory is not
            enough; the loss is no longer a number; or the checkpoint in `folder` is of another network. Only the last two,
            and a lack of memory that cannot be foreseen, come after work.
    """
    check_arguments(model, dataset, recipe, folder)
    folder = Path(folder)
    precision = choose_precision(
        recipe.precision, recorded_precision(folder) if resume else None
    ).name
    trained = compile_copy(model, recipe, steps_per_epoch(dataset, recipe), precision)
    history = load_checkpoint(folder, trained) if resume else {}
    done = len(history.get("loss", []))
    if done < recipe.epochs and not patience_is_over(history, recipe.patience):
        run_epochs(
            trained,
            model,
            dataset,
            replace(recipe, precision=precision),
            folder,
            history,
            tensorboard,
        )
    model.load_weights(folder / "model.keras")
    return history


def run_epochs(trained, model, dataset, recipe, folder, history, tensorboard):
    """Train the copy behind the epochs in `history`, which grows, and keep the best in `model`'s form."""
    steps, done, heads = (
        steps_per_epoch(dataset, recipe),
        len(history.get("loss", [])),
        len(model.outputs),
    )
    classes = len(dataset.class_names)
    weights = balanced_weights(dataset) if recipe.class_weights == "balanced" else None
    guessing = math.log(classes) * (1 if weights is None else weights.max())
    # The bar must let go of the terminal however training ends.
    with progress_bar() as progress, plain_path(folder) as plain:
        callbacks = [
            MainHead(),
            PrintProgress(recipe, steps, min(recipe.batch_size, dataset.train.count), progress),
            StopAtNaN(recipe, guessing),
            *(
                [keras.callbacks.TensorBoard(plain / "tensorboard", write_graph=False)]
                if tensorboard
                else []
            ),
            SaveProgress(model, folder, history, recipe.patience, recipe.precision),
            *(
                [SwapAverages()] if recipe.ema is not None else []
            ),  # behind Record, which takes what was validated
        ]
        trained.fit(
            repeat_labels(training_batches(dataset, recipe, done), heads, weights),
            initial_epoch=done,
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            validation_data=repeat_labels(
                evaluation_batches(dataset.validation, classes, EVALUATION_BATCH), heads
            ),
            shuffle=False,  # the batches are shuffled already
            verbose=0,
            callbacks=callbacks,
        )


def compile_copy(model, recipe, steps, precision):
    """The fast copy of `model`, ready to train."""
    heads = len(
        model.outputs
    )  # more than one where training heads are on it, each of which learns the same labels
    trained = fast_copy(plain_model(model), precision)
    if recipe.freeze == "backbone":
        head = head_layers(trained)
        for layer in all_layers(trained):
            if not hasattr(layer, "layers"):  # a nested model would hide its trainable layers
                layer.trainable = layer in head
    metrics = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    if recipe.class_weights == "balanced":
        metrics.append(BalancedAccuracy(model.outputs[0].shape[-1]))
    trained.compile(
        optimizer=build_optimizer(recipe, steps, precision),
        loss=[
            keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
            for _ in range(heads)
        ],
        loss_weights=[1.0] + [AUXILIARY_LOSS_WEIGHT] * (heads - 1),
        metrics=[metrics] + [[]] * (heads - 1),
    )
    trained.optimizer.build(trained.trainable_variables)
    return trained


def repeat_labels(batches, heads, class_weights=None):
    """The same labels for every head, with the weight of each image where classes have weights."""

    def repeat(images, labels):
        if class_weights is None:
            return images, (labels,) * heads
        # Of a mixed image's label each class counts with its share.
        weights = tf.linalg.matvec(labels, tf.constant(class_weights, "float32"))
        return images, (labels,) * heads, (weights,) * heads

    if heads == 1 and class_weights is None:
        return batches
    return batches.map(repeat)


def balanced_weights(dataset):
    """The weight of each class that makes all count alike, 1 on average over the training images (scikit-learn's rule)."""
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.class_names))
    return dataset.train.count / (len(counts) * np.maximum(counts, 1))
