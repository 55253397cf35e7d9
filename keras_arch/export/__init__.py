"""Export a model to SavedModel, TFLite and ONNX, and verify every file."""
