"""Find, decode, crop and resize image files with Pillow and TensorFlow."""
