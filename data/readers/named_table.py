"""A table whose columns have names and meanings of their own: some are numbers to learn from, one is the label.

Each format has a page that opens one; what is chosen among its columns is the same for all (`labelled_table`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedkeras.data.readers.numerals import PLAIN, Numerals, is_like_a_number
from fedkeras.data.readers.table_file import Note
from fedkeras.errors import UserError

Block = tuple[np.ndarray, list[str]]
"""Rows: the columns that are numbers, float64 (n, columns), all finite; and the label's cells as text, n of them."""


@dataclass(frozen=True)
class NamedTable:
    """One file of rows below a line of names, each once.

    `read(numbers, label)` begins a pass over its rows, and gives the columns at the positions `numbers` and the cells
    of the one at `label`; it raises UserError, with the place, for what is no number, and for a damaged file. `where`
    names a row, counted from 0, as the file's users do. `numerals` are how its text says numbers.
    """

    path: Path
    names: tuple[str, ...]
    read: Callable[[Sequence[int], int], Iterator[Block]]
    where: Callable[[int], str]
    notes: tuple[Note, ...] = ()
    numerals: Numerals = PLAIN


NO_NUMBER = "; write it as numbers, or leave the column out (--feature-columns names those to learn from)"
"""What to do about words among the features."""


def check_header(path: Path, names: Sequence[str], place: str) -> None:
    """Raise UserError where a header looks like a row of the table, and where a name stands for two columns."""
    numbered = [name.strip() for name in names] == [str(i) for i in range(len(names))]
    if not numbered and (odd := next((name for name in names if name.strip() and is_like_a_number(name)), None)):
        raise UserError(
            f"{path}: {place} looks like a row of the table ('{odd}' among its names); a table with labels needs a "
            "header that names the columns"
        )
    if twice := next((name for name in names if list(names).count(name) > 1), None):
        raise UserError(f"{path} has two columns called '{twice}'; rename one")
