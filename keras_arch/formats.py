"""Formats and settings of an export. This module imports neither Keras nor TensorFlow."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from .errors import InputError
from .options import PIXELS, SEEDS, Range, check_options

BUILTINS = "TFLITE_BUILTINS"
BUILTINS_INT8 = "TFLITE_BUILTINS_INT8"
BUILTINS_INT16 = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"


@dataclass(frozen=True)
class Format:
    """A format of an exported file. Its input is raw images of 0-255, its output probabilities."""

    file: str
    """Name of the file in the export directory."""
    purpose: str
    """Runtime and hardware."""
    operators: str | None = None
    """Name of the converter's operator set, a member of `tf.lite.OpsSet`."""
    weights: str = "float32"
    """Type of the weights."""
    input_type: str = "float32"
    """Type of `image`."""
    output_type: str = "float32"
    """Type of `probabilities`."""
    calibrated: bool = False
    """Whether calibration images set the ranges of the activations."""
    exact: bool = False
    """Whether it computes in float32: its probabilities then match the Keras model's to 1e-4."""
    optional: bool = False
    """Whether an export succeeds without it, if the converter lacks operators for the model."""
    keep_float: tuple[str, ...] = ()
    """Layers that stay in float32."""

    @property
    def kind(self) -> str:
        """Runtime of the file: "saved_model", "tflite" or "onnx"."""
        return self.file.rpartition(".")[2]

    @property
    def integers(self) -> bool:
        """Whether all operators between input and output compute in integers."""
        return self.operators == BUILTINS_INT8 and not self.keep_float


FORMATS = {
    "saved_model": Format("saved_model", "TensorFlow Serving and Python", exact=True),
    "float32": Format("model_float32.tflite", "CPU, the reference", BUILTINS, exact=True),
    "float16": Format("model_float16.tflite", "GPU", BUILTINS, "float16"),
    "dynamic": Format("model_dynamic.tflite", "CPU, no calibration", BUILTINS, "int8"),
    "int8": Format(
        "model_int8.tflite",
        "CPU, NPU and microcontroller, integers only",
        BUILTINS_INT8,
        "int8",
        input_type="uint8",
        output_type="uint8",
        calibrated=True,
    ),
    "int16x8": Format(
        "model_int16x8.tflite",
        "NPU with 16-bit activations",
        BUILTINS_INT16,
        "int8",
        calibrated=True,
        optional=True,
    ),
    "int4": Format("model_int4.tflite", "CPU, smallest file", BUILTINS, "int4"),
    "onnx": Format("model_float32.onnx", "ONNX Runtime", exact=True),
}
FormatName = Literal[
    "saved_model", "float32", "float16", "dynamic", "int8", "int16x8", "int4", "onnx"
]


@dataclass(frozen=True)
class ExportSettings:
    """Settings of an export."""

    formats: tuple[FormatName, ...] = (
        "saved_model",
        "float32",
        "float16",
        "dynamic",
        "int8",
        "int16x8",
    )
    """Formats to write. onnx and int4 need the extras keras_arch[onnx] and keras_arch[int4]."""
    height: Annotated[int, PIXELS] | None = None
    """Input height in pixels. Requires --width. Default: the model's."""
    width: Annotated[int, PIXELS] | None = None
    """Input width in pixels. Requires --height. Default: the model's."""
    keep_channels: bool = False
    """Grayscale input for TFLite files of a grayscale model, instead of RGB."""
    int8_output: Literal["uint8", "float32"] = "uint8"
    """Type of the int8 file's probabilities."""
    int8_ranges: Literal["learned", "calibrated"] = "learned"
    """Ranges of the int8 file. learned: those of --quantize-aware if the model has them."""
    keep_float: tuple[str, ...] = ()
    """Float32 layers in the int8 file. See --debug-quantization."""
    calibration_images: Annotated[int, Range(1, 100_000)] = 100
    """Maximum number of training images for calibration."""
    verification_images: Annotated[int, Range(1, 1_000_000)] = 2000
    """Maximum number of test images for verification."""
    max_drop: Annotated[float, Range(0, 100)] = 1.0
    """Maximum drop in top-1 accuracy, in percentage points. Requires labels."""
    seed: Annotated[int, SEEDS] = 0
    """Seed for sampling calibration and verification images."""
    skip_range_check: bool = False
    """Export a Keras model even if it seems to take another range than 0-255."""
    license: str = "not stated"
    """License of the weights, for MODEL_CARD.md and the TFLite metadata."""

    def __post_init__(self):
        check_options(self)
        if (self.height is None) != (self.width is None):
            raise InputError(
                "`height` and `width` must be given together. "
                f"Received: height={self.height}, width={self.width}. "
                "Set both or neither."
            )
        if self.keep_float and "int8" not in self.formats:
            raise InputError(
                "`keep_float` requires the format int8. "
                f"Received: formats={', '.join(self.formats)}. Add int8."
            )
        if not self.formats:
            raise InputError(
                "`formats` must have at least one format. Received: none. "
                f"Choose from {', '.join(FORMATS)}."
            )

    @property
    def learned_int8(self) -> bool:
        """Whether an int8 file is written with learned ranges. Those of another size do not fit."""
        return "int8" in self.formats and self.int8_ranges == "learned" and self.height is None

    def selected(self) -> dict[str, Format]:
        """Return the rows of `FORMATS` to write, with the input and output types of these settings.

        `int8_output` and `keep_float` apply to the int8 file alone. With `keep_float`, its input
        and output are float32.
        """
        selected: dict[str, Format] = {name: FORMATS[name] for name in self.formats}
        if "int8" in selected:
            types = ("float32", "float32") if self.keep_float else ("uint8", self.int8_output)
            selected["int8"] = replace(
                selected["int8"],
                input_type=types[0],
                output_type=types[1],
                keep_float=self.keep_float,
            )
        return selected
