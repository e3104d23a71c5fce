"""One file that holds examples and their labels: which of its columns are which, and what they are as arrays.

Nothing is taken for the label because it stands last: a flag names it, or its own name does. A large file is parsed
once and kept in the cache, as folders of tables are (`tables`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedkeras.data.cache import Arrays, cached, fingerprint, narrowed
from fedkeras.data.labels import same_text
from fedkeras.data.readers.csv_named import open_named_csv
from fedkeras.data.readers.named_table import NamedTable
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.readers.parquet_table import open_named_parquet
from fedkeras.data.readers.table_file import labels_of
from fedkeras.data.readers.xlsx_named import open_named_xlsx
from fedkeras.data.sample_weights import IGNORED, USUAL, checked
from fedkeras.errors import UserError

OPENERS: Mapping[str, Callable[[Path, Marks], NamedTable]] = {
    ".csv": open_named_csv,
    ".xlsx": open_named_xlsx,
    ".parquet": open_named_parquet,
}
"""By the ending of a file's name."""

LABELS = ("label", "target", "class", "y")
"""Names, in any capitals, of a column that nobody needs to name."""

FORMAT = 1
"""To be raised when the same file comes out as other arrays, so that the cache is made anew."""
LARGE = 8_000_000
"""Bytes of a file that is worth a place in the cache."""
SHOWN = 12


@dataclass(frozen=True)
class Chosen:
    """What of a file is to be read: names of columns, "" and () for what the file says by itself.

    `weights` is --sample-weight: a column, or "none"; unless it is `required` (a test set need not have it), there are
    none where it is missing.
    """

    label: str = ""
    features: tuple[str, ...] = ()
    weights: str = ""
    required: bool = True
    marks: Marks = field(default_factory=Marks)


@dataclass(frozen=True)
class LabelledTable:
    """The rows of a file. x: float32, or float64 where float32 would lose digits, (n, features); y: (n,), see
    `table_file.labels_of`; `weights`: float64 (n,), None where nothing weighs the rows.

    `names` are the features', in the order of x's columns; `notes` say what was decided, by name.
    """

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None
    names: tuple[str, ...]
    label: str
    notes: Mapping[str, str]


def read_labelled(path: Path, chosen: Chosen) -> LabelledTable:
    """The file at `path`. Raises UserError where it cannot be read, or where it does not say what is what."""
    table = open_named(path, chosen.marks)
    label = _label(table, chosen.label)
    weights = _weights(table, chosen, label)
    features = _features(table, chosen.features, {label, weights})
    places = [table.names.index(name) for name in (*features, *([weights] if weights else []))]

    def build() -> Arrays:
        numbers, cells = [], []
        for block, words in table.read(places, table.names.index(label)):
            numbers.append(block)
            cells += words
        if not cells:
            raise UserError(f"{path} has a header and no rows")
        whole = np.concatenate(numbers)
        x = np.ascontiguousarray(whole[:, : len(features)])
        arrays = {"x": narrowed(x), "y": labels_of(path, cells, table.where, table.numerals)}
        return arrays | ({"weights": whole[:, -1]} if weights else {})

    if path.stat().st_size < LARGE:
        arrays = build()
    else:
        arrays = cached("table", fingerprint([path], FORMAT, table.names, places, label, chosen.marks), build)
    notes = {note.name: note.text for note in table.notes}
    if left := [name for name in table.names if name not in (*features, label, weights)]:
        notes["columns left out"] = ", ".join(map(repr, left[:SHOWN])) + (", ..." if len(left) > SHOWN else "")
    if not chosen.label:
        notes["label column"] = f"'{label}', by its name"
    own = checked(arrays["weights"], len(arrays["y"]), f"the weights '{weights}' in {path}") if weights else None
    return LabelledTable(arrays["x"], arrays["y"], own, features, label, notes)


def open_named(path: Path, marks: Marks) -> NamedTable:
    """The file's columns, before it is said what they are. Raises UserError."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the path of a file that ends in {', '.join(OPENERS)}")
    if not path.stat().st_size:
        raise UserError(f"{path} is empty")
    try:
        return OPENERS[path.suffix.lower()](path, marks)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None


def _label(table: NamedTable, asked: str) -> str:
    """The name of the label's column."""
    if asked:
        return _column(table, asked, "label-column")
    found = [name for name in table.names if name.lower() in LABELS]
    if len(found) == 1:
        return found[0]
    which = f"{' and '.join(map(repr, found))} may both be" if found else "none of its columns is called"
    like = "the label" if found else f"{', '.join(LABELS[:-1])} or {LABELS[-1]}"
    raise UserError(
        f"{table.path}: --label-column must say which column is to be learned: {which} {like} ({_shown(table.names)})"
    )


def _weights(table: NamedTable, chosen: Chosen, label: str) -> str:
    """The name of the column of weights; "" for none."""
    asked = chosen.weights
    if asked == IGNORED or (not asked and (USUAL not in table.names or chosen.features)):
        return ""
    if not asked:
        raise UserError(
            f"{table.path} has a column '{USUAL}': give --sample-weight {USUAL} to weigh the rows by it, or "
            f"--sample-weight {IGNORED} to keep it among the features"
        )
    if not chosen.required and same_text(asked) not in table.names:
        return ""
    name = _column(table, asked, "sample-weight")
    if name == label:
        raise UserError(f"--sample-weight and --label-column both name '{name}'")
    return name


def _features(table: NamedTable, asked: Sequence[str], others: set[str]) -> tuple[str, ...]:
    """The names of what is learned from."""
    names = tuple(_column(table, name, "feature-columns") for name in asked)
    if odd := next((name for i, name in enumerate(names) if name in others or name in names[:i]), None):
        what = "is the label or the weights" if odd in others else "stands twice"
        raise UserError(f"--feature-columns: '{odd}' {what}")
    names = names or tuple(name for name in table.names if name not in others)
    if not names:
        raise UserError(f"{table.path} has no column beside the label: there is nothing to learn from")
    return names


def _column(table: NamedTable, name: str, flag: str) -> str:
    if (wanted := same_text(name)) not in table.names:
        raise UserError(f"--{flag}: {table.path} has no column '{name}' ({_shown(table.names)})")
    return wanted


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"its columns are {shown}" + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
