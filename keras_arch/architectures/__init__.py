"""Architectures, and the registry of their builders."""

from .registry import BUILDERS, available, build

__all__ = ["BUILDERS", "available", "build"]
