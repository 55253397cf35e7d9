"""Loading of weights into a model."""
