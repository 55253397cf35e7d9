"""Results of a verification. `export.json` holds their fields."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PredictionMetrics:
    """Accuracy of an exported file, and its differences from the Keras model's probabilities.

    Without labels, the accuracies and the drop are None.
    """

    images: int
    top1: float | None
    """Top-1 accuracy, 0-1."""
    top5: float | None
    """Top-5 accuracy, 0-1. None for five classes or fewer."""
    drop: float | None
    """Loss of top-1 accuracy compared with the Keras model, in percentage points."""
    drop_interval: tuple[float, float] | None
    """95% interval of `drop`, in percentage points."""
    agreement: float
    """Fraction of images with the Keras model's top class, 0-1."""
    max_difference: float
    """Maximum absolute error of a probability."""
    mean_difference: float
    """Mean absolute error of all probabilities."""
    confidence_difference: float
    """Mean absolute error of the probability of the Keras model's top class."""
    simulated: float | None = None
    """Fraction of images whose probabilities are within 0.02 of the simulation in training, 0-1.
    None without learned ranges."""


@dataclass(frozen=True)
class Latency:
    """Time for one image at batch size 1, in milliseconds."""

    median: float
    p95: float
    """95th percentile."""


@dataclass(frozen=True)
class FileVerification:
    """Result of the verification of one exported file."""

    file: str
    """Name in the export directory."""
    bytes: int | None = None
    """Size on disk. None if the file was not written."""
    problems: tuple[str, ...] = ()
    """Deviations from the specification. Empty if the file passes."""
    metrics: PredictionMetrics | None = None
    """None if the file cannot run."""
    latency_ms: dict[str, Latency] | None = None
    """By number of threads."""
    peak_memory: int | None = None
    """Peak memory in bytes, without the memory of the runtime itself. None outside Linux."""
    operators: dict[str, int] | None = None
    """Number of operators of each type in a .tflite file."""
    refused: str | None = None
    """Error message of the converter, if it could not write the file."""
