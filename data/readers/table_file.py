"""What the readers of tables have in common: what they return, and how cells are judged and named in errors."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras.data.labels import EXACT, same_text
from fedkeras.errors import UserError

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none"})
"""What programs write into a cell that has no number, in lower case."""


@dataclass(frozen=True)
class TableFile:
    """One file of rows. `blocks` begins a pass over them: arrays (n, *row_shape) of `dtype`, checked and finite;
    it raises UserError for what is wrong with the file, never OSError, which the cache takes for its own.

    `names` are the header's, None where there is none. `mapped` is the whole as a memory-mapped array where the file's
    format allows. `first` is the first row as text, for messages about headers.
    """

    path: Path
    row_shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[], Iterator[np.ndarray]]
    names: tuple[str, ...] | None = None
    mapped: np.ndarray | None = None
    first: str = ""

    @property
    def is_text(self) -> bool:
        """True for labels that are words."""
        return self.dtype.kind == "U"


def number(cell: str, decimal: str = ".") -> float | None:
    """The number a cell says; None where it is no number, and NaN where it says that it has none."""
    text = cell.strip()
    if text.lower() in MISSING:
        return math.nan
    if text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    try:
        return float(text.replace(decimal, ".")) if "_" not in text else None  # Python reads 1_000 as a number
    except ValueError:
        return None


def looks_like_header(cells: Sequence[str], below: Sequence[str] = (), decimal: str = ".") -> bool:
    """True if the first row of a table of numbers is its header: a word in it, or pandas' 0, 1, 2, ... for names.

    A row of numbers and missing cells is a row of the table. `below` is the second row: over whole numbers, `0,1` is
    no header, for it may be a one-hot row.
    """
    if len(cells) > 1 and list(cells) == [str(i) for i in range(len(cells))]:
        return len(cells) > 2 or not all(cell.strip().isdecimal() for cell in below)
    return any(number(cell, decimal) is None for cell in cells) or all(cell.strip() == "" for cell in cells)


def check_names(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The header's names; raises UserError if one is empty, as that of an index which pandas wrote."""
    stripped = tuple(same_text(name) for name in names)
    if "" in stripped:
        where = stripped.index("") + 1
        raise UserError(
            f"{path}: column {where} has no name in the header; name it, or leave it out "
            "(pandas writes such a column of row numbers unless told index=False)"
        )
    return stripped


def labels_of(path: Path, cells: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
    """One column of targets, (n,): int64 if all are whole numbers, float64 if all are numbers, else text.

    1, 1.0 and true are the same. `where` names a row for messages. Raises UserError for an empty cell, and for numbers
    and words mixed.
    """
    cells = [same_text(cell) for cell in cells]
    values = [number(cell) for cell in cells]
    words = [i for i, value in enumerate(values) if value is None]
    if not words:
        for i, value in enumerate(values):
            if not math.isfinite(value):
                raise UserError(f"{path}, {where(i)}: {said(cells[i])}")
        whole = [_whole(cell, value) for cell, value in zip(cells, values, strict=True)]
        if None not in whole and all(-(2**63) <= value < 2**63 for value in whole):
            return np.array(whole, np.int64)
        return np.array(values, np.float64)
    for i, (cell, value) in enumerate(zip(cells, values, strict=True)):
        if not cell:
            raise UserError(f"{path}, {where(i)}: {said(cell)}")
        if value is not None and not math.isnan(value):  # a class may be called "none"
            odd = next(j for j in words if j != i)
            raise UserError(
                f"{path}, {where(odd)}: '{cells[odd]}' stands among numbers such as '{cell}'; "
                "labels are all numbers or all words"
            )
    return np.array(cells)


def _whole(cell: str, value: float) -> int | None:
    """The whole number that a cell says, all its digits; None for another, and for a float that has not the digits."""
    if cell.lstrip("+-").isdecimal():
        return int(cell)
    return int(value) if value.is_integer() and abs(value) < EXACT else None


def said(value: object) -> str:
    """What is wrong with a cell that should be a number."""
    text = "" if value is None else str(value)
    if not text.strip():
        return "the cell is empty"
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return f"the value is missing ('{shown}')" if text.strip().lower() in MISSING else f"'{shown}' is no number"


def check_finite(path: Path, block: np.ndarray, start: int, where: Callable[[int, int], str]) -> np.ndarray:
    """Return `block`; raises UserError naming the first number that is NaN or infinite by `where(row, column)`."""
    if block.dtype.kind == "f" and not np.isfinite(block).all():
        row, *inner = (int(index) for index in np.argwhere(~np.isfinite(block))[0])
        column = int(np.ravel_multi_index(inner, block.shape[1:])) if inner else 0
        value = block[(row, *inner)]
        what = "the value is missing (NaN)" if np.isnan(value) else "the value is infinite"
        raise UserError(f"{path}, {where(start + row, column)}: {what}")
    return block
