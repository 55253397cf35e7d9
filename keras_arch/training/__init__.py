"""Train a model: the loop, its callbacks, optimizers, checkpoints and precision."""
