"""Evaluate and explain models: metrics, predictions, cost, Grad-CAM."""
