"""Architectures: one file or folder each, and the registry that finds a builder by its name."""

from .registry import BUILDERS, available, build

__all__ = ["BUILDERS", "available", "build"]
