"""A stratified hold-out: some of the rows, each class in proportion."""

import numpy as np


def sample(count: int, wanted: int, rng: np.random.Generator, classes: np.ndarray | None = None) -> np.ndarray:
    """Draw `wanted` of `count` rows, within each class in proportion to it (within one); return positions, sorted.

    `classes` (count,) of any type that numpy sorts; None: all rows are of one.
    """
    shuffled = rng.permutation(count)
    if classes is not None:
        shuffled = shuffled[np.argsort(classes[shuffled], kind="stable")]
    # every (count / wanted)-th of the rows in order of class: no class can be missed by chance
    steps = (np.arange(wanted) + 0.5) * count / max(wanted, 1)
    return np.sort(shuffled[steps.astype(int)])


def size(count: int, share: float) -> int:
    """How many of `count` rows a share (from 0, below 1) is: one at least if it is above 0, and one row is left."""
    return min(max(round(count * share), share > 0), count - 1)
