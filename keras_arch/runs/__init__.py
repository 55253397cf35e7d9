"""Run directories: what a training run writes, and how it is read again."""
