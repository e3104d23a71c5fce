"""Aligned columns of text that fit a terminal."""

import shutil
import sys
from collections.abc import Collection, Sequence

GAP = "  "
SHORTEST = 16
"""Characters that are left of a first cell at the least."""


def terminal_width() -> int | None:
    """Columns of the terminal on stdout; None where stdout is a file or a pipe, whose lines have any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def text_table(
    lines: Sequence[Sequence[str]], left: int = 1, width: int | None = None, droppable: Collection[str] = ()
) -> list[str]:
    """Lines of cells, the titles first, as aligned text; the first `left` columns begin at the left, numbers end right.

    Where it is wider than `width`, the columns of the titles in `droppable` are left out one after the other, and then
    the first column's cells are cut in their middle.
    """
    titles = list(lines[0])
    rows = [list(line) for line in lines]
    left_titles = set(titles[:left])
    for title in droppable:
        if width is None or _width(rows) <= width:
            break
        place = rows[0].index(title)
        rows = [[*row[:place], *row[place + 1 :]] for row in rows]
    if width is not None and (over := _width(rows) - width) > 0:
        most = max(SHORTEST, max(len(row[0]) for row in rows) - over)
        rows = [[cut_in_the_middle(row[0], most), *row[1:]] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        [f"{cell:<{width}}" if title in left_titles else f"{cell:>{width}}" for title, cell, width in each]
        for each in (zip(rows[0], row, widths, strict=True) for row in rows)
    ]
    return [GAP.join(row).rstrip() for row in aligned]


def cut_in_the_middle(text: str, most: int) -> str:
    """At most so many characters: what is left of a longer text is its beginning and its end."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


def _width(rows: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in zip(*rows, strict=True)) + len(GAP) * (len(rows[0]) - 1)
