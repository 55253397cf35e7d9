"""Architectures, and the registry of their builders."""

from .registry import ARCHITECTURES, available, build

__all__ = ["ARCHITECTURES", "available", "build"]
