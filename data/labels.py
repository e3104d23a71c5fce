"""Class labels, whatever a file says, as numbers from 0: one mapping shared by all who hold a part of the data.

Each client fits its own labels, the server merges what they found (names only, never rows), and all encode alike.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fedkeras.errors import UserError

EXACT = 2**53
"""From here on a floating-point number stands for several whole numbers."""
LISTED = 12
"""So many classes are named in a message."""


def same_text(text: str) -> str:
    """How a label, or a column's name, is compared: composed (Unicode's NFC), without spaces around it.

    Some keyboards and file systems write one letter as two signs, a letter and an accent.
    """
    return unicodedata.normalize("NFC", text).strip(" \t\r\n\v\f\u00a0\u2007\u202f\u200b\ufeff")


def shown(names: Iterable[str | int]) -> str:
    """The classes by name, for a message: the first of them if they are many."""
    names = [str(name) for name in names]
    return ", ".join(names[:LISTED]) + (f", ... ({len(names)} in all)" if len(names) > LISTED else "")


@dataclass(frozen=True)
class Labels:
    """The classes in order: a label's number is its position. `names` are all words, or all whole numbers, sorted."""

    names: tuple[str, ...] | tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Labels (n,), or one-hot rows (n, classes), as positions, int32 (n,). Raises UserError for an unknown one."""
        if y.ndim == 2:
            if y.shape[1] != len(self):
                raise UserError(
                    f"one-hot rows have {y.shape[1]} columns, and there are {len(self)} classes: {shown(self.names)}"
                )
            return np.argmax(y, axis=1).astype(np.int32)
        if (y.dtype.kind == "U") != isinstance(self.names[0], str):
            raise UserError(f"labels such as '{y[0]}' are not among the {len(self)} known: {shown(self.names)}")
        if y.dtype.kind != "U":
            y = whole_numbers(y)
        known = np.array(self.names)
        positions = np.minimum(np.searchsorted(known, y), len(known) - 1)
        if (unknown := known[positions] != y).any():
            row = int(np.argmax(unknown))
            raise UserError(f"label '{y[row]}' (row {row}, counted from 0) is not among the {len(self)} known: "
                            f"{shown(self.names)}")  # fmt: skip
        return positions.astype(np.int32)

    def decode(self, positions: np.ndarray) -> np.ndarray:
        """The labels at these positions, (n,): words or int64."""
        return np.array(self.names)[np.asarray(positions)]

    def to_dict(self) -> dict[str, list[str] | list[int]]:
        """As JSON can hold it."""
        return {"classes": list(self.names)}


def from_dict(table: Mapping[str, list[str] | list[int]]) -> Labels:
    """The inverse of `to_dict`, for a table that came from elsewhere; raises ValueError if it is none."""
    names = table.get("classes")
    if not isinstance(names, list) or not names or {type(name) for name in names} not in ({int}, {str}):
        raise ValueError("classes must be a list of words, or of whole numbers")
    if any(left >= right for left, right in pairwise(names)):
        raise ValueError("classes must be sorted, each once")
    if isinstance(names[0], int) and (names[0] < -(2**63) or names[-1] >= 2**63):
        raise ValueError("classes that are whole numbers must have 64 bits at most")
    if isinstance(names[0], str) and any(same_text(name) != name for name in names):
        raise ValueError("classes must be composed (Unicode's NFC), without spaces around them")
    return Labels(tuple(names))


def whole_numbers(y: np.ndarray) -> np.ndarray:
    """`y` as int64, each number exactly. Raises UserError for a fraction, and for what int64 or a float cannot tell."""
    if y.dtype.kind == "f" and not ((y == np.rint(y)) & (np.abs(y) < EXACT)).all():
        odd = y[~((y == np.rint(y)) & (np.abs(y) < EXACT))][0]
        why = "a fraction" if odd != np.rint(odd) else "a floating-point number that stands for several whole ones"
        raise UserError(f"the label {odd!s} is {why}; labels are whole numbers or words")
    if y.dtype == np.uint64 and len(y) and y.max() >= 2**63:
        raise UserError(f"the label {y.max()} is too large: labels are whole numbers below 2^63, or words")
    return y.astype(np.int64, copy=False)


def kind_of(y: np.ndarray) -> str:
    """What targets are: "words", "integers", "one-hot" (0 and 1, one 1 a row), or "numbers" to be predicted.

    A column of whole numbers may be either classes or amounts: nothing but the loss can tell.
    """
    if y.dtype.kind == "U":
        return "words"
    if y.ndim == 1:
        return "integers" if y.dtype.kind in "biu" else "numbers"
    return "one-hot" if y.ndim == 2 and y.shape[1] > 1 and _is_one_hot(y) else "numbers"


def fit(y: np.ndarray) -> Labels:
    """The classes that occur in `y`: its words or whole numbers, sorted; all columns of one-hot rows.

    Raises UserError for numbers with a fraction.
    """
    kind = kind_of(y)
    if kind == "numbers":
        raise UserError("targets are numbers and no classes; class labels are words, whole numbers or one-hot rows")
    if kind == "one-hot":
        return Labels(tuple(range(y.shape[1])))
    return Labels(tuple(np.unique(y if kind == "words" else whole_numbers(y)).tolist()))


def merge(*found: Labels, outputs: int | None = None) -> Labels:
    """All classes that anybody has. Raises UserError where one has words and another whole numbers.

    `outputs` is the model's number of them: whole numbers from 0 up to it are then the outputs' own numbers, so that
    a class of which nobody has an example does not move the others.
    """
    kinds = {type(labels.names[0]) for labels in found}
    if len(kinds) > 1:
        words, numbers = (
            sorted(set().union(*(labels.names for labels in found if isinstance(labels.names[0], kind))))
            for kind in (str, int)
        )
        raise UserError(
            f"some labels are words ({shown(words)}), and others whole numbers ({shown(numbers)}); "
            "all must be of one kind"
        )
    names = sorted(set().union(*(labels.names for labels in found)))
    if outputs and kinds == {int} and names[0] >= 0 and names[-1] < outputs:
        names = range(outputs)
    return Labels(tuple(names))


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """n / (k n_c) for each class: of n rows and k classes that occur, n_c have class c; 0 for a class of no row.

    So the mean weight of a row is 1. scikit-learn's "balanced"; G. King, L. Zeng, "Logistic Regression in Rare Events
    Data", Political Analysis 9(2), 2001.
    """
    rows, present = sum(counts), sum(count > 0 for count in counts)
    return tuple(float(rows / (present * count)) if count else 0.0 for count in counts)


def lookalikes(names: Iterable[str | int]) -> list[tuple[str, ...]]:
    """Classes that differ in capitals, or in spaces between words, alone: most likely they are meant to be one."""
    alike: dict[str, list[str]] = {}
    for name in names:
        if isinstance(name, str):
            alike.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    return [tuple(group) for group in alike.values() if len(group) > 1]


def _is_one_hot(y: np.ndarray) -> bool:
    for start in range(0, len(y), 65536):
        block = y[start : start + 65536]
        if not (((block == 0) | (block == 1)).all() and (block.sum(axis=1) == 1).all()):
            return False
    return True
