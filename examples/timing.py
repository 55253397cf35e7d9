"""Compare the times of models in turns."""

import time

import numpy as np
import tensorflow as tf


def time_in_turns(models, images, rounds):
    """Run all `models` on `images` in turns, so that a busy machine slows all of them.

    Args:
        models: {name: keras.Model}.
        images: Array (batch, height, width, channels).
        rounds: Number of rounds. One more round at the start builds graphs and is not timed.

    Returns:
        {name: array (rounds,) of milliseconds per image}.
    """
    calls = {name: tf.function(model) for name, model in models.items()}
    images = tf.constant(images)
    times = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call(images, training=False).numpy()  # waits for a GPU
            times[name].append(1000 * (time.perf_counter() - started) / len(images))
    return {name: np.array(found[1:]) for name, found in times.items()}


def median_ratio(times, reference):
    """Return the median ratio of two times in each round."""
    return float(np.median(times / reference))
