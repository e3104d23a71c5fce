"""The largest numbers of an array alone, and where they are: top-k sparsification.

Aji, Heafield: Sparse Communication for Distributed Gradient Descent, EMNLP 2017, arXiv:1704.05021.
Lin, Han, Mao, Wang, Dally: Deep Gradient Compression, ICLR 2018, arXiv:1712.01887, without its momentum correction,
warm-up and clipping. As in the latter, k is counted in each array by itself.

Places travel as gaps: how many numbers are passed over since the last one, mostly below 65536, so two bytes each.
"""

import numpy as np

WIDE = 1 << 16


def count_of(share: float, size: int) -> int:
    """How many of `size` numbers are sent, at least one."""
    return max(1, round(share * size))


def largest(flat: np.ndarray, count: int) -> np.ndarray:
    """The places, ascending, of the `count` numbers that are largest in absolute value; of equal ones the first.

    NaN counts as largest. The same on every machine: what is at the border is not left to a sorting algorithm.
    """
    size = np.abs(flat)
    border = np.partition(size, len(flat) - count)[len(flat) - count]
    above = np.flatnonzero(~(size <= border))
    return np.sort(np.concatenate([above, np.flatnonzero(size == border)[: count - len(above)]]))


def gaps_of(places: np.ndarray) -> np.ndarray:
    """Ascending places as gaps, in two bytes each where all fit."""
    gaps = np.diff(places, prepend=-1) - 1
    return gaps.astype(np.uint16 if not len(gaps) or gaps.max() < WIDE else np.uint32)


def places_of(gaps: np.ndarray, size: int) -> np.ndarray:
    """The inverse of `gaps_of`, for an array of `size` numbers. Raises ValueError for gaps that lead out of it."""
    if gaps.dtype not in (np.uint16, np.uint32):
        raise ValueError(f"places came as {gaps.dtype}")
    places = np.cumsum(gaps.astype(np.int64) + 1) - 1
    if len(places) and places[-1] >= size:
        raise ValueError(f"places came that lie beyond its {size} numbers")
    return places


def spread(values: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """An array of `size` numbers: these values at these places, and 0 elsewhere."""
    flat = np.zeros(size, np.float32)
    flat[places] = values
    return flat
