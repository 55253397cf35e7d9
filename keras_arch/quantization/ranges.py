"""Store the ranges of int8 in a .keras file."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

from ..errors import InputError, first_line

Ranges = dict[str, tuple[float, float]]  # {layer of the training copy: (minimum, maximum)}
RANGES = "int8_ranges.json"  # in a .keras file, which is a zip archive


def pack_ranges(path: str | Path, ranges: Ranges) -> None:
    """Append the ranges of int8 to a .keras file.

    Args:
        path: .keras file without ranges.
        ranges: what `ranges_of` returned.
    """
    entry = zipfile.ZipInfo(RANGES)  # without a time, so that files are reproducible
    entry.external_attr = 0o644 << 16  # readable for all
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry, json.dumps(ranges))


def scale_ranges(ranges: Ranges, layers: Iterable[str], temperature: float) -> Ranges:
    """Return the ranges of a model in which the outputs of some layers are divided.

    Args:
        ranges: ranges of the model before.
        layers: names of the layers whose outputs are divided.
        temperature: the divisor.
    """
    scaled = {
        f"{layer}_{kind}" for layer in layers for kind in ("range", "sum_range", "product_range")
    }
    return {
        name: (low / temperature, high / temperature) if name in scaled else (low, high)
        for name, (low, high) in ranges.items()
    }


def read_int8_ranges(path: str | Path) -> Ranges | None:
    """Return the ranges of int8 in a .keras file, or None if it has none.

    Args:
        path: .keras file that a training with `quantize_aware` saved.

    Returns:
        {layer of the training copy: (minimum, maximum)}.

    Raises:
        InputError (a ValueError): the file does not exist or is damaged.

    Example:
        ranges = keras_arch.read_int8_ranges("my_run/model.keras")
        keras_arch.export_and_verify(model, "export", names, images, ranges=ranges)
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if RANGES not in archive.namelist():
                return None
            found = json.loads(archive.read(RANGES))
            return {name: (float(low), float(high)) for name, (low, high) in found.items()}
    except Exception as error:  # damaged bytes can raise any exception
        raise InputError(
            f"The ranges of int8 in {path} cannot be read. Received: {first_line(error)}. "
            "Copy the file or train again."
        ) from error
