"""A table in a .parquet file: typed columns with names. Reading it needs pyarrow, the extra `parquet`."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedkeras.data.readers.file_kind import check_kind
from fedkeras.data.readers.named_table import NO_NUMBER, Block, NamedTable, check_header
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.readers.table_file import Note, TableFile, check_names, labels_of, said
from fedkeras.errors import UserError

if TYPE_CHECKING:
    import pyarrow

ROWS = 65_536
INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls its index where it writes one."""
INDEX_NOTE = Note("row numbers", "pandas' index is left out")


def open_parquet(path: Path, targets: bool, marks: Marks, header: bool | None = None) -> TableFile:
    """The file's table: numbers (n, columns); a single column of targets is (n,), numbers or text.

    `marks` and `header` are for text files. Raises UserError.
    """
    names, count, notes = _opened(path)
    checked = check_names(path, names)
    if targets and len(names) == 1:
        cells = [cell for batch in _batches(path, names) for cell in _words(batch.column(0))]
        array = labels_of(path, cells, _where)
        return TableFile(
            path, (), array.dtype, lambda: iter([array]), lambda: len(array), checked, header=True, notes=notes
        )

    def blocks() -> Iterator[np.ndarray]:
        return _numbers(path, names)

    return TableFile(
        path, (len(names),), np.dtype(np.float64), blocks, lambda: count, checked, first=names[0], header=True,
        notes=notes,
    )  # fmt: skip


def open_named_parquet(path: Path, marks: Marks) -> NamedTable:
    """The file's columns by their names. Raises UserError; `marks` are for text files."""
    stored, _, notes = _opened(path)
    check_header(path, stored, "its schema")
    names = check_names(path, stored) or tuple(name.strip() for name in stored)

    def read(numbers: Sequence[int], label: int) -> Iterator[Block]:
        chosen, start = [stored[place] for place in numbers], 0
        for batch in _batches(path, [*chosen, stored[label]]):
            block = [_column(path, batch.column(name), name, start, NO_NUMBER) for name in chosen]
            numbers_of = np.column_stack(block) if block else np.empty((batch.num_rows, 0))
            yield numbers_of, _words(batch.column(stored[label]))
            start += batch.num_rows

    return NamedTable(path, names, read, _where, notes)


def _opened(path: Path) -> tuple[list[str], int, tuple[Note, ...]]:
    """Names of the columns as they are stored, how many rows there are, and what was decided."""
    check_kind(path, "parquet")
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"{path} needs pyarrow to be read: run `pip install 'fedkeras[parquet]'`") from None
    try:
        with parquet.ParquetFile(path) as file:
            stored, count = file.schema_arrow.names, file.metadata.num_rows
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    names = [name for name in stored if not INDEX.fullmatch(name)]
    if not names:
        raise UserError(f"{path} has no columns")
    if not count:
        raise UserError(f"{path} has columns and no rows")
    return names, count, (INDEX_NOTE,) if len(names) < len(stored) else ()


def _batches(path: Path, names: Sequence[str]) -> Iterator["pyarrow.RecordBatch"]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(ROWS, columns=list(names))
    except (pyarrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} is no Parquet file that can be read ({' '.join(str(error).split())[:160]})")


def _numbers(path: Path, names: Sequence[str]) -> Iterator[np.ndarray]:
    start = 0
    for batch in _batches(path, names):
        yield np.column_stack([_column(path, batch.column(name), name, start) for name in names])
        start += batch.num_rows


def _column(path: Path, column: "pyarrow.Array", name: str, start: int, hint: str = "") -> np.ndarray:
    """One column as float64, all finite. Raises UserError, which names the row."""
    from pyarrow import types

    kind = column.type
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_decimal(kind)):
        cell = next((cell for cell in column.to_pylist() if cell is not None), None)
        raise UserError(f"{path}, column '{name}' is of the type {kind}: {said(cell)}{hint if cell else ''}")
    if column.null_count or not (types.is_integer(kind) or types.is_floating(kind)):
        values = np.array([np.nan if cell is None else cell for cell in column.to_pylist()], np.float64)
    else:
        values = column.to_numpy(zero_copy_only=False).astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        what = "the value is infinite" if np.isinf(values[row]) else "the value is missing"
        raise UserError(f"{path}, {_where(start + row)}, column '{name}': {what}")
    return values


def _words(column: "pyarrow.Array") -> list[str]:
    return ["" if cell is None else str(cell) for cell in column.to_pylist()]


def _where(row: int) -> str:
    return f"row {row} (counted from 0)"
