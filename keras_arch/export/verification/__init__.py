"""Verify exported files: run them in a process without this package and compare."""
