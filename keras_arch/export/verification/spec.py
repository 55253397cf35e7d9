"""Specification of an exported file: its inputs and outputs, which verification checks."""

from dataclasses import dataclass

Shape = tuple[int | None, ...]  # None: any size


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of an exported file."""

    name: str
    type: str
    """Name of the NumPy type, or "string"."""
    shape: Shape
    scale: float | None = None
    """Quantization scale. None: not specified."""
    zero_point: int | None = None
    """Quantization zero point. None: not specified."""


@dataclass(frozen=True)
class FileSpec:
    """Specification of an exported file."""

    file: str
    """Name in the export directory."""
    kind: str
    """Runtime: "saved_model", "tflite" or "onnx"."""
    exact: bool
    """Whether it computes in float32."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    integers: bool = False
    """Whether all operators between input and output compute in integers."""
    metadata: bytes | None = None
    """TFLite metadata."""
