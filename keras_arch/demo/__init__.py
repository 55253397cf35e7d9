"""A page in which exported files classify images in a browser."""
