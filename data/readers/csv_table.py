"""A table in a .csv file: UTF-8 with or without a mark, commas, semicolons or tabs, with or without a header.

One decimal mark is used in a file, and all of its lines decide which (`decimal_mark`). In a table of numbers the first
line is a header if there is a word in it, or if it is 0, 1, 2, ..., pandas' names for columns that have none; in one
column of words, if its word does not come again.
"""

import csv
import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras.data.readers.csv_layout import Layout, count_lines, layout_of
from fedkeras.data.readers.numerals import MISSING, Marks, Numerals
from fedkeras.data.readers.table_file import (
    Note,
    RowNumbers,
    TableFile,
    check_names,
    labels_of,
    row_numbers,
    said,
    without_row_numbers,
)
from fedkeras.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

NO_VALUE = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""What pandas takes for a missing value by default."""

CELLS = 1 << 20
"""Cells parsed at once: pandas holds them several times over."""


def open_csv(path: Path, targets: bool, marks: Marks, header: bool | None = None) -> TableFile:
    """The file's table: numbers (n, columns); a single column of targets is (n,), numbers or text.

    `header` says whether the first line is one, where that is known from elsewhere. Raises UserError.
    """
    layout = layout_of(path, marks, header)
    index = row_numbers(layout.first) if layout.header else 0
    columns = len(layout.first) - index
    if targets and columns == 1:
        return _one_column(path, layout, index)
    if layout.header and not layout.below:
        raise UserError(f"{path} has a header and no rows")
    names = check_names(path, layout.first[index:], 1 + index) if layout.header else None

    def blocks() -> Iterator[np.ndarray]:
        found = _numbers(path, layout)
        return without_row_numbers(path, found, index) if index else found

    return TableFile(
        path,
        (columns,),
        np.dtype(np.float64),
        blocks,
        lambda: count_lines(path) - layout.before - layout.header,
        names,
        first=", ".join(layout.first)[:60],
        header=layout.header,
        doubtful=layout.doubtful,
        notes=notes_of(layout, index, numbers=True),
    )


def notes_of(layout: Layout, index: int, numbers: bool) -> tuple[Note, ...]:
    """What was decided about a file whose first `index` columns count its rows; `numbers`: and about its numbers."""
    notes = [RowNumbers.NOTE] if index else []
    if layout.doubtful:
        notes.append(Note("header", "a first line of 0, 1, 2, ... is taken for the header, as pandas writes it"))
    if layout.empty:
        notes.append(Note("empty columns", "those to the right without a name or a value are left out"))
    if not numbers:
        return tuple(notes)
    if layout.numerals.decimal == "," and not layout.told:
        notes.append(Note("decimal mark", "a comma, found over all lines"))
    if layout.may_be_grouped and layout.numerals == Numerals():
        cell = layout.may_be_grouped.cell
        notes.append(Note("decimal mark", f"a point, so {cell} is below a thousand; for thousands say --thousands ."))
    if layout.one_hot_pairs:
        notes.append(Note("columns", "lines of 0,1 and 1,0 are two columns, a class each"))
    if layout.zero_led:
        cell = layout.zero_led.cell
        notes.append(Note("leading zeros", f"{cell} is read as the number {int(cell)}"))
    return tuple(notes)


def _one_column(path: Path, layout: Layout, index: int) -> TableFile:
    """Targets of one column, read whole: numbers, or words as they stand. `index`: row numbers stand before them."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=layout.separator, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader][layout.before :]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None
    while rows and not "".join(rows[-1][1]).strip():
        rows.pop()
    for line, row in rows:
        if len(row) > 1 + index and (not layout.empty or any(row[1 + index :])):
            more = _if_one_number(",".join(row), layout)
            raise UserError(f"{path}, line {line} has {len(row)} columns; the first line has {1 + index}{more}")
    cells = [layout.first[index], *(row[index] if len(row) > index else "" for _, row in rows[1:])]
    if layout.doubtful or index or not layout.header:
        header = layout.header
    else:
        words = [layout.numerals.number(cell) is None for cell in cells]
        header = words[0] and (not any(words[1:]) or cells[0] not in cells[1:])
    if header and len(cells) == 1:
        raise UserError(f"{path} has a header and no rows")
    lines = [line for line, _ in rows][header:]
    if index:
        counted = [[layout.numerals.number(cell) for cell in row[:index]] for _, row in rows[1:]]
        RowNumbers(path).check(np.array(counted, np.float64))  # None becomes NaN
    array = labels_of(path, cells[header:], lambda i: f"line {lines[i]}", layout.numerals)
    return TableFile(
        path,
        (),
        array.dtype,
        lambda: iter([array]),
        lambda: len(array),
        check_names(path, cells[:1]) if header else None,
        first=cells[0][:60],
        header=header,
        doubtful=layout.doubtful,
        notes=notes_of(layout, index, array.dtype.kind != "U"),
    )


def _if_one_number(text: str, layout: Layout) -> str:
    """What to do where a line is longer than the first because it is one number with a comma in it."""
    if layout.separator == "," and re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", text):
        return f" (if {text} is one number: --thousands , or --decimal ,)"
    number = re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", text)
    return f" (if {text} is one number: --decimal ,)" if number else ""


def _numbers(path: Path, layout: Layout) -> Iterator[np.ndarray]:
    """Blocks (n, columns) of float64. Raises UserError naming line and column of what is no number."""
    for frame, line in frames(path, layout):
        yield numbers_in(path, frame, line, layout, range(len(layout.first)))


def frames(path: Path, layout: Layout, words: Sequence[int] = ()) -> Iterator[tuple["pd.DataFrame", int]]:
    """The file's rows as frames, each with the number of its first line; of the columns `words` the cells as text.

    Raises UserError for lines that are no rows of the table, and for files without one.
    """
    import pandas as pd

    columns, numerals = len(layout.first), layout.numerals
    options = {
        "sep": layout.separator,
        "decimal": numerals.decimal,
        "header": None,
        "skiprows": layout.before + layout.header,
        "encoding": "utf-8-sig",
        "skipinitialspace": True,
        "skip_blank_lines": False,  # so that lines can be counted
        "low_memory": False,
        "chunksize": max(1, CELLS // columns),
    }
    if words:  # as they stand: "None" may be a class
        others = {column: NO_VALUE for column in range(columns) if column not in words}
        options |= {"dtype": dict.fromkeys(words, str), "keep_default_na": False, "na_values": others}
    if numerals.thousands:  # pandas would take the mark wherever it stands
        options |= {"dtype": str, "decimal": "."}
    elif tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):  # since then it is what pandas does, and no option
        options["float_precision"] = "round_trip"  # what Python would read, to the last digit
    line, blank = 1 + layout.before + layout.header, 0
    try:
        with pd.read_csv(path, **options) as reader:
            for frame in reader:
                if layout.empty:
                    frame = _without_empty(path, frame, columns, line)
                if frame.shape[1] != columns:
                    more = _if_one_number(",".join(layout.below), layout) if columns == 1 else ""
                    raise UserError(
                        f"{path}, line {line} has {frame.shape[1]} columns; the first line has {columns}{more}"
                    )
                rows = frame.index[_filled(frame, words)]
                used = int(rows[-1] - frame.index[0]) + 1 if len(rows) else 0
                if used and blank:
                    raise UserError(f"{path}, line {line - blank}: the line is empty")
                blank = len(frame) - used if used else blank + len(frame)  # empty lines at the end are none
                if used:
                    yield frame.iloc[:used], line
                line += len(frame)
        if blank > _empty_lines_below(path):  # then they say that they are missing
            raise UserError(f"{path}, line {line - blank}: all values are missing")
    except pd.errors.ParserError as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        what = f", line {found[2]} has {found[3]} columns; the first has {found[1]}" if found else f": {error}"
        what += _if_one_number(",".join(layout.below), layout) if columns == 1 else ""
        raise UserError(f"{path}{what}") from None
    except (UnicodeDecodeError, pd.errors.EmptyDataError, OSError) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None


def _filled(frame: "pd.DataFrame", words: Sequence[int]) -> np.ndarray:
    """Which rows have a value in any cell, (rows,)."""
    filled = frame.notna()
    for column in words:
        filled[column] = frame[column].str.strip() != ""
    return filled.any(axis=1).to_numpy()


def _without_empty(path: Path, frame: "pd.DataFrame", columns: int, line: int) -> "pd.DataFrame":
    """The frame without columns to the right that have no name. Raises UserError where there is a value in them."""
    filled = frame.iloc[:, columns:].notna().to_numpy()
    if filled.any():
        row, column = (int(index) for index in np.argwhere(filled)[0])
        raise UserError(
            f"{path}, line {line + row}: there is a value in column {columns + column + 1}, which has no name in the "
            "first line"
        )
    return frame.iloc[:, :columns]


def _empty_lines_below(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        lines = file.read().splitlines()
    return next((i for i, line in enumerate(reversed(lines)) if line.strip(b' ,;\t"')), len(lines))


def numbers_in(
    path: Path, frame: "pd.DataFrame", line: int, layout: Layout, chosen: Sequence[int], hint: str = ""
) -> np.ndarray:
    """The columns `chosen` of a frame that begins in this line, float64 (n, columns).

    Raises UserError for what is no finite number; `hint` says what else may be done about a word.
    """
    whole, frame = frame, frame.iloc[:, list(chosen)]
    # text is never left to numpy, which reads 1_000, and digits of other scripts
    if all(dtype.kind in "biuf" for dtype in frame.dtypes):
        block = np.ascontiguousarray(frame.to_numpy(np.float64))
        if np.isfinite(block).all():
            return block
    # numbers among which pandas would not choose a type, such as true and 1 in one column; or what is no number
    columns = [_column(frame[name], layout.numerals) for name in frame.columns]
    block = np.column_stack(columns)
    if not np.isfinite(block).all():
        row, place = (int(index) for index in np.argwhere(~np.isfinite(block))[0])
        cell, column = frame.iat[row, place], chosen[place]
        text = "" if isinstance(cell, float) and np.isnan(cell) else str(cell)
        title = f" ('{layout.first[column].strip()}')" if layout.header else ""
        gone = int(np.isnan(block[:, place]).sum()) if text.strip().lower() in MISSING else 0
        more = "" if gone else hint
        if hint and gone > 1:
            more = f"; {gone} cells of this column are missing: fill them, or delete the rows or the column"
        if row == 0 and layout.header and line == 2 and not any(map(_is_number, whole.iloc[0])):
            more = "; a second line of header is none"
        if layout.told and layout.separator == ";" and len(layout.first) == 1 and "," in layout.first[0] + text:
            more = "; where the comma is a mark in numbers, columns are divided by semicolons or tabs"
        raise UserError(f"{path}, line {line + row}, column {column + 1}{title}: {said(text)}{more}")
    return block


def _column(cells: "pd.Series", numerals: Numerals) -> np.ndarray:
    """One column as float64, NaN for what is no number."""
    if cells.dtype.kind in "biuf":
        return cells.to_numpy(np.float64)
    read = functools.cache(numerals.number)
    found = (float(cell) if isinstance(cell, (int, float)) else read(str(cell)) for cell in cells)
    return np.array([np.nan if value is None else value for value in found])


def _is_number(cell: object) -> bool:
    return isinstance(cell, (int, float)) or Numerals().number(str(cell)) is not None
