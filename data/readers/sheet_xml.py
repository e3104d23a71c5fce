"""What a sheet's XML says and openpyxl's quick reading does not: hidden rows, merged cells, formulas without values."""

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = 1 << 20
MOST = 10_000
"""So many cells of a kind are kept, at most."""

_ROW = re.compile(rb"<(?:\w+:)?row\b([^>]*)>")
_COLUMNS = re.compile(rb"<(?:\w+:)?col\b([^>]*)/?>")
_HIDDEN = re.compile(rb'\bhidden="(?:1|true)"')
_MERGED = re.compile(rb'<(?:\w+:)?mergeCell\b[^>]*\bref="([A-Z]+)(\d+):([A-Z]+)(\d+)"')
_FORMULA = re.compile(
    rb'<(?:\w+:)?c\b([^>]*?\br="([A-Z]+)(\d+)"[^>]*)>\s*'
    rb"<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>[^<]*</(?:\w+:)?f>)\s*(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*"
    rb"</(?:\w+:)?c>"
)


@dataclass
class SheetXml:
    """Rows count from 1, columns from 0. A range of merged cells is (first row, first column, last row, last)."""

    hidden_rows: list[int] = field(default_factory=list)
    hidden_columns: list[int] = field(default_factory=list)
    merged: list[tuple[int, int, int, int]] = field(default_factory=list)
    unsaved: list[tuple[int, int]] = field(default_factory=list)
    """(row, column) of formulas for whose value nobody has saved: programs write them so, Excel does not."""

    def merged_at(self, row: int, column: int) -> bool:
        """Whether the cell belongs to merged ones."""
        return any(r <= row <= last_r and c <= column <= last_c for r, c, last_r, last_c in self.merged)


def read_sheet_xml(path: Path, member: str) -> SheetXml:
    """Look through the sheet that is `member` of the workbook's archive."""
    found, row = SheetXml(), 0
    for block in _blocks(path, member):
        for match in _COLUMNS.finditer(block):
            if _HIDDEN.search(match[1]):
                low, high = (_number(match[1], name) for name in (b"min", b"max"))
                found.hidden_columns += range(low - 1, min(high, low + MOST))
        for match in _ROW.finditer(block):
            row = _number(match[1], b"r") or row + 1
            if len(found.hidden_rows) < MOST and _HIDDEN.search(match[1]):
                found.hidden_rows.append(row)
        for match in _FORMULA.finditer(block):
            if len(found.unsaved) < MOST and b't="str"' not in match[1]:  # that one's value is an empty text
                found.unsaved.append((int(match[3]), column_of(match[2].decode())))
        for match in _MERGED.finditer(block):
            if len(found.merged) < MOST:
                a, b, c, d = (part.decode() for part in match.groups())
                found.merged.append((int(b), column_of(a), int(d), column_of(c)))
    return found


def column_of(letters: str) -> int:
    """A -> 0, AA -> 26."""
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - 64
    return number - 1


def _number(attributes: bytes, name: bytes) -> int:
    found = re.search(rb"\b" + name + rb'="(\d+)"', attributes)
    return int(found[1]) if found else 0


def _blocks(path: Path, member: str) -> Iterator[bytes]:
    """The XML in pieces of whole rows."""
    with zipfile.ZipFile(path) as archive, archive.open(member.lstrip("/")) as stream:
        rest = b""
        while more := stream.read(BLOCK):
            rest += more
            end = rest.rfind(b"</row>")
            end = end + len(b"</row>") if end >= 0 else 0
            if end:
                yield rest[:end]
                rest = rest[end:]
        yield rest
