"""A table in an .xlsx workbook: its first visible sheet, whose first row must be a header.

Formulas count as the value Excel saved with them. Empty rows below and empty columns to the right are none. Hidden rows
are rows like others, and are said.
"""

import datetime
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fedkeras.data.readers.file_kind import check_kind
from fedkeras.data.readers.numerals import MISSING, Marks, is_like_a_number
from fedkeras.data.readers.sheet_xml import SheetXml, read_sheet_xml
from fedkeras.data.readers.table_file import (
    Note,
    RowNumbers,
    TableFile,
    check_names,
    is_numbered,
    labels_of,
    row_numbers,
    said,
    without_row_numbers,
)
from fedkeras.errors import UserError

if TYPE_CHECKING:
    import openpyxl

ROWS = 4096

Cell = str | int | float | bool | None | datetime.date | datetime.time | datetime.timedelta


@dataclass(frozen=True)
class Sheet:
    """A workbook's first visible sheet; `among` is how many the workbook has."""

    path: Path
    name: str
    among: int
    xml: SheetXml

    def where(self, row: int, column: int) -> str:
        """A cell as Excel names it."""
        return f"{self.path}, sheet '{self.name}', cell {_letters(column)}{row}"


def open_xlsx(path: Path, targets: bool, marks: Marks, header: bool | None = None) -> TableFile:
    """The sheet's table: numbers (n, columns); a single column of targets is (n,), numbers or text.

    Cells hold numbers and not text: `marks` say nothing here, and a header is a must. Raises UserError, with the cell's
    name as Excel shows it.
    """
    check_kind(path, "zip")
    sheet = sheet_of(path)
    first = header_of(sheet)
    index = row_numbers(first)
    names = check_names(path, first[index:], 1 + index)
    check_formulas(sheet, len(first))
    columns, notes = len(first) - index, notes_of(sheet, index, len(first))
    if targets and columns == 1:
        return _one_column(sheet, first, index, names, notes)
    if next(rows_below(sheet, len(first)), None) is None:
        raise UserError(f"{path} has a header and no rows")

    def blocks() -> Iterator[np.ndarray]:
        found = _numbers(sheet, first)
        return without_row_numbers(path, found, index) if index else found

    return TableFile(
        path,
        (columns,),
        np.dtype(np.float64),
        blocks,
        lambda: sum(1 for _ in rows_below(sheet, len(first))),
        names,
        first=first[0],
        header=True,
        notes=notes,
    )


def header_of(sheet: Sheet) -> list[str]:
    """The cells of the first row, which must name the columns. Raises UserError where it does not."""
    first = [text_of(cell) for cell in next(_rows(sheet), ())]
    while first and not first[-1].strip():
        first.pop()
    if not first:
        raise UserError(f"{sheet.path}: the first row of sheet '{sheet.name}' is empty; it must name the columns")
    if all(map(is_like_a_number, first)) and not is_numbered(first):
        raise _no_header(sheet, first)
    return first


def sheet_of(path: Path) -> Sheet:
    """The workbook's sheet to read. Raises UserError."""
    with path.open("rb") as file:
        try:
            book = _book(path, file)
            visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
            if not visible:
                raise UserError(f"{path} has no visible sheet of cells")
            member = getattr(visible[0], "_worksheet_path", None)
            xml = read_sheet_xml(path, member) if member else SheetXml()
            return Sheet(path, visible[0].title, len(book.worksheets), xml)
        except _UNREADABLE as error:
            raise _unreadable(path, error) from None


def notes_of(sheet: Sheet, index: int, columns: int) -> tuple[Note, ...]:
    """What was decided about the sheet, whose first `index` of so many columns count its rows."""
    notes = [RowNumbers.NOTE] if index else []
    if sheet.among > 1:
        notes.append(Note("sheet", f"'{sheet.name}', the first visible one of {sheet.among}"))
    hidden = [f"row {row}" for row in sheet.xml.hidden_rows if row > 1]
    hidden += [f"column {_letters(column)}" for column in sheet.xml.hidden_columns if column < columns]
    if hidden:
        shown = ", ".join(hidden[:5]) + (f" and {len(hidden) - 5} more" if len(hidden) > 5 else "")
        notes.append(Note("hidden cells", f"{shown} of sheet '{sheet.name}' are read like the others"))
    return tuple(notes)


def _one_column(
    sheet: Sheet, first: list[str], index: int, names: tuple[str, ...] | None, notes: tuple[Note, ...]
) -> TableFile:
    rows = list(rows_below(sheet, len(first)))
    if not rows:
        raise UserError(f"{sheet.path} has a header and no rows")
    for number, row in enumerate(rows, start=2):
        cell = row[index]
        if is_date(cell) or cell is None or cell == "":
            raise UserError(f"{sheet.where(number, index)}: {said_of(sheet, cell, number, index)}")
    cells = [text_of(row[index]) for row in rows]
    if first[index] in cells and names is not None:
        raise _no_header(sheet, first[index:])
    if index:
        counted = [[cell if is_number(cell) else np.nan for cell in row[:index]] for row in rows]
        RowNumbers(sheet.path).check(np.array(counted, np.float64))
    place = f"sheet '{sheet.name}', cell {_letters(index)}"
    array = labels_of(sheet.path, cells, lambda i: f"{place}{i + 2}")
    return TableFile(
        sheet.path,
        (),
        array.dtype,
        lambda: iter([array]),
        lambda: len(array),
        names,
        first=first[index],
        header=True,
        notes=notes,
    )


def _numbers(sheet: Sheet, names: list[str]) -> Iterator[np.ndarray]:
    block: list[list[float]] = []
    for row, cells in enumerate(rows_below(sheet, len(names)), start=2):
        for column, cell in enumerate(cells):
            if not is_number(cell) or not np.isfinite(cell):
                raise UserError(f"{sheet.where(row, column)} ('{names[column]}'): {said_of(sheet, cell, row, column)}")
        block.append(cells)
        if len(block) == ROWS:
            yield np.array(block, np.float64)
            block = []
    if block:
        yield np.array(block, np.float64)


def rows_below(sheet: Sheet, columns: int) -> Iterator[list[Cell]]:
    """The rows below the header as lists of `columns` cells. Empty rows at the end are none."""
    rows, empty = _rows(sheet), 0
    next(rows)
    for row, cells in enumerate(rows, start=2):
        if all(cell is None or cell == "" for cell in cells):
            empty += 1
            continue
        if empty:
            merged = sheet.xml.merged_at(row - empty, 0)
            raise UserError(
                f"{sheet.path}, row {row - empty} of sheet '{sheet.name}' is empty{_MERGED if merged else ''}"
            )
        for column in range(columns, len(cells)):
            if cells[column] not in (None, ""):
                only = "column: is its first row a title? delete it" if columns == 1 else "columns"
                raise UserError(
                    f"{sheet.where(row, column)}: there is a value, and the header has only {columns} {only}"
                )
        yield [*cells[:columns], *[None] * (columns - len(cells))]


def check_formulas(sheet: Sheet, columns: int) -> None:
    """Raise UserError for a formula without a value among these columns."""
    for row, column in sheet.xml.unsaved:
        if column < columns:
            raise UserError(
                f"{sheet.where(row, column)} is a formula without a saved value: open the file in Excel or LibreOffice "
                "and save it"
            )


_UNREADABLE = (
    zipfile.BadZipFile, KeyError, ValueError, SyntaxError, EOFError, OSError, TypeError, AttributeError,
)  # fmt: skip
"""What openpyxl raises for files that are damaged."""

_MERGED = ": it belongs to merged cells, of which only the first has the value"


def _book(path: Path, file: BinaryIO) -> "openpyxl.Workbook":
    try:
        import openpyxl
    except ImportError:
        raise UserError(f"{path} needs openpyxl to be read: run `pip install openpyxl`") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and drop-down lists that it leaves out
        return openpyxl.load_workbook(file, read_only=True, data_only=True)


def _rows(sheet: Sheet) -> Iterator[tuple[Cell, ...]]:
    """The cells of the sheet, row by row."""
    try:
        with sheet.path.open("rb") as file:
            cells = _book(sheet.path, file)[sheet.name]
            cells.reset_dimensions()  # some programs write wrong ones
            yield from cells.iter_rows(values_only=True)
    except _UNREADABLE as error:
        raise _unreadable(sheet.path, error) from None


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is no workbook that can be read ({error})")


def _no_header(sheet: Sheet, cells: list[str]) -> UserError:
    return UserError(
        f"{sheet.path} has no header: the first row of sheet '{sheet.name}' must name the columns, and it says "
        f"{', '.join(cells)[:60]}"
    )


def is_number(cell: Cell) -> bool:
    """Whether Excel holds it as a number, or as true or false."""
    return type(cell) in (int, float, bool)


def is_date(cell: Cell) -> bool:
    """Whether Excel holds it as a date, a time or a duration."""
    return isinstance(cell, (datetime.date, datetime.time, datetime.timedelta))


def text_of(cell: Cell) -> str:
    """The cell as a word."""
    return "" if cell is None else str(cell)


def said_of(sheet: Sheet, cell: Cell, row: int, column: int) -> str:
    """What is wrong with a cell that should be a number, or a label."""
    if isinstance(cell, float):
        return "the value is missing (NaN)" if np.isnan(cell) else "the value is infinite"
    if is_date(cell):
        return f"'{cell}' is a date: write a number, such as days since a day of your choice, or a word"
    if isinstance(cell, str) and cell.strip() and is_like_a_number(cell) and cell.strip().lower() not in MISSING:
        return f"'{cell}' is text (a number kept as text)"
    return said(cell) + (_MERGED if cell in (None, "") and sheet.xml.merged_at(row, column) else "")


def _letters(column: int) -> str:
    from openpyxl.utils import get_column_letter

    return get_column_letter(column + 1)
