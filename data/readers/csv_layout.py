"""What a .csv file is like, before it is read as a table: its separator, its header, its marks, its lines.

All bytes are looked at, not the first lines: a file that is read otherwise from line 10,000 on is a wrong table.
"""

import csv
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedkeras.data.readers.decimal_mark import Evidence, FoundCell
from fedkeras.data.readers.file_kind import check_kind
from fedkeras.data.readers.numerals import Marks, Numerals, is_like_a_number
from fedkeras.data.readers.table_file import is_numbered
from fedkeras.errors import UserError

BLOCK = 1 << 20
SAMPLE = 20
SEPARATORS = ",;\t"
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Layout:
    """`first` are the cells of the first line, `below` of the second (none: there is one line); `header`: the first
    line names the columns, which is in doubt where it says 0, 1, 2, ... (`doubtful`), as pandas writes it.

    `before` are the lines that stand before it, `empty` the columns to the right without a name, which `first` and
    `below` leave out: no line may have a value there. `zero_led` is the first whole number that begins with a zero, and
    `may_be_grouped` a number such as 1.234 where none other shows that the point is the decimal mark.
    """

    separator: str
    before: int
    empty: int
    first: tuple[str, ...]
    below: tuple[str, ...]
    header: bool
    doubtful: bool
    numerals: Numerals
    one_hot_pairs: bool
    zero_led: FoundCell | None
    may_be_grouped: FoundCell | None
    told: bool
    """The decimal mark was given, and not found."""


def layout_of(path: Path, marks: Marks, header: bool | None = None) -> Layout:
    """Look through the file; `header`: whether its first line is one, where that is known. Raises UserError."""
    status = path.stat()
    return _layout_of(path, status.st_mtime_ns, status.st_size, marks, header)


@functools.lru_cache(maxsize=4096)
def _layout_of(path: Path, changed: int, size: int, marks: Marks, header: bool | None) -> Layout:
    check_kind(path, "text")
    lines = _first_lines(path)
    before, named = 0, re.fullmatch(r'"?sep=(.)"?', lines[0].rstrip(" ,;"), re.IGNORECASE)
    if named or (named := re.fullmatch(r"sep=([,;\t|])", lines[0], re.IGNORECASE)):
        before, lines = 1, lines[1:]
        if not lines:
            raise UserError(f"{path} has the line '{named[0]}' and nothing below it")
    separator = named[1] if named else _separator(lines, marks)
    first, below = _cells(lines[0], separator), _cells(lines[1], separator) if len(lines) > 1 else []
    _check_beginning(path, lines, separator, before + 1)
    first = _without_hash(path, first, below, before + 1)
    filled = len(first) if header is False else max((i + 1 for i, cell in enumerate(first) if cell.strip()), default=0)
    empty = len(first) - filled if filled and len(below) == len(first) and not any(below[filled:]) else 0
    first, below = first[: len(first) - empty], below[: len(below) - empty]
    numbered = is_numbered(first) and len(lines) > 1
    own = header if header is not None else numbered or _is_header(first)
    scan = _scan(path, separator, before + own)
    if not own and separator == "," and marks.decimal != ".":
        _check_pairs(path, scan, before)
    numerals = scan.evidence.numerals(marks, len(first))
    doubtful = header is None and numbered
    one_hot = not own and len(first) == 2 and scan.one_hot_pairs and marks == Marks()
    grouped = scan.evidence.grouped.get(".") if marks == Marks() and not scan.evidence.proof else None
    return Layout(
        separator, before, empty, tuple(first), tuple(below), own, doubtful, numerals, one_hot, scan.zero_led, grouped,
        marks != Marks(),
    )  # fmt: skip


def count_lines(path: Path) -> int:
    """Lines of the file that are not empty at its end."""
    count, empty, last = 0, 0, b"\n"
    for _, block in _blocks(path):
        marks = block.count(b"\n") + (block.count(b"\r") - block.count(b"\r\n") if b"\r" in block else 0)
        count, last = count + marks, block[-1:]
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - BLOCK))
        for line in reversed(file.read().splitlines()):
            if line.strip(b' ,;\t"'):
                break
            empty += 1
    return count + (last not in (b"\n", b"\r")) - empty


def _first_lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line.rstrip("\r\n") for _, line in zip(range(SAMPLE), file, strict=False)]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8; in Excel, save it as 'CSV UTF-8'") from None
    while lines and not lines[-1].strip(" ,;\t"):
        lines.pop()
    if not lines:
        raise UserError(f"{path} is empty")
    return lines


def _cells(line: str, separator: str) -> list[str]:
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), []) or [""]


def _separator(lines: list[str], marks: Marks) -> str:
    """Tabs or semicolons where they divide the first line, or most lines of the sample; else commas.

    Where the comma is said to be a mark in numbers it divides nothing, unless such numbers stand within quotes: a file
    without the other two has one column.
    """
    for mark in "\t;":
        divided = [len(_cells(line, mark)) > 1 for line in lines if line.strip()]
        if divided and (divided[0] or sum(divided) > len(divided) / 2):
            return mark
    widths = {len(_cells(line, ",")) for line in lines}
    quoted = len(widths) == 1 and widths != {1} and any('"' in line for line in lines)
    return ";" if "," in (marks.decimal, marks.thousands) and not quoted else ","


def _is_header(first: list[str]) -> bool:
    """A row of numbers and missing cells is a row of the table; a word in it makes it a header."""
    return not all(map(is_like_a_number, first)) or all(cell.strip() == "" for cell in first)


def _without_hash(path: Path, first: list[str], below: list[str], line: int) -> list[str]:
    """numpy.savetxt writes a # before its header; any other line that begins so is a comment."""
    if not first[0].lstrip().startswith("#"):
        return first
    if below and len(below) != len(first):
        raise UserError(f"{path}, line {line} begins with #: a comment is no part of a table; delete the line")
    return [first[0].lstrip().lstrip("#").lstrip(), *first[1:]]


def _check_beginning(path: Path, lines: list[str], separator: str, line: int) -> None:
    """Raise UserError where the file begins with something else than a header or a row of its table."""
    first = _cells(lines[0], separator)
    if not lines[0].strip():
        raise UserError(f"{path}, line {line} is empty: a table begins in its first line; delete the lines above it")
    if lines[0].count('"') % 2:
        raise UserError(f"{path}, line {line}: a line ends within quotes; write line breaks in cells as spaces")
    if len(lines) < 2 or first[0].lstrip().startswith("#"):
        return
    widths = [len(_cells(text, separator)) for text in lines[1:]]
    if len(first) == 1 and widths[0] == 1 and not is_like_a_number(first[0]):
        for mark, name in (("|", "'|'"), (" ", "spaces")):
            parts = [[word for word in text.split(mark) if word] for text in lines]
            if len(parts[0]) > 1 and len({len(row) for row in parts}) == 1 and all(
                is_like_a_number(word) for row in parts[1:] for word in row
            ):  # fmt: skip
                raise UserError(f"{path} has {name} between its cells; write commas, semicolons or tabs")
    shown = lines[0].strip(" ,;\t")[:40]
    title = f"{path}, line {line} ('{shown}') looks like a title and no header of the table below it; delete the line"
    filled = [cell for cell in first if cell.strip()]
    wider = any(cell.strip() for text in lines[1:] for cell in _cells(text, separator)[1:])
    if wider and len(first) > 1 and len(filled) == 1 and first[0].strip() and not is_like_a_number(first[0]):
        raise UserError(title)
    if len(first) == 1 and len(lines) > 2 and widths[1] > 1 and not is_like_a_number(first[0]):
        below = _cells(lines[2 if widths[0] < 2 else 1], separator)
        if widths[0] < 2 or not all(map(is_like_a_number, below)):
            raise UserError(title)


@dataclass
class _Scan:
    evidence: Evidence
    zero_led: FoundCell | None = None
    pairs: bool = True
    """Every line is two whole numbers with a comma between them, and nothing else."""
    groups: bool = True
    """Every line is one number with commas between its thousands."""
    one_hot_pairs: bool = True


_NO_PAIR = re.compile(rb"^(?![+-]?\d+,\d+\r?$)[^\r\n]+", re.MULTILINE)
_NO_GROUPS = re.compile(rb"^(?![+-]?[1-9]\d{0,2}(?:,\d{3})+\r?$)[^\r\n]+", re.MULTILINE)
_NO_ONE_HOT = re.compile(rb"^(?!(?:0,1|1,0)\r?$)[^\r\n]+", re.MULTILINE)


def _scan(path: Path, separator: str, skipped: int) -> _Scan:
    """Look at all lines but the first `skipped`. Raises UserError for NUL bytes, and lines that end within quotes."""
    scan = _Scan(Evidence(path, separator))
    for number, (start, block) in enumerate(_blocks(path)):
        for _ in range(skipped if number == 0 else 0):
            end = re.search(rb"\r\n|\r|\n", block)
            cut = end.end() if end else len(block)
            start, block = start + cut, block[cut:]
        if b"\0" in block:
            line = FoundCell(path, "", start + block.index(0)).line
            raise UserError(f"{path}, line {line} has a NUL byte: it is no text")
        if b'"' in block:
            _check_quotes(path, block, start)
        scan.evidence.take(block, start)
        if number == 0:  # ids begin with zeros from the first lines on, and looking takes long
            scan.zero_led = _zero_led(path, block, separator, start)
        if separator == ",":
            scan.pairs = scan.pairs and not _NO_PAIR.search(block)
            scan.groups = scan.groups and not _NO_GROUPS.search(block)
            scan.one_hot_pairs = scan.one_hot_pairs and not _NO_ONE_HOT.search(block)
    return scan


def _check_pairs(path: Path, scan: _Scan, before: int) -> None:
    """Raise UserError for lines such as 1,5: two columns, or one of numbers with a decimal comma?"""
    if (scan.pairs and not scan.one_hot_pairs) or scan.groups:
        with path.open(encoding="utf-8-sig") as file:
            text = [next(file).strip() for _ in range(before + 1)][-1]
        more = f", or one with --decimal ,{' or --thousands ,' if scan.groups else ''}"
        raise UserError(
            f"{path}: its lines, such as '{text}', are columns of whole numbers, or a single number each: say "
            f"--decimal . if the comma divides columns{more}"
        )


def _check_quotes(path: Path, block: bytes, start: int) -> None:
    for text in block.splitlines(keepends=True):
        if text.count(b'"') % 2:
            line = FoundCell(path, "", start).line
            raise UserError(f"{path}, line {line}: a line ends within quotes; write line breaks in cells as spaces")
        start += len(text)


def _zero_led(path: Path, block: bytes, separator: str, start: int) -> FoundCell | None:
    """The first number such as 007: an id, whose zeros a number has not."""
    found = re.search(rf"(?<![^{re.escape(separator)}\n\r\"])0\d+(?![\d.,eE])".encode(), block)
    return FoundCell(path, found[0].decode(), start + found.start()) if found else None


def _blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """The file's bytes without its mark, in blocks that end where a line ends, each after the place it begins at."""
    with path.open("rb") as file:
        rest = file.read(BLOCK)
        start = len(_MARK) if rest.startswith(_MARK) else 0
        rest = rest[start:]
        while more := file.read(BLOCK):
            end = max(rest.rfind(b"\n"), rest.rfind(b"\r", 0, -1)) + 1
            if end:
                yield start, rest[:end]
            start, rest = start + end, rest[end:] + more
        if rest:
            yield start, rest
