"""Load weights of other trainings into a model."""
