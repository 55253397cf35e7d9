"""Write predictions.csv: every evaluated image, label errors first."""

from pathlib import Path

import numpy as np

from ..data.dataset import Dataset
from ..evaluation.metrics import compute_losses
from ..evaluation.ranking import ranks_of
from ..files import atomic_write
from ..text import csv_writer, spreadsheet_path, spreadsheet_text

COLUMNS = ("image", "true", "predicted", "probability", "probability_true", "rank", "loss")


def write_prediction_table(
    path: Path, dataset: Dataset, split: str, probabilities: np.ndarray, labels: np.ndarray
) -> None:
    """Write a row for each image of a split, sorted by loss, highest first.

    The column "image" is the path of the file. Without files, it is the index in the split, from 0.
    "probability" is that of the predicted class, "probability_true" and "rank" are those of the
    true class. No text is a formula of a spreadsheet.

    Args:
        path: CSV file.
        dataset: the data set.
        split: the split that was evaluated.
        probabilities: array (images, classes).
        labels: integer array (images,), the true classes.
    """
    paths = getattr(getattr(dataset, split), "paths", None)
    names = [spreadsheet_text(name) for name in dataset.class_names]
    losses, ranks = compute_losses(probabilities, labels), ranks_of(probabilities, labels)
    predicted = probabilities.argmax(axis=1)

    def row(index):
        true, best, shares = labels[index], predicted[index], probabilities[index]
        image = index if paths is None else spreadsheet_path(paths[index])
        numbers = (shares[best], shares[true], ranks[index], losses[index])
        return [image, names[true], names[best], *(f"{number:.6g}" for number in numbers)]

    def write(partial):
        # Bytes of file names that are not UTF-8 become escape sequences.
        with partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            rows = csv_writer(file)
            rows.writerow(COLUMNS)
            rows.writerows(map(row, np.argsort(-losses, kind="stable").tolist()))

    atomic_write(path, write)
