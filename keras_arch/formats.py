"""What a trained model can be written as, and how: light enough that `scripts/export.py --help` answers at once."""

from dataclasses import dataclass
from typing import Annotated, Literal

from .errors import InputError
from .options import PIXELS, SEEDS, Range, check_options


@dataclass(frozen=True)
class Format:
    """A kind of exported file. Every one takes raw images of 0-255 and gives class probabilities."""

    file: str
    """Its name in the folder of the export."""
    purpose: str
    """Where it runs."""
    input_type: str = "float32"
    """Number type of `image`."""
    output_type: str = "float32"
    """Number type of `probabilities`."""
    calibrated: bool = False
    """Whether ranges of activations are measured on training images."""
    exact: bool = False
    """Whether its arithmetic is the model's own, float32: its probabilities are then the model's to 1e-4."""
    optional: bool = False
    """Whether the converter may refuse it, since it does not have the operators for every network."""

    @property
    def kind(self):
        """What runs it: saved_model, tflite or onnx."""
        return self.file.rpartition(".")[2]


FORMATS = {
    "saved_model": Format("saved_model", "TensorFlow Serving and Python", exact=True),
    "float32": Format("model_float32.tflite", "phone CPU, the reference", exact=True),
    "float16": Format("model_float16.tflite", "phone GPU"),
    "dynamic": Format("model_dynamic.tflite", "phone CPU, int8 weights without calibration"),
    "int8": Format(
        "model_int8.tflite", "phone CPU and NPU, all integers", "uint8", "uint8", calibrated=True
    ),
    "int16x8": Format(
        "model_int16x8.tflite", "NPU with 16-bit activations", calibrated=True, optional=True
    ),
    "onnx": Format("model_float32.onnx", "ONNX Runtime", exact=True),
}
FormatName = Literal["saved_model", "float32", "float16", "dynamic", "int8", "int16x8", "onnx"]


@dataclass(frozen=True)
class ExportSettings:
    """How a run is exported and proven. Every field is an option of scripts/export.py."""

    formats: tuple[FormatName, ...] = (
        "saved_model",
        "float32",
        "float16",
        "dynamic",
        "int8",
        "int16x8",
    )
    """What to write; onnx wants the extra "onnx" of keras_arch."""
    height: Annotated[int, PIXELS] | None = None
    """Of the images in pixels; the model's own if not given."""
    width: Annotated[int, PIXELS] | None = None
    """The same."""
    keep_channels: bool = False
    """Leave a grey model grey in TFLite files, which otherwise take red, green and blue, as cameras give them."""
    int8_output: Literal["uint8", "float32"] = "uint8"
    """Type of the int8 file's probabilities."""
    keep_float: tuple[str, ...] = ()
    """Layers that stay in float32 within the int8 file; see --debug-quantization. Its ends are float32, then, too."""
    calibration_images: Annotated[int, Range(1, 100_000)] = 100
    """Un-augmented training images that the ranges of int8 are measured on."""
    proof_images: Annotated[int, Range(1, 1_000_000)] = 2000
    """Test images that every file has to answer, at most; a slow one as many as it can in a minute."""
    max_drop: Annotated[float, Range(0, 100)] = 1.0
    """Points of accuracy that a file may lose on them against the Keras model."""
    seed: Annotated[int, SEEDS] = 0
    """Of the choice of images."""
    license: str = "not stated"
    """Of the trained weights, for the model card and the files' metadata."""

    def __post_init__(self):
        check_options(self)
        if (self.height is None) != (self.width is None):
            raise InputError(
                f"expected a height and a width or neither, got {self.height} and {self.width}"
            )
        if self.keep_float and "int8" not in self.formats:
            raise InputError(
                f"expected int8 among the formats with keep_float, got {', '.join(self.formats)}"
            )
        if not self.formats:
            raise InputError(
                f"expected one format or more, got none; there are {', '.join(FORMATS)}"
            )
