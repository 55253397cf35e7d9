"""The optimizer of a recipe and the learning rate of each of its steps."""

import keras
from keras import ops

MOMENTUM = 0.9
# Smith and Topin 2017 (arXiv:1708.07120), as PyTorch and fastai have it: where one cycle starts, seen from its peak.
ONE_CYCLE_START = 1 / 25


def build_optimizer(recipe, steps, precision="float32"):
    """The optimizer with its schedule over `steps` an epoch; weight decay spares biases and batch norm.

    Args:
        recipe: a `keras_arch.Recipe`.
        steps: in an epoch.
        precision: of training; gradients of "mixed_float16" are scaled, so that small ones do not vanish.
    """
    schedule = build_schedule(recipe, steps)
    options = {
        "weight_decay": recipe.weight_decay,
        "global_clipnorm": recipe.clip_norm,
        "use_ema": recipe.ema is not None,
        "ema_momentum": recipe.ema or 0.99,
    }
    if recipe.optimizer == "sgd":
        options |= {"momentum": MOMENTUM, "nesterov": True}
    optimizer = OPTIMIZERS[recipe.optimizer](schedule, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return (
        keras.optimizers.LossScaleOptimizer(optimizer)
        if precision == "mixed_float16"
        else optimizer
    )


def unwrap(optimizer):
    """The optimizer that moves the weights, where another scales its gradients."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def rate_of(optimizer, step):
    """The learning rate of a step, counted from 0."""
    return float(unwrap(optimizer)._learning_rate(step))


def averaged_variables(optimizer):
    """Return (weight, its moving average) for each weight that is trained with `ema`."""
    optimizer = unwrap(optimizer)
    return list(
        zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    )


class WarmUpAverage(keras.optimizers.Optimizer):
    """Give a Keras optimizer a moving average of the weights that forgets the random ones.

    Keras starts the average at the weights after the first step and keeps the share `ema_momentum` of it at every step.
    At 0.999, a third of the average is still random weights after 1,000 steps. Here, step t (counted from 0) keeps
    min(ema_momentum, (1 + t) / (10 + t)), as in `tf.train.ExponentialMovingAverage`. The step is part of the
    optimizer's state, so that training that is resumed continues with the same decay.
    """

    @property
    def ema_momentum(self):
        step = ops.cast(self.iterations, "float32")
        return ops.minimum(self.final_ema_momentum, (1 + step) / (10 + step))

    @ema_momentum.setter
    def ema_momentum(self, share):
        self.final_ema_momentum = share


class SGD(WarmUpAverage, keras.optimizers.SGD):
    pass


class AdamW(WarmUpAverage, keras.optimizers.AdamW):
    pass


class Lamb(WarmUpAverage, keras.optimizers.Lamb):
    pass


OPTIMIZERS = {"sgd": SGD, "adamw": AdamW, "lamb": Lamb}


def build_schedule(recipe, steps):
    """The learning rate of every step: a linear warm-up, then what the recipe names."""
    peak, total = recipe.learning_rate, recipe.epochs * steps
    warmup = min(round(recipe.warmup_epochs * steps), total - 1)
    drops = [total // 2 - warmup - 1, total * 3 // 4 - warmup - 1]  # the last steps before
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
    """Climb from `start` to `peak` over `warmup` steps, then follow the schedule `after`."""

    def __init__(self, start, peak, warmup, after):
        self.start, self.peak, self.warmup, self.after = start, peak, warmup, after

    def __call__(self, step):
        step = ops.cast(step, "float32")
        climb = self.start + (self.peak - self.start) * (step + 1) / max(self.warmup, 1)
        return ops.where(
            step < self.warmup, climb, self.after(ops.maximum(step - self.warmup, 0.0))
        )
