"""Train a model: training loop, callbacks, optimizers, checkpoints and precision."""
