"""A table in an .xlsx workbook: its first sheet, whose first row must be a header.

Formulas count as the value Excel saved with them. Empty rows below and empty columns to the right are none.
"""

import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedkeras.data.readers.table_file import TableFile, check_names, labels_of, looks_like_header, number, said
from fedkeras.errors import UserError

ROWS = 4096


def open_xlsx(path: Path, targets: bool) -> TableFile:
    """The first sheet's table: numbers (n, columns); a single column of targets is (n,), numbers or text.

    Raises UserError, with the cell's name as Excel shows it.
    """
    header = [_text(cell) for cell in next(_rows(path), ())]
    while header and not header[-1].strip():
        header.pop()
    if not header:
        raise UserError(f"{path}: the first row of the first sheet is empty; it must name the columns")
    if not looks_like_header(header, below=["a header is a must, so 0 and 1 are one"]):
        raise _no_header(path, header)
    names = check_names(path, header)
    if targets and len(names) == 1:
        cells = [_text(row[0]) for row in _body(path, 1)]
        if not cells:
            raise UserError(f"{path} has a header and no rows")
        if header[0] in cells:
            raise _no_header(path, header)
        array = labels_of(path, cells, lambda i: f"cell A{i + 2}")
        return TableFile(path, (), array.dtype, lambda: iter([array]), names, first=names[0])
    if next(_body(path, len(names)), None) is None:
        raise UserError(f"{path} has a header and no rows")
    return TableFile(path, (len(names),), np.dtype(np.float64), lambda: _numbers(path, names), names, first=names[0])


def _numbers(path: Path, names: tuple[str, ...]) -> Iterator[np.ndarray]:
    block: list[list[float]] = []
    for row, cells in enumerate(_body(path, len(names)), start=2):
        for column, cell in enumerate(cells):
            if type(cell) not in (int, float, bool) or not np.isfinite(cell):
                hint = " (a number kept as text)" if isinstance(cell, str) and number(cell) is not None else ""
                where = f"cell {_letters(column)}{row} ('{names[column]}')"
                raise UserError(f"{path}, {where}: {_said(cell)}{hint}")
        block.append(cells)
        if len(block) == ROWS:
            yield np.array(block, np.float64)
            block = []
    if block:
        yield np.array(block, np.float64)


def _body(path: Path, columns: int) -> Iterator[list]:
    """The rows below the header as lists of `columns` cells. Empty rows at the end are none."""
    rows, empty = _rows(path), 0
    next(rows)
    for number_of_row, cells in enumerate(rows, start=2):
        if all(cell is None or cell == "" for cell in cells):
            empty += 1
            continue
        if empty:
            raise UserError(f"{path}, row {number_of_row - empty} of the first sheet is empty")
        for column in range(columns, len(cells)):
            if cells[column] not in (None, ""):
                where = f"cell {_letters(column)}{number_of_row}"
                raise UserError(f"{path}, {where}: there is a value, and the header has only {columns} columns")
        yield [*cells[:columns], *[None] * (columns - len(cells))]


def _rows(path: Path) -> Iterator[tuple]:
    """The cells of the first sheet, row by row."""
    try:
        import openpyxl
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise UserError(f"{path} needs openpyxl to be read: run `pip install openpyxl`") from None
    try:
        with path.open("rb") as file:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of styles and drop-down lists that it leaves out
                book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            if not book.worksheets:
                raise UserError(f"{path} has no sheet of cells")
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # some programs write wrong ones
            yield from sheet.iter_rows(values_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError, SyntaxError, EOFError, OSError) as error:
        raise UserError(f"{path} is no workbook that can be read ({error})") from None


def _no_header(path: Path, cells: list[str]) -> UserError:
    return UserError(
        f"{path} has no header: the first row of the first sheet must name the columns, and it says "
        f"{', '.join(cells)[:60]}"
    )


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)


def _said(cell: object) -> str:
    if isinstance(cell, float):
        return "the value is missing (NaN)" if np.isnan(cell) else "the value is infinite"
    if isinstance(cell, str) and number(cell) is not None and cell.strip():
        return f"'{cell}' is text"
    return said(cell)


def _letters(column: int) -> str:
    from openpyxl.utils import get_column_letter

    return get_column_letter(column + 1)
