"""Write predictions to a CSV or Parquet file, and continue after an interruption.

Next to FILE are two others. _FILE.json identifies the model and the images, and stays. _FILE.parts
is a directory of finished rows, `PART` images a file, which exists until FILE is complete. Each
file is written atomically, and FILE last. So FILE is complete if it exists. Readers of a directory
of Parquet files, such as pyarrow and Spark, skip names that begin with "_".

In a CSV file, no text is a formula of a spreadsheet. A Parquet file has the texts unchanged.
"""

import csv
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Literal, TextIO

from ..errors import InputError, first_line, require
from ..evaluation.predictions import BATCH, Prediction, warn_of_unreadable
from ..files import atomic_write, exclusive_lock, write_json
from ..text import csv_writer, printable, spreadsheet_text
from .predictions import cells_of, columns_of, spreadsheet_cells

PART = 16 * BATCH  # images; complete batches, so that an interruption does not change the batches
SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class Source:
    """What a file of predictions depends on. _FILE.json has it."""

    model: str
    """SHA-256 of the model file or of the files in its directory."""
    class_names: str
    """SHA-256 of the class names."""
    images: str
    """SHA-256 of the paths of all images, in their order."""
    shard: str
    """The slice of the images, such as "3/8"."""
    top: int
    """Number of classes of each image."""
    at_least: float | None = None
    """Probability below which a prediction is unsure. None: no column says so."""


DIFFERENCES = {
    "model": "another model",
    "class_names": "other class names",
    "images": "another list of images",
    "shard": "another --shard",
    "top": "another --top",
    "at_least": "another --at-least",
}


def check_suffix(output: Path) -> None:
    """Raise InputError unless a file of predictions can have this name."""
    if output.suffix not in SUFFIXES:
        raise InputError(f"--output must be a .csv or .parquet file. Received: {output}.")
    if output.suffix == ".parquet":
        require("parquet")


def write_predictions(
    output: Path,
    source: Source,
    paths: Sequence[Path],
    predict: Callable[[Sequence[Path]], Iterator[Prediction]],
) -> None:
    """Write the predictions of all images. Continue if an earlier call did not end.

    The rows are in the order of `paths`. Images that cannot be read have no classes, and the reason
    in the column "error".

    Args:
        output: .csv or .parquet file.
        source: what identifies the predictions.
        paths: images of the slice.
        predict: function from images to a `Prediction` for each.

    Raises:
        InputError (a ValueError): `output` has other predictions, another process is writing it,
            or, after it is written, images cannot be read.
    """
    record, parts = sibling(output, ".json"), sibling(output, ".parts")
    unreadable = read_unreadable(output, source)
    if output.exists():
        shutil.rmtree(parts, ignore_errors=True)  # of a process that was killed at its end
        print(printable(f"{output} is complete: predictions of {len(paths):,} images."))
    else:
        parts.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(parts):
            read_unreadable(output, source)  # another process may have written in the meantime
            if not record.exists():  # parts without it may be of another model
                for part in parts_in(parts):
                    part.unlink()
                write_json(record, asdict(source))
            write_parts(parts, paths, predict, source, output.suffix)
            unreadable = sum(1 for row in rows_in(parts) if row[-1])
            write_json(record, {**asdict(source), "unreadable": unreadable})
            write = write_csv if output.suffix == ".csv" else write_parquet
            names = header(source)
            atomic_write(output, partial(write, parts=parts, names=names))
            shutil.rmtree(parts, ignore_errors=True)  # a second process can remove it, too
        print(printable(f"Predictions of {len(paths):,} images saved to {output}."))
    if unreadable:
        raise InputError(
            f"{unreadable:,} of {len(paths):,} images cannot be read. "
            f"The column error of {output} has the reasons."
        )


def sibling(output: Path, suffix: str) -> Path:
    """Return the path of a file that belongs to an output."""
    return output.with_name(f"_{output.name}{suffix}")


def read_unreadable(output: Path, source: Source) -> int:
    """Return the number of unreadable images in a complete file. It is 0 for other files.

    Raises:
        InputError (a ValueError): the file and its parts do not belong to `source`.
    """
    record = sibling(output, ".json")
    if not record.exists():
        if output.exists():
            raise InputError(
                f"{output} has no {record.name}, so it is not replaced. Pass another --output."
            )
        return 0
    try:
        known = {"at_least": None, **json.loads(record.read_text())}
        found = Source(**{name: known[name] for name in DIFFERENCES})
        unreadable = int(known.get("unreadable", 0))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{record} must be the record of predictions. Received: {first_line(error)}. "
            "Remove it or pass another --output."
        ) from error
    for name, difference in DIFFERENCES.items():
        if getattr(found, name) != getattr(source, name):
            raise InputError(
                f"{output} must have predictions of the same model, images and options. "
                f"Received: {difference}. Pass another --output, or remove {output.name} and "
                f"{record.name}."
            )
    return unreadable


def write_parts(
    parts: Path,
    paths: Sequence[Path],
    predict: Callable[[Sequence[Path]], Iterator[Prediction]],
    source: Source,
    suffix: str,
) -> None:
    """Write the parts that are missing, for an output with this suffix."""
    first = next(number for number in count() if not part_path(parts, number).exists())
    if first:
        print(f"{min(first * PART, len(paths)):,} of {len(paths):,} images are done.", flush=True)
    rows = warn_of_unreadable(predict(paths[first * PART :]))
    for number in range(first, -(-len(paths) // PART)):
        write = partial(
            write_part, predictions=islice(rows, PART), source=source, plain=suffix != ".csv"
        )
        atomic_write(part_path(parts, number), write)


def part_path(parts: Path, number: int) -> Path:
    """Return the path of a part."""
    return parts / f"{number:06}.csv"


def parts_in(parts: Path) -> list[Path]:
    """Return the paths of the finished parts, in the order of the images."""
    return sorted(parts.glob("[0-9]*.csv"))


def header(source: Source) -> list[str]:
    """Return the names of the columns."""
    return [*columns_of(source.top, source.at_least), "error"]


def write_part(path: Path, predictions: Iterable[Prediction], source: Source, plain: bool) -> None:
    """Write rows without the header. If `plain`, texts that spreadsheets take for formulas stay."""
    columns = len(columns_of(source.top, source.at_least))
    with open_text(path, "w") as file:
        writer = csv_writer(file)
        for prediction in predictions:
            cells = (cells_of if plain else spreadsheet_cells)(prediction, source.at_least)
            error = prediction.error if plain else spreadsheet_text(prediction.error)
            missing = columns - len(cells)  # those of an unreadable image
            writer.writerow([*cells, *[""] * missing, error])


def open_text(path: Path, mode: Literal["r", "w"] = "r") -> TextIO:
    """Open a CSV file. Bytes of file names that are not UTF-8 become escape sequences."""
    return path.open(mode, encoding="utf-8", errors="backslashreplace", newline="")


def rows_in(parts: Path) -> Iterator[list[str]]:
    """Yield the rows of all parts."""
    for part in parts_in(parts):
        with open_text(part) as file:
            yield from csv.reader(file)


def write_csv(path: Path, parts: Path, names: list[str]) -> None:
    """Join parts to a CSV file."""
    with path.open("wb") as file:
        file.write((",".join(names) + "\n").encode())
        for part in parts_in(parts):
            with part.open("rb") as rows:
                shutil.copyfileobj(rows, file)


def write_parquet(path: Path, parts: Path, names: list[str]) -> None:
    """Join parts to a Parquet file. Probabilities are float32, "unsure" is bool, texts strings."""
    import pyarrow
    from pyarrow import csv, parquet

    special = {"probability": pyarrow.float32(), "unsure": pyarrow.bool_()}
    types = {name: special.get(name.split("_")[0], pyarrow.string()) for name in names}
    tables = [
        csv.read_csv(
            part,
            csv.ReadOptions(column_names=names),
            csv.ParseOptions(newlines_in_values=True),
            csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
        )
        for part in parts_in(parts)
    ]
    empty = pyarrow.schema(types.items()).empty_table()
    parquet.write_table(pyarrow.concat_tables([empty, *tables]), path)
