"""Read the measured results of the recipes.

They are written by benchmarks/recipes.py.
A wheel holds them as keras_arch/recipes.csv.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "recipes.csv"
if not FILE.exists():  # in a clone
    FILE = FILE.parent.parent / "benchmarks" / "results" / "recipes.csv"
BUSY = 0.05  # share of the processor time of other programs, above which times are unreliable


@dataclass(frozen=True)
class Result:
    """Result of a recipe. The checkpoint is chosen on validation images."""

    model: str
    """Name of the architecture."""
    width: float
    """Multiplier of its number of filters."""
    data: str
    """Name of the data set."""
    parameters: int
    test_images: int
    seeds: int
    """Number of trainings."""
    top1: float
    """Mean accuracy on the test images, 0-1."""
    low: float
    """Lower end of its 95% interval, from the number of test images (Wilson)."""
    high: float
    int8_top1: float
    """Mean accuracy of the int8 files on the test images, 0-1."""
    seconds: float
    """Mean time of a training."""
    processor_seconds: float | None
    """Mean processor time of the command, summed over the cores. None if not measured."""
    other_load: float | None
    """Share of the processor time that other programs took, 0-1. None if not measured."""
    accelerator: str
    """Name of the GPU, or empty."""
    processor: str
    cores: int
    precision: str
    backend: str
    """Keras backend of the training."""

    @property
    def processor_time(self) -> float | None:
        """Processor time if other programs slowed the training, else None."""
        return self.processor_seconds if (self.other_load or 0) > BUSY else None


def read_results(path: Path = FILE) -> dict[str, Result]:
    """Return {recipe: `Result`} of the recipes that were run.

    A project that `make mine` made has no measured results.
    """
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["recipe"]: read_row(row) for row in csv.DictReader(file)}


def read_row(row: dict[str, str]) -> Result:
    """Return the `Result` in a row of the file."""
    return Result(
        model=row["model"],
        width=float(row["width"]),
        data=row["data"],
        parameters=int(row["parameters"]),
        test_images=int(row["test_images"]),
        seeds=len(row["top1_of_each_seed"].split()),
        top1=float(row["top1"]),
        low=float(row["low"]),
        high=float(row["high"]),
        int8_top1=float(row["int8_top1"]),
        seconds=float(row["seconds"]),
        processor_seconds=float(row["processor_seconds"]) if row["processor_seconds"] else None,
        other_load=float(row["other_load"]) if row["other_load"] else None,
        accelerator=row["accelerator"],
        processor=row["processor"],
        cores=int(row["cores"]),
        precision=row["precision"],
        backend=row["backend"],
    )
