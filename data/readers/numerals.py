"""How text says numbers: one decimal mark for a whole file, found over all of its cells, and never two readings.

12,000 is twelve, or twelve thousand; 1.234 likewise. A cell proves its mark to be the decimal one if it cannot be read
the other way: 0.5, 1.25 or 1234.5. A file that proves neither, or both, or that has marks between thousands, is refused
with the flags that say what is meant.
"""

import functools
import math
import re
from dataclasses import dataclass

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none", "<na>"})
"""What programs write into a cell that has no number, in lower case."""

THOUSANDS = {"": "", ".": r"\.", ",": ",", "'": "['\u2019]", "_": "_", "space": "[ \u00a0\u2009\u202f]"}
"""Values of --thousands, and what stands between groups of three digits then."""

OTHER = {".": ",", ",": "."}


@dataclass(frozen=True)
class Marks:
    """What a person says of the marks in numbers: --decimal and --thousands; "" where that is to be found out."""

    decimal: str = ""
    thousands: str = ""


@dataclass(frozen=True)
class Numerals:
    """The marks that are used in a file. `thousands` is a value of --thousands, "" for none."""

    decimal: str = "."
    thousands: str = ""

    def number(self, cell: str) -> float | None:
        """The number a cell says; None where it is no number, and NaN where it says that it has none."""
        text = cell.strip()
        if self.pattern.fullmatch(text):
            return float(self.plain(text))
        lower = text.lower()
        if lower in MISSING:
            return math.nan
        return float(lower == "true") if lower in ("true", "false") else None

    def plain(self, text: str) -> str:
        """A cell that is a number as Python writes it."""
        if self.thousands:
            text = re.sub(THOUSANDS[self.thousands], "", text)
        return text.replace(self.decimal, ".")

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """What a number looks like."""
        whole = r"\d+"
        if self.thousands:
            whole = rf"(?:\d{{1,3}}(?:{THOUSANDS[self.thousands]}\d{{3}})+|\d+)"
        point = re.escape(self.decimal)
        return re.compile(rf"[+-]?(?:{whole}(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?", re.ASCII)


PLAIN = Numerals()


def is_like_a_number(cell: str) -> bool:
    """True for what is a number with one or another mark, and for a cell without: no name of a column."""
    return any(numerals.number(cell) is not None for numerals in (PLAIN, Numerals(",")))


GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}([.,'_ \u2019\u00a0\u2009\u202f])\d{3}(?:\1\d{3})*(?:[.,]\d+)?", re.ASCII)
_DATE = re.compile(r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})(?:[T ].*)?", re.ASCII)
_HEX = re.compile(r"[+-]?0[xX][0-9a-fA-F]+")
_CURRENCY = "\u20ac$\u00a3\u00a5"
_NUMBER = re.compile(r"[+-]?\d[\d.,]*(?:[eE][+-]?\d+)?", re.ASCII)


def why_no_number(cell: str) -> str:
    """What a cell is that looks like a number to a person, and what to do; "" for any other word."""
    text = cell.strip()
    bare = text.strip("%" + _CURRENCY + " \u00a0")
    if _DATE.fullmatch(text):
        return "it is a date: write a number, such as days since a day of your choice"
    if bare != text and (_NUMBER.fullmatch(bare) or GROUPED.fullmatch(bare)):
        if "%" in text:
            return "it is a percentage: write the number alone"
        if any(sign in text for sign in _CURRENCY):
            return "it has a currency's sign: write the number alone"
    if grouped := GROUPED.fullmatch(text):
        mark = grouped[1]
        name = next(value for value, among in THOUSANDS.items() if value and re.fullmatch(among, mark))
        return f"if the mark stands between thousands: --thousands {shell(name)}{_decimal_of(text, mark)}"
    if _HEX.fullmatch(text):
        return "it is hexadecimal: write it in digits 0 to 9"
    if any(char.isdecimal() and not char.isascii() for char in text):
        return "its digits are others than 0 to 9"
    if re.fullmatch(r"[+-]?\d*[.,]\d+", text, re.ASCII):
        return f"if its mark is the decimal one: --decimal {',' if ',' in text else '.'}, and so in the whole file"
    if text.lower().lstrip("+-") in ("inf", "infinity"):
        return "it is infinite"
    return "it looks like a comment: delete such lines" if text.startswith("#") else ""


def _decimal_of(text: str, thousands: str) -> str:
    last = re.search(r"([.,])\d+$", text)
    if thousands in OTHER:
        return f" --decimal {OTHER[thousands]}"
    return f" --decimal {last[1]}" if last else ""


def shell(value: str) -> str:
    """A value of --thousands as it is typed."""
    return '"\'"' if value == "'" else value
