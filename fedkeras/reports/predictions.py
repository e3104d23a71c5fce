"""predictions.npz: what the final model says of each example of the central test set, for the confusion matrix.

Three arrays, no pickle: `labels` and `predicted` (class numbers, one an example) and `classes` (their names).
"""

import io
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras.atomic import replace_file
from fedkeras.errors import UserError
from fedkeras.reports.text_table import text_table


@dataclass(frozen=True)
class Predictions:
    """labels and predicted: (examples,) whole numbers, positions in `classes`."""

    labels: np.ndarray
    predicted: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.shape != self.predicted.shape or not len(self.labels):
            raise ValueError("labels and predicted must be lists of one length, and not empty")
        for numbers in (self.labels, self.predicted):
            if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() >= len(self.classes):
                raise ValueError(f"class numbers must lie in 0 to {len(self.classes) - 1}")

    def matrix(self) -> np.ndarray:
        """Examples by (label, predicted)."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (self.labels, self.predicted), 1)
        return counts


def write_predictions(path: Path, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> None:
    """Write the file in one step. Raises UserError if the disk refuses, ValueError for what does not fit together."""
    made = Predictions(np.asarray(labels), np.asarray(predicted), tuple(map(str, classes)))
    out = io.BytesIO()
    np.savez_compressed(
        out,
        labels=made.labels.astype(np.int32),
        predicted=made.predicted.astype(np.int32),
        classes=np.array(made.classes, dtype=np.str_),
    )
    replace_file(path, out.getvalue())


def read_predictions(path: Path) -> Predictions | None:
    """The file's content; None if there is none. Raises UserError if it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return Predictions(file["labels"], file["predicted"], tuple(map(str, file["classes"])))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged: {' '.join(str(error).split())[:120]}") from error


def class_figures(predictions: Predictions) -> dict[str, dict[str, float]]:
    """scikit-learn's classification_report: precision, recall, f1-score and support by class number, and the means.

    A figure that is a division by zero is NaN, and no part of a mean.
    """
    from sklearn.metrics import classification_report

    numbers = [*range(len(predictions.classes))]
    return classification_report(
        *(predictions.labels, predictions.predicted),
        labels=numbers,
        target_names=[str(number) for number in numbers],  # two classes may share a name, and one be called "accuracy"
        output_dict=True,
        zero_division=math.nan,
    )


def classification(predictions: Predictions) -> list[dict[str, str | int | bool]]:
    """`class_figures` as text: a row a class, then the accuracy and the means (`mean` is True)."""
    table = class_figures(predictions)
    accuracy = float(np.mean(predictions.labels == predictions.predicted))
    rows = [(name, table[str(number)], False) for number, name in enumerate(predictions.classes)]
    rows += [(name, table[name], True) for name in ("macro avg", "weighted avg")]
    empty = {"name": "accuracy", "precision": "", "recall": "", "mean": True, "support": len(predictions.labels)}
    lines = [
        {"name": name, "mean": mean, "support": int(row["support"])}
        | {short: _three(row[long]) for short, long in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score"))}
        for name, row, mean in rows
    ]
    lines.insert(len(predictions.classes), {**empty, "f1": _three(accuracy)})
    return lines


def classification_table(predictions: Predictions, width: int | None = 80) -> list[str]:
    """The same as aligned lines, titles first, of at most `width` columns: long names of classes are cut."""
    shorts = ("precision", "recall", "f1", "support")
    cells = [[str(row["name"]), *(str(row[short]) for short in shorts)] for row in classification(predictions)]
    return text_table([["class", "precision", "recall", "F1", "n"], *cells], width=width)


def _three(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
