"""CSV as it leaves the run: a text that a spreadsheet would take for a formula is marked as a text.

Excel, LibreOffice and Google Sheets compute a cell that begins with one of these signs, and a name of a metric, a
reason or a table of a client's may begin so (OWASP, "CSV Injection"). Such a text gets an apostrophe in front, which a
reader of ours takes away again. Numbers stay numbers.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence

Cell = int | float | str | None

SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula begins with; the last four are the same in full width."""
MARK = "'"


def text_of(rows: Iterable[Iterable[Cell]]) -> str:
    """Lines of CSV; None is an empty cell."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([_written(cell) for cell in row] for row in rows)
    return out.getvalue()


def cells_of(line: str) -> list[str]:
    """The cells of a line that `text_of` wrote, as they were before. Raises csv.Error; an empty line has none."""
    return [_read(cell) for row in csv.reader([line]) for cell in row]


def defused(content: bytes) -> bytes:
    """A CSV file of somebody else's with its formulas marked. Raises ValueError if it is none."""
    try:
        rows: Sequence[Sequence[str]] = list(csv.reader(io.StringIO(content.decode(), newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"is no CSV file: {error}") from error
    return text_of([_read(cell) for cell in row] for row in rows).encode()  # what it has marked stays as it is


def _written(cell: Cell) -> Cell:
    return MARK + cell if isinstance(cell, str) and _is_formula(cell.lstrip(MARK)) else cell


def _read(cell: str) -> str:
    return cell.removeprefix(MARK) if _is_formula(cell.lstrip(MARK)) else cell


def _is_formula(text: str) -> bool:
    if not text.lstrip(" ").startswith(SIGNS):
        return False
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return True
