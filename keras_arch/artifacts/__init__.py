"""Model files of any kind, opened as one thing: images in, probabilities out."""
