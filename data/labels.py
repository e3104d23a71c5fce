"""Class labels, whatever a file says, as numbers from 0: one mapping shared by all who hold a part of the data.

Each client fits its own labels, the server merges what they found (names only, never rows), and all encode alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fedkeras.errors import UserError


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
                raise UserError(f"one-hot rows have {y.shape[1]} columns, and there are {len(self)} classes")
            return np.argmax(y, axis=1).astype(np.int32)
        if (y.dtype.kind == "U") != isinstance(self.names[0], str):
            raise UserError(f"labels such as '{y[0]}' are not among the {len(self)} known: {self._shown()}")
        known = np.array(self.names)
        positions = np.minimum(np.searchsorted(known, y), len(known) - 1)
        if (unknown := known[positions] != y).any():
            row = int(np.argmax(unknown))
            raise UserError(f"label '{y[row]}' (row {row}, counted from 0) is not among the {len(self)} known: "
                            f"{self._shown()}")  # fmt: skip
        return positions.astype(np.int32)

    def decode(self, positions: np.ndarray) -> np.ndarray:
        """The labels at these positions, (n,): words or int64."""
        return np.array(self.names)[np.asarray(positions)]

    def to_dict(self) -> dict[str, list[str] | list[int]]:
        """As JSON can hold it."""
        return {"classes": list(self.names)}

    def _shown(self) -> str:
        return ", ".join(map(str, self.names[:8])) + (", ..." if len(self) > 8 else "")


def from_dict(table: Mapping[str, list[str] | list[int]]) -> Labels:
    """The inverse of `to_dict`, for a table that came from elsewhere; raises ValueError if it is none."""
    names = table.get("classes")
    if not isinstance(names, list) or not names or {type(name) for name in names} not in ({int}, {str}):
        raise ValueError("classes must be a list of words, or of whole numbers")
    if any(left >= right for left, right in pairwise(names)):
        raise ValueError("classes must be sorted, each once")
    return Labels(tuple(names))


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
    return Labels(tuple(np.unique(y).tolist()))


def merge(*found: Labels, outputs: int | None = None) -> Labels:
    """All classes that anybody has. Raises UserError where one has words and another whole numbers.

    `outputs` is the model's number of them: whole numbers from 0 up to it are then the outputs' own numbers, so that
    a class of which nobody has an example does not move the others.
    """
    kinds = {type(labels.names[0]) for labels in found}
    if len(kinds) > 1:
        word = next(labels.names[0] for labels in found if isinstance(labels.names[0], str))
        raise UserError(f"some labels are words, such as '{word}', and others whole numbers; all must be of one kind")
    names = sorted(set().union(*(labels.names for labels in found)))
    if outputs and kinds == {int} and names[0] >= 0 and names[-1] < outputs:
        names = range(outputs)
    return Labels(tuple(names))


def _is_one_hot(y: np.ndarray) -> bool:
    for start in range(0, len(y), 65536):
        block = y[start : start + 65536]
        if not (((block == 0) | (block == 1)).all() and (block.sum(axis=1) == 1).all()):
            return False
    return True
