"""Data sets: load and split images, order and augment them, and make batches."""
