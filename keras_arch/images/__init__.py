"""Image files: find, decode, crop and resize them. Pillow for single images, TensorFlow for data sets."""
