"""Build the optimizer and the learning rate schedule of a recipe."""

import keras
from keras import ops

from ..keras_private import batches_of, learning_rate_at, moving_averages

MOMENTUM = 0.9
# Initial learning rate of onecycle, as a share of the peak, with the value of PyTorch and fastai
# (Smith and Topin 2017, arXiv:1708.07120).
ONE_CYCLE_START = 1 / 25


def build_optimizer(recipe, steps):
    """Build the optimizer of a recipe.

    Weight decay does not apply to biases and batch norm. With precision "mixed_float16" the loss is
    scaled, so that small gradients do not underflow.

    Args:
        recipe: a `keras_arch.Recipe`.
        steps: number of optimizer steps per epoch.

    Returns:
        A `keras.optimizers.Optimizer`. It takes a step after each `recipe.accumulate` batches.
    """
    schedule = build_schedule(recipe, steps)
    options = {
        "weight_decay": recipe.weight_decay,
        "global_clipnorm": recipe.clip_norm,
        "use_ema": recipe.ema is not None,
        "ema_momentum": recipe.ema or 0.99,
        "gradient_accumulation_steps": recipe.accumulate if recipe.accumulate > 1 else None,
    }
    if recipe.optimizer == "sgd":
        options |= {"momentum": MOMENTUM, "nesterov": True}
    optimizer = OPTIMIZERS[recipe.optimizer](schedule, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return (
        keras.optimizers.LossScaleOptimizer(optimizer)
        if recipe.precision == "mixed_float16"
        else optimizer
    )


def unwrap(optimizer):
    """Return the optimizer inside a `LossScaleOptimizer`, or the optimizer itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def rate_of(optimizer, step):
    """Return the learning rate of an optimizer step, counted from 0, as a float."""
    return float(learning_rate_at(unwrap(optimizer), step))


def averaged_variables(optimizer):
    """Return a list of (trainable weight, its moving average)."""
    return moving_averages(unwrap(optimizer))


class StepCounter(keras.optimizers.Optimizer):
    """Count optimizer steps in a Keras optimizer that accumulates the gradients of several batches.

    Keras counts batches in the learning rate schedule, and updates the EMA after every batch. With
    this class, both change at optimizer steps only. Accumulated gradients are part of the
    optimizer's state, so that a resumed run is bit-identical.
    """

    @keras.optimizers.Optimizer.learning_rate.getter
    def learning_rate(self):
        return learning_rate_at(self, self.iterations)

    @property
    def completes_step(self):
        """Whether the current batch is the last one of an optimizer step."""
        every = self.gradient_accumulation_steps or 1
        return ops.equal((batches_of(self) + 1) % every, 0)


class WarmUpAverage(StepCounter):
    """Add a warm-up of the EMA decay to a Keras optimizer.

    Keras initializes the average with the weights after the first step and applies the decay
    `ema_momentum` at every step. With 0.999, these weights still have a share of a third after
    1,000 steps. With this class, step t (counted from 0) uses the decay
    min(ema_momentum, (1 + t) / (10 + t)), as in `tf.train.ExponentialMovingAverage`. The step is
    part of the optimizer's state, so that a resumed run continues with the same decay.
    """

    @property
    def ema_momentum(self):
        step = ops.cast(self.iterations, "float32")
        decay = ops.minimum(self.final_ema_momentum, (1 + step) / (10 + step))
        if self.gradient_accumulation_steps is None:
            return decay
        return ops.where(self.completes_step, decay, 1.0)  # 1 keeps the average

    @ema_momentum.setter
    def ema_momentum(self, decay):
        self.final_ema_momentum = decay


class SGD(WarmUpAverage, keras.optimizers.SGD):
    pass


class AdamW(WarmUpAverage, keras.optimizers.AdamW):
    pass


class Lamb(WarmUpAverage, keras.optimizers.Lamb):
    pass


OPTIMIZERS = {"sgd": SGD, "adamw": AdamW, "lamb": Lamb}


def build_schedule(recipe, steps):
    """Return the learning rate schedule of a recipe: a linear warm-up, then `recipe.schedule`.

    Args:
        recipe: a `keras_arch.Recipe`.
        steps: number of optimizer steps per epoch.
    """
    peak, total = recipe.learning_rate, recipe.epochs * steps
    warmup = min(round(recipe.warmup_epochs * steps), total - 1)
    drops = [total // 2 - warmup - 1, total * 3 // 4 - warmup - 1]  # last steps before a drop
    cosine = keras.optimizers.schedules.CosineDecay(peak, total - warmup)
    after = {
        "cosine": cosine,
        "onecycle": cosine,
        "step": keras.optimizers.schedules.PiecewiseConstantDecay(
            drops, [peak, peak / 10, peak / 100]
        ),
        "constant": lambda step: peak,
    }[recipe.schedule]
    return WarmUp(
        peak * ONE_CYCLE_START if recipe.schedule == "onecycle" else 0, peak, warmup, after
    )


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Increase linearly from `start` to `peak` over `warmup` steps, then follow `after`."""

    def __init__(self, start, peak, warmup, after):
        self.start, self.peak, self.warmup, self.after = start, peak, warmup, after

    def __call__(self, step):
        step = ops.cast(step, "float32")
        climb = self.start + (self.peak - self.start) * (step + 1) / max(self.warmup, 1)
        return ops.where(
            step < self.warmup, climb, self.after(ops.maximum(step - self.warmup, 0.0))
        )
