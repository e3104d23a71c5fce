"""What the labels of somebody's own file are: classes, or amounts. It is said, or where it cannot be told, asked for.

Words are classes. Numbers of which one has a fraction are amounts. Whole numbers may be either: at most 100 different
ones are taken for classes, and a run says so; more are refused until --task says what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fedkeras.data import labels
from fedkeras.data.labels import Labels
from fedkeras.errors import UserError

MOST_CLASSES = 100
"""More different whole numbers than this may be amounts, ages or years as well as classes."""
BINS = 5
"""Amounts are dealt out by these parts of them, of as many rows each."""


@dataclass(frozen=True)
class Targets:
    """What is learned. `numbers` is float64 (n,) or (n, outputs) where it is amounts, else None.

    `positions` are class numbers, int32 (n,); of amounts, the bin of their range in which each lies, by which rows are
    dealt out and held out. `names` are those of classes or bins. `said`: what was decided, "" where a flag says it.
    """

    positions: np.ndarray
    names: tuple[str, ...]
    numbers: np.ndarray | None = None
    said: str = ""
    alike: tuple[str, ...] = ()
    """Classes that are most likely meant to be one, a sentence each."""


def targets_of(y: np.ndarray, task: str, whose: str, known: Sequence[str] = ()) -> Targets:
    """What these labels are, words (n,), whole numbers (n,), or numbers (n, ...); `task` is --task.

    `known` are names of classes, in their order, where they are decided elsewhere. Raises UserError, which names
    `whose` labels they are, where that cannot be told, and where they are not what --task says.
    """
    kind = labels.kind_of(y)
    if task == "regression" and kind == "words":
        raise UserError(f"--task regression: {whose} are words, such as '{y[0]}', and no amounts")
    if task == "classification" and kind == "numbers":
        raise UserError(f"--task classification: {whose} are numbers with fractions, and no classes")
    if task == "regression" or (not task and kind == "numbers" and not known):
        said = "" if task else f"amounts, for {whose} are numbers with fractions (--task regression)"
        return _amounts(np.asarray(y, np.float64), said)
    found = labels.fit(y)
    if not task and kind == "integers" and not known and len(found) > MOST_CLASSES:
        raise UserError(
            f"{whose} are {len(found):,} different whole numbers: --task classification takes them for classes, --task "
            "regression for amounts"
        )
    said = "" if task or kind != "integers" else (
        f"{len(found)} classes, for {whose} are whole numbers ({labels.shown(found.names)}); --task regression takes "
        "them for amounts"
    )  # fmt: skip
    if known:
        return Targets(_encoded(y, found, known, whose), tuple(known), said=said)
    groups = labels.lookalikes(found.names)
    alike = tuple(f"{whose} have classes that look alike: {', '.join(map(repr, group))}" for group in groups)
    return Targets(found.encode(y), tuple(map(str, found.names)), said=said, alike=alike)


def _encoded(y: np.ndarray, found: Labels, known: Sequence[str], whose: str) -> np.ndarray:
    place = {name: i for i, name in enumerate(known)}
    if odd := next((str(name) for name in found.names if str(name) not in place), None):
        raise UserError(f"{whose} have the class '{odd}', which is not among those of this run: {labels.shown(known)}")
    return np.array([place[str(name)] for name in found.names], np.int32)[found.encode(y)]


def _amounts(y: np.ndarray, said: str) -> Targets:
    """Amounts in bins of about as many rows each, by the first of the numbers to predict."""
    first = y if y.ndim == 1 else y[:, 0]
    edges = np.unique(np.quantile(first, np.linspace(0, 1, BINS + 1)[1:-1]))
    edges = edges[edges > first.min()]
    positions = np.searchsorted(edges, first, side="right").astype(np.int32)
    if not len(edges):
        return Targets(positions, (f"{first.min():.4g}",), y, said)
    between = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    return Targets(positions, (f"below {edges[0]:.4g}", *between, f"from {edges[-1]:.4g}"), y, said)
