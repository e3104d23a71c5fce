"""Which mark is the decimal one in a text file: the evidence of all its lines, block after block, and the verdict."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from fedkeras.data.readers.numerals import OTHER, Marks, Numerals
from fedkeras.errors import UserError


@dataclass(frozen=True)
class FoundCell:
    """A cell that was found in a file, at this byte."""

    path: Path
    cell: str
    byte: int

    @property
    def line(self) -> int:
        """Its line, from 1: counted where a message names it, since counting takes as long as looking."""
        with self.path.open("rb") as file:
            return len((file.read(self.byte) + b"x").splitlines())


@dataclass
class Evidence:
    """What a file's numbers prove, as far as it has been read.

    A comma in a file whose cells are divided by commas counts within quotes alone.
    """

    path: Path
    separator: str
    proof: dict[str, FoundCell] = field(default_factory=dict)
    """By mark: a cell in which it can only be the decimal one."""
    grouped: dict[str, FoundCell] = field(default_factory=dict)
    """By mark: a cell in which it stands before three digits, and so may be between thousands."""
    both: dict[str, FoundCell] = field(default_factory=dict)
    """By the mark that comes first: a cell with both marks, such as 1.234,5."""

    def take(self, block: bytes, start: int) -> None:
        """Look through whole lines of the file, which begin at byte `start`."""
        present = [mark for mark in ".," if mark.encode() in block and (mark != self.separator or b'"' in block)]
        two = len(present) > 1 or bool(self.proof.keys() - set(present))
        for mark in present:
            if mark not in self.proof:
                self._note(self.proof, mark, _proof(mark, self.separator), block, start)
            # where a mark has proved to be the decimal one and is the only one, nothing else needs to be known
            if mark not in self.grouped and (two or mark not in self.proof):
                self._note(self.grouped, mark, _grouped(mark, self.separator), block, start)
            if mark not in self.both and len(present) > 1:
                self._note(self.both, mark, _both(mark, self.separator), block, start)

    def _note(
        self, into: dict[str, FoundCell], mark: str, pattern: re.Pattern[bytes], block: bytes, start: int
    ) -> None:
        if found := pattern.search(block):
            into[mark] = FoundCell(self.path, found[0].decode().strip(), start + found.start())

    def numerals(self, marks: Marks, columns: int) -> Numerals:
        """The file's marks. Raises UserError where `marks` leave a meaning open.

        1.234 in a file whose columns are divided by commas is no thousand: who writes points between thousands writes
        decimal commas, and divides columns by something else.
        """
        if marks.decimal or marks.thousands in OTHER:
            return Numerals(marks.decimal or OTHER[marks.thousands], marks.thousands)
        if len(self.proof) == 2:
            point, comma = self.proof["."], self.proof[","]
            raise UserError(
                f"{self.path}: '{point.cell}' (line {point.line}) has a decimal point, and '{comma.cell}' "
                f"(line {comma.line}) a decimal comma: a file has one decimal mark"
            )
        for mark, found in self.both.items():
            raise UserError(
                f"{self.path}, line {found.line}: '{found.cell}' has marks between thousands: "
                f"--thousands {mark} --decimal {OTHER[mark]} reads it so"
            )
        decimal = next(iter(self.proof), "")
        for mark, found in self.grouped.items():
            if mark == decimal:
                continue
            if decimal:
                other = self.proof[decimal]
                raise UserError(
                    f"{self.path}, line {found.line}: '{found.cell}' stands in one file with '{other.cell}' "
                    f"(line {other.line}): if its mark stands between thousands, --thousands {mark} --decimal {decimal}"
                )
            if len(self.grouped) > 1:
                both = " and ".join(f"'{one.cell}' (line {one.line})" for one in self.grouped.values())
                raise UserError(
                    f"{self.path} has {both}: one mark is the decimal one and the other stands between thousands; "
                    "say which: --decimal . --thousands , or --decimal , --thousands ."
                )
            if not (mark == "." and self.separator == "," and columns > 1):
                raise UserError(
                    f"{self.path}, line {found.line}: '{found.cell}' may have a decimal mark or one between thousands, "
                    f"and no number of the file tells: say --decimal {mark} or --thousands {mark}"
                )
        return Numerals(decimal or ".", marks.thousands)


def _cell(number: str, mark: str, separator: str) -> re.Pattern[bytes]:
    if mark == separator:
        return re.compile(rf'(?<="){number}(?=")'.encode())
    among = re.escape(separator) + '\\n\\r" \\t'
    return re.compile(rf"(?<![^{among}]){number}(?![^{among}])".encode())


def _proof(mark: str, separator: str) -> re.Pattern[bytes]:
    point = re.escape(mark)
    exponent = r"(?:[eE][+-]?\d+)"
    return _cell(
        rf"[+-]?(?:(?:(?:0\d*|\d{{4,}})?{point}\d+|(?:0\d*|\d{{4,}}){point}|"
        rf"\d{{1,3}}{point}(?:\d{{0,2}}|\d{{4,}})){exponent}?|\d{{1,3}}{point}\d{{3}}{exponent})",
        mark,
        separator,
    )


def _grouped(mark: str, separator: str) -> re.Pattern[bytes]:
    return _cell(rf"[+-]?[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+", mark, separator)


def _both(mark: str, separator: str) -> re.Pattern[bytes]:
    first, last = re.escape(mark), re.escape(OTHER[mark])
    quoted = mark if mark == separator else OTHER[mark] if OTHER[mark] == separator else mark
    return _cell(rf"[+-]?\d{{1,3}}(?:{first}\d{{3}})+{last}\d*(?:[eE][+-]?\d+)?", quoted, separator)
