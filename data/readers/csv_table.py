"""A table in a .csv file: UTF-8 with or without a mark, commas, semicolons or tabs, with or without a header.

With semicolons or tabs a decimal comma is understood. In a table of numbers the first line is a header if there is a
word in it; in one column of words, if its word does not come again.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedkeras.data.readers.table_file import TableFile, check_names, labels_of, looks_like_header, number, said
from fedkeras.errors import UserError

CELLS = 1 << 20
"""Cells parsed at once: pandas holds them several times over."""


def open_csv(path: Path, targets: bool) -> TableFile:
    """The file's table: numbers (n, columns); a single column of targets is (n,), numbers or text. Raises UserError."""
    sample = _first_lines(path)
    separator = next((mark for mark in "\t;" if len(_cells(sample[0], mark)) > 1), ",")
    decimal = "," if separator != "," and any("," in line for line in sample) else "."
    first = _cells(sample[0], separator)
    if targets and len(first) == 1:
        return _one_column(path, decimal)
    below = _cells(sample[1], separator) if len(sample) > 1 else []
    header = looks_like_header(first, below, decimal)
    names = check_names(path, first) if header else None
    if header and len(sample) < 2:
        raise UserError(f"{path} has a header and no rows")

    def blocks() -> Iterator[np.ndarray]:
        return _numbers(path, separator, decimal, len(first), names)

    return TableFile(path, (len(first),), np.dtype(np.float64), blocks, names, first=", ".join(first)[:60])


def _first_lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line.rstrip("\r\n") for _, line in zip(range(20), file, strict=False)]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8; in Excel, save it as 'CSV UTF-8'") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    while lines and not lines[-1].strip(" ,;\t"):
        lines.pop()
    if not lines:
        raise UserError(f"{path} is empty")
    if "\0" in lines[0]:
        raise UserError(f"{path} is no text, but its name ends in .csv")
    return lines


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [""])


def _one_column(path: Path, decimal: str) -> TableFile:
    """Targets of one column, read whole: numbers, or words as they stand."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None
    while rows and not "".join(rows[-1][1]).strip():
        rows.pop()
    for line, row in rows:
        if len(row) > 1:
            raise UserError(f"{path}, line {line} has {len(row)} columns; the first line has 1")
    cells = [row[0] if row else "" for _, row in rows]
    words = [number(cell) is None for cell in cells]
    header = words[0] and (not any(words[1:]) or cells[0] not in cells[1:])
    if header and len(cells) == 1:
        raise UserError(f"{path} has a header and no rows")
    body, lines = cells[header:], [line for line, _ in rows][header:]
    array = labels_of(path, body, lambda i: f"line {lines[i]}")
    names = (cells[0].strip(),) if header else None
    return TableFile(path, (), array.dtype, lambda: iter([array]), names, first=cells[0][:60])


def _numbers(path: Path, separator: str, decimal: str, columns: int, names: tuple | None) -> Iterator[np.ndarray]:
    """Blocks (n, columns) of float64. Raises UserError naming line and column of what is no number."""
    import pandas as pd

    options = {
        "sep": separator,
        "decimal": decimal,
        "header": None,
        "skiprows": 0 if names is None else 1,
        "encoding": "utf-8-sig",
        "skipinitialspace": True,
        "skip_blank_lines": False,  # so that lines can be counted
        "low_memory": False,
        "chunksize": max(1, CELLS // columns),
    }
    if tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1):  # since then it is what pandas does, and no option
        options["float_precision"] = "round_trip"  # what Python would read, to the last digit
    line, blank = 1 if names is None else 2, 0
    try:
        with pd.read_csv(path, **options) as reader:
            for frame in reader:
                if frame.shape[1] != columns:
                    raise UserError(f"{path}, line {line} has {frame.shape[1]} columns; the first line has {columns}")
                rows = frame.index[frame.notna().any(axis=1).to_numpy()]
                used = int(rows[-1] - frame.index[0]) + 1 if len(rows) else 0
                if used and blank:
                    raise UserError(f"{path}, line {line - blank}: the line is empty")
                blank = len(frame) - used if used else blank + len(frame)  # empty lines at the end are none
                if used:
                    yield _checked(path, frame.iloc[:used], line, decimal, names)
                line += len(frame)
        if blank > _empty_lines_below(path):  # then they say that they are missing
            raise UserError(f"{path}, line {line - blank}: all values are missing")
    except pd.errors.ParserError as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        what = f", line {found[2]} has {found[3]} columns; the first has {found[1]}" if found else f": {error}"
        raise UserError(f"{path}{what}") from None
    except (UnicodeDecodeError, pd.errors.EmptyDataError, OSError) as error:
        raise UserError(f"{path} cannot be read as CSV: {error}") from None


def _empty_lines_below(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        lines = file.read().splitlines()
    return next((i for i, line in enumerate(reversed(lines)) if line.strip(b' ,;\t"')), len(lines))


def _checked(path: Path, frame: object, line: int, decimal: str, names: tuple | None) -> np.ndarray:
    try:
        block = np.ascontiguousarray(frame.to_numpy(np.float64))
        if np.isfinite(block).all():
            return block
    except (ValueError, TypeError):
        block = None
    for row in range(len(frame)):
        for column in range(frame.shape[1]):
            cell = frame.iat[row, column]
            text = "" if isinstance(cell, float) and np.isnan(cell) else str(cell)
            value = number(text, decimal)
            if value is None or not np.isfinite(value):
                title = f" ('{names[column]}')" if names else ""
                raise UserError(f"{path}, line {line + row}, column {column + 1}{title}: {said(text)}")
    # numbers among which pandas would not choose a type, such as true and 1 in one column
    return np.array([[number(str(cell), decimal) for cell in row] for row in frame.itertuples(index=False)])
