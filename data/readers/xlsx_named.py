"""An .xlsx workbook's first visible sheet as a table of named columns, read as `xlsx_table` reads one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fedkeras.data.readers import xlsx_table
from fedkeras.data.readers.file_kind import check_kind
from fedkeras.data.readers.named_table import NO_NUMBER, Block, NamedTable, check_header
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.readers.table_file import RowNumbers, check_names, row_numbers
from fedkeras.data.readers.xlsx_table import Cell, Sheet
from fedkeras.errors import UserError


def open_named_xlsx(path: Path, marks: Marks) -> NamedTable:
    """The sheet's columns by the names in its first row. Raises UserError; `marks` are for text files."""
    check_kind(path, "zip")
    sheet = xlsx_table.sheet_of(path)
    first = xlsx_table.header_of(sheet)
    index = row_numbers(first)
    check_header(path, first[index:], f"the first row of sheet '{sheet.name}'")
    names = check_names(path, first[index:], 1 + index) or tuple(name.strip() for name in first[index:])
    xlsx_table.check_formulas(sheet, len(first))

    def read(numbers: Sequence[int], label: int) -> Iterator[Block]:
        counted, rows, words = RowNumbers(path), [], []
        chosen = [*range(index), *(index + place for place in numbers)]
        for row, cells in enumerate(xlsx_table.rows_below(sheet, len(first)), start=2):
            rows.append([_number(sheet, cells[column], row, column, first) for column in chosen])
            words.append(_label(sheet, cells[index + label], row, index + label))
            if len(rows) == xlsx_table.ROWS:
                yield _block(counted, rows, index), words
                rows, words = [], []
        if rows:
            yield _block(counted, rows, index), words

    place = f"sheet '{sheet.name}', row "
    notes = xlsx_table.notes_of(sheet, index, len(first))
    return NamedTable(path, names, read, lambda row: f"{place}{row + 2}", notes)


def _number(sheet: Sheet, cell: Cell, row: int, column: int, names: Sequence[str]) -> float:
    if xlsx_table.is_number(cell) and np.isfinite(cell):
        return cell
    word = isinstance(cell, str) and cell.strip()
    said = xlsx_table.said_of(sheet, cell, row, column)
    raise UserError(f"{sheet.where(row, column)} ('{names[column]}'): {said}{NO_NUMBER if word else ''}")


def _label(sheet: Sheet, cell: Cell, row: int, column: int) -> str:
    if cell is None or cell == "" or xlsx_table.is_date(cell):
        raise UserError(f"{sheet.where(row, column)}: {xlsx_table.said_of(sheet, cell, row, column)}")
    return xlsx_table.text_of(cell)


def _block(counted: RowNumbers, rows: list[list[float]], index: int) -> np.ndarray:
    block = np.array(rows, np.float64).reshape(len(rows), -1)
    if index:
        counted.check(block[:, :index])
    return np.ascontiguousarray(block[:, index:])
