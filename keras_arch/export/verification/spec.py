"""What the receiver of an exported file may rely on."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FileSpec:
    """What the receiver of a file may rely on."""

    file: str
    kind: str  # "saved_model", "tflite" or "onnx"
    exact: bool  # whether its arithmetic is float32
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    integers: bool = False  # whether nothing but its ends may be anything else
    metadata: bytes | None = None
