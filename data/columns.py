"""Columns that belong together by name: in the files of a folder, in a test set, and with other clients."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedkeras.data.labels import same_text
from fedkeras.errors import UserError

Names = tuple[str, ...]
SHOWN = 3


def differing(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, str] | None:
    """Those of `names` that are not among `wanted`, and the reverse, for a message; None where all match.

    Names that come twice match where they stand in the same order alone.
    """
    if tuple(names) == tuple(wanted):
        return None
    if sorted(names) == sorted(wanted):
        twice = next((name for name in names if list(names).count(name) > 1), None)
        return None if twice is None else (f"two columns '{twice}'", "them in another order")
    own, other = ([name for name in some if name not in others] for some, others in ((names, wanted), (wanted, names)))
    if not own and not other:
        return "one name for several columns", "another number of them"
    return ("columns " if len(own) > 1 else "a column ") * bool(own) + _shown(own), _shown(other)


def order_of(names: Names | None, wanted: Names | None) -> np.ndarray | None:
    """Where each of `wanted` stands among `names`, (columns,); None where nothing needs to be moved.

    That is so too where either has no names: columns without names stand where they do.
    """
    if names is None or wanted is None or names == wanted:
        return None
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[name] for name in wanted])


def names_in(text: str, flag: str) -> Names:
    """The names in a flag's value: with commas between, in double quotes where a name has a comma. Raises UserError."""
    try:
        cells = next(csv.reader([text], skipinitialspace=True, strict=True), []) if text.strip() else []
    except csv.Error as error:
        raise UserError(f"--{flag} is '{text}', which is no list of names: {error}") from None
    names = tuple(same_text(cell) for cell in cells)
    if "" in names:
        raise UserError(f"--{flag} is '{text}': between two commas stands a name")
    return names


def as_list(names: Sequence[str]) -> str:
    """The inverse of `names_in`."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(names)
    return out.getvalue()


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:SHOWN])
    return (shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")) or "none such"


@dataclass(frozen=True)
class Columns:
    """Names of the columns of X and of Y; None where there are none."""

    x: Names | None = None
    y: Names | None = None

    def to_dict(self) -> dict[str, list[str]]:
        """As JSON can hold it: what has no names is left out."""
        return {side: list(names) for side, names in (("x", self.x), ("y", self.y)) if names}


UNNAMED = Columns()


def from_dict(table: Mapping[str, list[str]]) -> Columns:
    """The inverse of `to_dict`, for a table that came from elsewhere; raises ValueError if it is none."""
    sides = [table.get(side) for side in ("x", "y")]
    for names in sides:
        if names is not None and (not isinstance(names, list) or not all(type(name) is str for name in names)):
            raise ValueError("names of columns must be a list of words")
    return Columns(*(tuple(names) if names else None for names in sides))


def check_same(own: Columns, wanted: Columns, who: str, whose: str) -> None:
    """Raise UserError where the columns of both have names, and others. `who` has `own`, and `whose` has `wanted`."""
    for side in ("x", "y"):
        names, others = getattr(own, side), getattr(wanted, side)
        if names and others and (found := differing(names, others)):
            raise UserError(f"{who} has in {side.upper()} {found[0]} where {whose} has {found[1]}")
