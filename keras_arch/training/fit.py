"""Train a model by a recipe, save the best checkpoint and resume interrupted runs."""

import math
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from ..data.dataset import Dataset
from ..data.pipeline import (
    batches_per_epoch,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from ..errors import explain_surroundings
from ..files import plain_path
from ..models import all_layers, head_layers, plain_model
from ..recipes import Recipe
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
from .checks import check_fit_arguments
from .fast_copy import fast_copy
from .metrics import BalancedAccuracy
from .optimizers import build_optimizer
from .precision import choose_precision

EVALUATION_BATCH = 256
AUXILIARY_LOSS_WEIGHT = 0.3  # of each auxiliary classifier (Szegedy et al. 2014, section 5)


@explain_surroundings()
def fit(
    model: keras.Model,
    dataset: Dataset,
    recipe: Recipe,
    folder: str | Path,
    resume: bool = False,
    tensorboard: bool = False,
) -> dict[str, list[float]]:
    """Train a model and save the checkpoint with the best validation accuracy.

    `fit` trains a fast copy (see `keras_arch.training.fast_copy`). The saved model has stock Keras
    layers in float32 and no optimizer.

    Args:
        model: a functional `keras.Model` from images of `dataset.image_shape` to class
            probabilities. After training it has the weights of the best epoch.
        dataset: a `keras_arch.Dataset`. The test split is not used.
        recipe: a `keras_arch.Recipe`. `fit` ignores the fields that define the model and the data,
            such as `model`, `model_options`, `dataset`, `stem` and `weights`.
        folder: path of an existing directory for model.keras, history.csv and checkpoint.npz.
            Each write is atomic. model.keras also holds the class names.
        resume: whether to continue after the last epoch in `folder`. If there is no checkpoint,
            training starts from scratch. On the same machine and Keras backend, the result is
            bit-identical to that of an uninterrupted run.
        tensorboard: whether to write TensorBoard logs into `folder`/tensorboard.

    Returns:
        The history, {column: [value of each epoch]}, with the columns loss, accuracy, val_loss,
        val_accuracy, learning_rate and seconds. With class weights it also has balanced_accuracy
        and val_balanced_accuracy, which selects the best epoch.

    Raises:
        InputError (a ValueError): before training, if

            - an argument has the wrong type, or `folder` does not exist,
            - a class name is empty or not one line of UTF-8,
            - the model has other classes or another image shape than the data, or its outputs are
              not probabilities,
            - the batch size is larger than the training split, or memory is not sufficient,
            - the checkpoint in `folder` is damaged or is of another network;

            during training, if the loss diverges or the Keras backend runs out of memory.

    Example:
        >>> dataset = keras_arch.load_dataset("digits")
        >>> model = keras_arch.ResNet8(input_shape=dataset.image_shape, classes=10)
        >>> Path("my_run").mkdir()
        >>> history = keras_arch.fit(model, dataset, keras_arch.RECIPES["quickstart"], "my_run")
    """
    check_fit_arguments(model, dataset, recipe, folder)
    folder = Path(folder)
    recorded = recorded_precision(folder) if resume else None
    recipe = replace(recipe, precision=choose_precision(recipe.precision, recorded).name)
    trained = compile_copy(model, recipe, steps_per_epoch(dataset, recipe))
    history = load_checkpoint(folder, trained) if resume else {}
    done = len(history.get("loss", []))
    if done < recipe.epochs and not patience_is_over(history, recipe.patience):
        run_epochs(trained, model, dataset, recipe, folder, history, tensorboard)
    model.load_weights(folder / "model.keras")
    return history


def run_epochs(trained, model, dataset, recipe, folder, history, tensorboard):
    """Train the copy for the remaining epochs, extend `history` and save the best weights."""
    steps = batches_per_epoch(dataset, recipe)
    done, heads = len(history.get("loss", [])), len(model.outputs)
    classes = len(dataset.class_names)
    weights = weigh_classes(dataset, recipe)
    guessing = math.log(classes) * (1 if weights is None else weights.max())
    # The context manager restores the terminal if training fails.
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
            SaveProgress(
                model,
                folder,
                history,
                recipe.patience,
                recipe.precision,
                dataset.class_names,
            ),
            # After SaveProgress, which copies the validated weights.
            *([SwapAverages()] if recipe.ema is not None else []),
        ]
        trained.fit(
            repeat_labels(training_batches(dataset, recipe, done), heads, weights),
            initial_epoch=done,
            epochs=recipe.epochs,
            steps_per_epoch=steps,
            validation_data=repeat_labels(
                evaluation_batches(dataset.validation, classes, EVALUATION_BATCH), heads
            ),
            shuffle=False,  # the pipeline shuffles
            verbose=0,
            callbacks=callbacks,
        )


def compile_copy(model, recipe, steps):
    """Return a compiled fast copy of a model.

    Args:
        model: a functional `keras.Model`.
        recipe: a `keras_arch.Recipe` whose precision is not "auto".
        steps: number of optimizer steps per epoch.
    """
    heads = len(model.outputs)  # the main head and the auxiliary classifiers
    trained = fast_copy(plain_model(model), recipe.precision)
    if recipe.freeze == "backbone":
        head = head_layers(trained)
        for layer in all_layers(trained):
            if not hasattr(layer, "layers"):  # a frozen nested model freezes its layers
                layer.trainable = layer in head
    metrics = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    if recipe.class_weights != "none":
        metrics.append(BalancedAccuracy(model.outputs[0].shape[-1]))
    trained.compile(
        optimizer=build_optimizer(recipe, steps),
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
    """Repeat the labels for every head, and add image weights if classes have weights."""

    def repeat(images, labels):
        if class_weights is None:
            return images, (labels,) * heads
        # Soft labels of mixed images: the mean weight of their classes.
        weights = tf.linalg.matvec(labels, tf.constant(class_weights, "float32"))
        return images, (labels,) * heads, (weights,) * heads

    if heads == 1 and class_weights is None:
        return batches
    return batches.map(repeat)


def weigh_classes(dataset, recipe):
    """Return an array with the weight of each class in the loss, or None for equal weights.

    Named weights are used as they are. The weights "balanced" have the same total per class and a
    mean of 1 over the training images. This is the rule "balanced" of scikit-learn.
    """
    if recipe.class_weights == "none":
        return None
    if named := recipe.named_class_weights:
        return np.array([named.get(name, 1.0) for name in dataset.class_names])
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.class_names))
    return dataset.train.count / (len(counts) * np.maximum(counts, 1))
