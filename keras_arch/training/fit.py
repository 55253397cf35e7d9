"""Train a model by a recipe, save the best checkpoint and resume interrupted runs."""

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.convert import explain_batches
from ..data.dataset import Dataset
from ..data.pipeline import (
    batches_per_epoch,
    evaluation_batches,
    padded_batches,
    steps_per_epoch,
    training_batches,
)
from ..data.policies import policy_of
from ..errors import explain_surroundings
from ..files import plain_path
from ..models import all_layers, head_layers, plain_model, resize_model
from ..quantization.copy import quantized_copy
from ..quantization.equalize import equalize_channels
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
from .checkpoint import PARTS, load_checkpoint, open_shared, recorded_epochs, recorded_precision
from .checks import check_fit_arguments
from .fast_copy import fast_copy
from .hooks import NO_HOOKS, check_hooks
from .metrics import BalancedAccuracy, LabeledOnly
from .optimizers import build_optimizer
from .precision import choose_precision
from .sharing import process_count, share
from .spread import current_spread
from .teacher import check_teacher, temperature_of, with_teacher

EVALUATION_BATCH = 256
AUXILIARY_LOSS_WEIGHT = 0.3  # of each auxiliary classifier (Szegedy et al. 2014, section 5)


@explain_surroundings()
@explain_batches()
def fit(
    model: keras.Model,
    data: Dataset | Sequence[Any],
    recipe: Recipe,
    folder: str | Path,
    resume: bool = False,
    tensorboard: bool = False,
    *,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    metrics: Sequence[Any] = (),
    augment: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    loss: Any = None,
    teacher: keras.Model | None = None,
) -> dict[str, list[float]]:
    """Train a model and save the checkpoint with the best validation accuracy.

    `fit` trains a fast copy (see `keras_arch.training.fast_copy`). The saved model has stock Keras
    layers in float32 and no optimizer. On JAX, it trains on the devices of the current
    `keras.distribution.DataParallel`. The batch size is that of all devices.

    Args:
        model: a functional or built Sequential `keras.Model` from images of the data's shape to
            class probabilities. It must not be compiled. After training it has the weights of the
            best epoch.
        data: one of

            - a `keras_arch.Dataset`. The test split is not used.
            - `((x_train, y_train), (x_val, y_val))` of arrays: images of 0-255,
              (images, height, width, channels) or (images, height, width), and integer labels
              (images,) or (images, 1). Float images are rounded. The class names are "0", "1", ...
            - `(train, validation)`, each a `tf.data.Dataset` of (images, labels): image batches of
              0-255 and integer labels (batch,) or (batch, 1). Its number of batches must be known.
              The batches are used as they come, and `recipe.batch_size` has no effect. `fit` checks
              the pixels of the first batch, and shapes and labels of all batches. A resumed run is
              not bit-identical, because `fit` does not control the order of the images.
        recipe: a `keras_arch.Recipe`. `fit` ignores the fields that define the model and the data,
            such as `model`, `model_options`, `dataset`, `stem` and `weights`.
        folder: path of a directory for model.keras, history.csv and checkpoint.npz. It is created
            if it does not exist. Each write is atomic. model.keras also holds the class names.
        resume: whether to continue after the last epoch in `folder`. If there is no checkpoint,
            training starts from scratch. On the same machine and Keras backend, the result is
            bit-identical to that of an uninterrupted run. The state of `callbacks` is not restored.
        tensorboard: whether to write TensorBoard logs into `folder`/tensorboard.
        callbacks: Keras callbacks. They run after those of `fit`: at the end of an epoch, the files
            in `folder` are written, and `logs` has all columns of the history. `self.model` is the
            fast copy. Do not save it, because it has layers of this package. Use
            `folder`/model.keras. `self.model.stop_training = True` ends the training. They
            begin and end once in each phase (`freeze_epochs`, `quantize_aware`), which has its own
            copy.
        metrics: Keras metrics of one-hot labels and probabilities, with names of their own. The
            history has their values, also for validation. On several devices, they must take
            `sample_weight`.
        augment: function from (images, random) to images of 0-255 with the same shape, in
            TensorFlow operations. Images are uint8 or float32 (batch, height, width, channels).
            `random` is float32 (batch, 16), uniform in [0, 1), a function of seed, epoch and
            example. It replaces the pixel functions of the policy `recipe.augment`. Crops of
            inception_crop and the mixing of mixup and cutmix remain.
        loss: Keras loss of one-hot labels and probabilities. Default: cross-entropy with the
            label smoothing of the recipe.
        teacher: trained `keras.Model` with the images and the classes of `data`. The model learns
            from its probabilities of the augmented images (Hinton et al. 2015, arXiv:1503.02531).
            `temperature` and `teacher_weight` of the recipe define the loss. `val_loss` is that of
            the labels alone. `fit` does not open the file of `recipe.teacher`.

    Returns:
        The history, {column: [value of each epoch]}, with the columns loss, accuracy, val_loss,
        val_accuracy, learning_rate and seconds. With class weights it also has balanced_accuracy
        and val_balanced_accuracy, which selects the best epoch.

    Raises:
        InputError (a ValueError): before training, if

            - an argument has the wrong type, or `folder` cannot be written,
            - the model is compiled, or a Sequential without an input shape,
            - a callback, a metric, the augmentation, the loss or the teacher cannot be used,
            - a class name is empty or not one line of UTF-8,
            - the model has other classes or another image shape than the data, or its outputs are
              not probabilities,
            - the batch size is larger than the training split, or memory is not sufficient,
            - the devices do not divide the batch size, or the distribution is of another kind,
            - the checkpoint in `folder` is damaged or is of another network;

            during training, if the loss diverges, the Keras backend runs out of memory, or a later
            batch of a `tf.data.Dataset` has invalid labels.

    Example:
        >>> dataset = keras_arch.load_dataset("digits")
        >>> model = keras_arch.ResNet8(input_shape=dataset.image_shape, classes=10)
        >>> history = keras_arch.fit(model, dataset, keras_arch.RECIPES["quickstart"], "my_run")
    """
    spread = current_spread()
    dataset, recipe = check_fit_arguments(model, data, recipe, folder, spread)
    padded = spread.devices > 1
    hooks = check_hooks(callbacks, metrics, augment, loss, recipe, dataset, padded)
    hooks = replace(hooks, teacher=check_teacher(teacher, model, recipe, dataset))
    folder = Path(folder)
    recorded = share(recorded_precision(folder) if resume else None)
    recipe = replace(recipe, precision=choose_precision(recipe.precision, recorded).name)
    done = share(recorded_epochs(folder) if resume else 0)
    history: dict[str, list[float]] = {}
    for phase in recipe.phases:
        if done >= phase.last and phase.last < recipe.epochs:
            continue  # the run was interrupted after this phase
        steps = steps_per_epoch(dataset, recipe)
        trained = compile_copy(model, phase.recipe, steps, hooks, padded)
        if resume or phase.first:
            # A phase starts from the last weights of the phase before, with a new optimizer.
            parts = ("model",) if done == phase.first else PARTS
            history = load_checkpoint(folder, trained, parts)
            hooks.check_history(history)
        if phase.recipe.quantize_aware == "int8" and done == phase.first:
            equalize_channels(trained, plain_model(model))
        done = len(history.get("loss", []))
        if done < phase.last and not patience_is_over(history, recipe):
            run_epochs(
                trained, model, dataset, recipe, phase, folder, history, tensorboard, hooks, spread
            )
            done = len(history["loss"])
        if trained.stop_training:
            break
    load_best(model, folder / "model.keras")
    return history


def load_best(model, path):
    """Load the weights of a .keras file, which process 0 has, in all processes."""
    if process_count() == 1:
        return model.load_weights(path)
    with tempfile.TemporaryDirectory() as scratch, open_shared(path) as shared:
        copy = Path(scratch) / path.name
        copy.write_bytes(shared.read())
        model.load_weights(copy)


def run_epochs(trained, model, dataset, recipe, phase, folder, history, tensorboard, hooks, spread):
    """Train the copy to the end of a phase, extend `history` and save the best weights."""
    steps = batches_per_epoch(dataset, recipe)
    batch_size = min(recipe.batch_size, dataset.train.count)
    done, heads = len(history.get("loss", [])), len(model.outputs)
    classes = len(dataset.class_names)
    weights = weigh_classes(dataset, recipe)
    guessing = math.log(classes) * (1 if weights is None else weights.max())
    if hooks.teacher is not None:
        guessing *= max(1, temperature_of(recipe) ** 2)  # the scale of its loss
    if hooks.loss is not None:
        guessing = math.inf  # the scale of the loss is unknown
    writes = spread.part.index == 0
    if writes:
        folder.mkdir(parents=True, exist_ok=True)
    # The context manager restores the terminal if training fails.
    with progress_bar(writes) as progress, plain_path(folder) as plain:
        callbacks = [
            MainHead(metric.name for metric in hooks.metrics),
            PrintProgress(recipe, steps, batch_size, progress, phase.first),
            StopAtNaN(phase, guessing),
            *(
                [keras.callbacks.TensorBoard(plain / "tensorboard", write_graph=False)]
                if tensorboard and writes
                else []
            ),
            SaveProgress(model, folder, history, recipe, dataset.class_names, writes),
            # After SaveProgress, which copies the validated weights.
            *([SwapAverages()] if recipe.ema is not None else []),
            *hooks.callbacks,
        ]
        policy = policy_of(recipe, hooks.augment)
        epochs = replace(phase.recipe, epochs=phase.last)
        batches = training_batches(dataset, epochs, done, policy, spread.part)
        trained.fit(
            repeat_labels(batches, heads, weights),
            initial_epoch=done,
            epochs=phase.last,
            steps_per_epoch=steps,
            validation_data=repeat_labels(
                validation_batches(dataset.validation, classes, spread), heads
            ),
            shuffle=False,  # the pipeline shuffles
            verbose=0,
            callbacks=callbacks,
        )


def validation_batches(split, classes, spread):
    """Return the images that this process validates. See `pipeline.py`."""
    if spread.devices == 1:
        return evaluation_batches(split, classes, EVALUATION_BATCH)
    return padded_batches(split, classes, EVALUATION_BATCH, spread.devices, spread.part)


def compile_copy(model, recipe, steps, hooks=NO_HOOKS, padded=False):
    """Return a compiled fast copy of a model.

    Args:
        model: a functional `keras.Model`.
        recipe: a `keras_arch.Recipe` whose precision is not "auto".
        steps: number of optimizer steps per epoch.
        hooks: `Hooks`, with metrics, a loss and a teacher.
        padded: whether images with zero labels fill the batches of a validation.
    """
    heads = len(model.outputs)  # the main head and the auxiliary classifiers
    source = plain_model(model)
    if recipe.early_size is not None:
        source = resize_model(source, None, None)  # any size
    if recipe.quantize_aware == "int8":
        trained = quantized_copy(source)
    else:
        trained = fast_copy(source, recipe.precision)
    loss = hooks.loss or keras.losses.CategoricalCrossentropy(
        label_smoothing=recipe.label_smoothing
    )
    if hooks.teacher is not None:
        trained = with_teacher(trained, hooks.teacher, recipe, loss)
    if recipe.freeze == "backbone":
        head = head_layers(trained)
        for layer in all_layers(trained):
            if not hasattr(layer, "layers"):  # a frozen nested model freezes its layers
                layer.trainable = layer in head
    metrics = [keras.metrics.CategoricalAccuracy(name="accuracy")]
    if recipe.class_weights != "none":
        metrics.append(BalancedAccuracy(model.outputs[0].shape[-1]))
    metrics += hooks.metrics
    if padded:
        metrics = [LabeledOnly(metric) for metric in metrics]
    trained.compile(
        optimizer=build_optimizer(recipe, steps),
        loss=[loss] * heads,
        loss_weights=[1.0] + [AUXILIARY_LOSS_WEIGHT] * (heads - 1),
        metrics=[metrics] + [[]] * (heads - 1),
    )
    trained.optimizer.build(trained.trainable_variables)
    return trained


def repeat_labels(batches, heads, class_weights=None):
    """Repeat labels and image weights for every head. Add image weights if classes have weights."""

    def repeat(images, labels, weights=None):
        if class_weights is not None:
            # Soft labels of mixed images: the mean weight of their classes.
            weights = tf.linalg.matvec(labels, tf.constant(class_weights, "float32"))
        if weights is None:
            return images, (labels,) * heads
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
    return counts.sum() / (len(counts) * np.maximum(counts, 1))
