"""Open model files of any kind as an `Artifact`: images in, probabilities out."""
