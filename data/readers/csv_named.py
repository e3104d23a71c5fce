"""A .csv file as a table of named columns: read as `csv_table` reads one, with a column of labels that may be words."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fedkeras.data.readers.csv_layout import layout_of
from fedkeras.data.readers.csv_table import frames, notes_of, numbers_in
from fedkeras.data.readers.named_table import NO_NUMBER, Block, NamedTable, check_header
from fedkeras.data.readers.numerals import Marks
from fedkeras.data.readers.table_file import RowNumbers, check_names, row_numbers
from fedkeras.errors import UserError


def open_named_csv(path: Path, marks: Marks) -> NamedTable:
    """The file's columns by the names in its first line. Raises UserError."""
    layout = layout_of(path, marks)
    place = f"line {layout.before + 1}"
    if not layout.header:
        raise UserError(f"{path}: {place} names no columns; a table with labels needs a header that does")
    if not layout.below:
        raise UserError(f"{path} has a header and no rows")
    index = row_numbers(layout.first)
    check_header(path, layout.first[index:], place)
    names = check_names(path, layout.first[index:], 1 + index) or tuple(name.strip() for name in layout.first[index:])

    def read(numbers: Sequence[int], label: int) -> Iterator[Block]:
        counted = RowNumbers(path)
        chosen = [index + place for place in numbers]
        for frame, line in frames(path, layout, words=[index + label]):
            if index:
                counted.check(numbers_in(path, frame, line, layout, range(index)))
            block = numbers_in(path, frame, line, layout, chosen, NO_NUMBER) if chosen else np.empty((len(frame), 0))
            yield block, frame[index + label].tolist()

    first = layout.before + 2
    return NamedTable(
        path, names, read, lambda row: f"line {first + row}", notes_of(layout, index, numbers=True), layout.numerals
    )
