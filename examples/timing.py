"""How long models take beside each other, for the examples that say so."""

import time

import numpy as np
import tensorflow as tf


def side_by_side(models, images, rounds):
    """Let all `models` answer `images` in turns, so that a busy machine slows them alike.

    Args:
        models: {name: keras.Model}, which take `images`.
        images: (batch, height, width, channels).
        rounds: how often each of them answers; one more round before, in which graphs are built, is not counted.

    Returns:
        {name: milliseconds of an image in each round, (rounds,)}.
    """
    calls = {name: tf.function(model) for name, model in models.items()}
    images = tf.constant(images)
    times = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call(images, training=False).numpy()  # a GPU answers before it is done
            times[name].append(1000 * (time.perf_counter() - started) / len(images))
    return {name: np.array(found[1:]) for name, found in times.items()}


def times_of(found, reference):
    """How many times the milliseconds of `reference`: the median of the rounds' own ratios."""
    return float(np.median(found / reference))
