"""What the readers of tables have in common: what they return, and how cells are judged and named in errors."""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedkeras.data.labels import EXACT, same_text
from fedkeras.data.readers.numerals import MISSING, PLAIN, Numerals, why_no_number
from fedkeras.errors import UserError

INDEX = re.compile(r"Unnamed: 0(?:\.\d+)*")
"""What pandas calls a column without a name when it reads one: its own row numbers, written by an earlier save."""


class Note(NamedTuple):
    """Something that was decided about a file, and is to be said: "decimal mark", "a comma"."""

    name: str
    text: str


@dataclass(frozen=True)
class TableFile:
    """One file of rows. `blocks` begins a pass over them: arrays (n, *row_shape) of `dtype`, checked and finite;
    it raises UserError for what is wrong with the file, never OSError, which the cache takes for its own.

    `count` says how many rows there are, and may have to read them. `names` are the header's, None where there is none,
    or where it only counts the columns. `mapped` is the whole as a memory-mapped array where the file's format allows.
    `first` is the first row as text, for messages about headers; `header`: it is one, which is in doubt where it says
    0, 1, 2, ... (`doubtful`).
    """

    path: Path
    row_shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Callable[[], Iterator[np.ndarray]]
    count: Callable[[], int]
    names: tuple[str, ...] | None = None
    mapped: np.ndarray | None = None
    first: str = ""
    header: bool = False
    doubtful: bool = False
    notes: tuple[Note, ...] = ()

    @property
    def is_text(self) -> bool:
        """True for labels that are words."""
        return self.dtype.kind == "U"


def is_numbered(cells: Sequence[str]) -> bool:
    """True for 0, 1, 2, ...: pandas' names for columns that have none, or a row of the table."""
    return [cell.strip() for cell in cells] == [str(i) for i in range(len(cells))]


def row_numbers(names: Sequence[str]) -> int:
    """How many first columns have the name of row numbers, as pandas and R write them: none, or Unnamed: 0."""
    found = next((i for i, name in enumerate(names) if name.strip() and not INDEX.fullmatch(name.strip())), len(names))
    return min(found, len(names) - 1)


class RowNumbers:
    """The first columns of a file, which have no names: they are left out if they count the rows."""

    NOTE = Note("row numbers", "the first column has no name and counts the rows: it is left out")

    def __init__(self, path: Path) -> None:
        self._path, self._next = path, None

    def check(self, columns: np.ndarray) -> None:
        """Take the next rows of these columns, (n, columns). Raises UserError unless each is one more than the last."""
        if not len(columns):
            return
        first = columns[0] if self._next is None else self._next
        if not np.array_equal(columns, first + np.arange(len(columns))[:, None]) or (first != np.rint(first)).any():
            raise UserError(
                f"{self._path}: column 1 has no name in the header, and does not count the rows; name it, or leave it "
                "out (pandas writes its index there unless told index=False)"
            )
        self._next = first + len(columns)


def without_row_numbers(path: Path, blocks: Iterable[np.ndarray], index: int) -> Iterator[np.ndarray]:
    """Blocks (n, columns) without their first `index` columns. Raises UserError where these are no row numbers."""
    numbers = RowNumbers(path)
    for block in blocks:
        numbers.check(block[:, :index])
        yield np.ascontiguousarray(block[:, index:])


def check_names(path: Path, names: Sequence[str], first: int = 1) -> tuple[str, ...] | None:
    """The header's names, the first of which is that of column `first`; None for 0, 1, 2, ..., which are none.

    Raises UserError if one is empty.
    """
    if is_numbered(names):
        return None
    stripped = tuple(same_text(name) for name in names)
    if "" in stripped:
        where = stripped.index("") + first
        end = where == len(names) + first - 1 and where > 1
        raise UserError(
            f"{path}: column {where} has no name in the header; name it, or leave it out"
            f"{' (do the lines end with a separator?)' if end else ''}"
        )
    return stripped


NO_CLASS = MISSING - {"", "none"}
"""Words that stand for a missing value, and not for a class; a class may be called none."""


def labels_of(path: Path, cells: Sequence[str], where: Callable[[int], str], numerals: Numerals = PLAIN) -> np.ndarray:
    """One column of targets, (n,): int64 if all are whole numbers, float64 if all are numbers, else text.

    1, 1.0 and true are the same. `where` names a row for messages. Raises UserError for an empty cell, for numbers and
    words mixed, and for words that only look like numbers.
    """
    cells = [same_text(cell) for cell in cells]
    values = [numerals.number(cell) for cell in cells]
    words = [i for i, value in enumerate(values) if value is None]
    if not words:
        for i, value in enumerate(values):
            if not math.isfinite(value):
                raise UserError(f"{path}, {where(i)}: {said(cells[i])}")
        _check_spelling(path, cells, where)
        whole = [_whole(cell, value) for cell, value in zip(cells, values, strict=True)]
        if None not in whole and all(-(2**63) <= value < 2**63 for value in whole):
            return np.array(whole, np.int64)
        return np.array(values, np.float64)
    for i, (cell, value) in enumerate(zip(cells, values, strict=True)):
        if not cell:
            raise UserError(f"{path}, {where(i)}: {said(cell)}")
        if cell.lower() in NO_CLASS:
            raise UserError(f"{path}, {where(i)}: '{cell}' stands for a missing value; if it is a class, rename it")
        if value is not None and not math.isnan(value):
            odd = next(j for j in words if j != i)
            why = why_no_number(cells[odd])
            raise UserError(
                f"{path}, {where(odd)}: '{cells[odd]}' stands among numbers such as '{cell}'"
                f"{': ' + why if why else '; labels are all numbers or all words'}"
            )
        if "\n" in cell or "\r" in cell:
            raise UserError(f"{path}, {where(i)}: a label with a line break in it; write it as a space")
    if all(why_no_number(cell) for cell in set(cells)):
        raise UserError(f"{path}, {where(0)}: {said(cells[0])}")
    return np.array(cells)


def _check_spelling(path: Path, cells: Sequence[str], where: Callable[[int], str]) -> None:
    """Raise UserError if 007 and 7 are both there: as numbers they would be one."""
    led = {cell: i for i, cell in enumerate(cells) if cell[:1] == "0" and cell[1:].isdecimal()}
    known = set(cells) if led else set()
    for cell, row in led.items():
        if (plain := cell.lstrip("0") or "0") in known and plain != cell:
            raise UserError(f"{path}, {where(row)}: '{cell}' and '{plain}' would be one number; two classes are words")


def _whole(cell: str, value: float) -> int | None:
    """The whole number that a cell says, all its digits; None for another, and for a float that has not the digits."""
    digits = cell.lstrip("+-")
    if digits.isascii() and digits.isdecimal():
        return int(cell)
    return int(value) if value.is_integer() and abs(value) < EXACT else None


def said(value: str | float | None) -> str:
    """What is wrong with a cell that should be a number, and what to do where it looks like one."""
    text = "" if value is None else str(value)
    if not text.strip():
        return "the cell is empty"
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    if text.strip().lower() in MISSING:
        return f"the value is missing ('{shown}')"
    why = why_no_number(text)
    return f"'{shown}' is no number{': ' + why if why else ''}"


def check_finite(path: Path, block: np.ndarray, start: int, where: Callable[[int, int], str]) -> np.ndarray:
    """Return `block`; raises UserError naming the first number that is NaN or infinite by `where(row, column)`."""
    if block.dtype.kind == "f" and not np.isfinite(block).all():
        row, *inner = (int(index) for index in np.argwhere(~np.isfinite(block))[0])
        column = int(np.ravel_multi_index(inner, block.shape[1:])) if inner else 0
        value = block[(row, *inner)]
        what = "the value is missing (NaN)" if np.isnan(value) else "the value is infinite"
        raise UserError(f"{path}, {where(start + row, column)}: {what}")
    return block
