"""The weighted mean of named arrays: summed in float64, one at a time, in the order in which they are added.

Memory is one accumulator however many there are, and the same arrays in the same order give the same bits.
"""

from collections.abc import Mapping

import numpy as np

BLOCK = 1 << 15
"""Numbers added at once: their float64 copies stay in the processor's cache, which halves the time."""


class Mean:
    """Sums up; `result` is the mean and uses the sums up.

    Each array is averaged over the weights of those that sent it, so that clients may send different arrays.
    """

    def __init__(self) -> None:
        self.total = 0
        self._sums: dict[str, np.ndarray] = {}
        self._totals: dict[str, int] = {}
        self._dtypes: dict[str, np.dtype] = {}

    def add(self, arrays: Mapping[str, np.ndarray], weight: int) -> None:
        """Count `arrays` as `weight` examples'."""
        self.total += weight
        for name, array in arrays.items():
            self._dtypes[name] = array.dtype
            if name not in self._sums:
                self._sums[name], self._totals[name] = np.zeros(array.shape, np.float64), 0
            self._totals[name] += weight
            add_weighted(self._sums[name], array, weight)

    def result(self) -> dict[str, np.ndarray]:
        """The mean in the arrays' own dtypes; to be called once, and not before anything was added."""
        sums, totals = self._sums, self._totals
        return {name: np.divide(sums.pop(name), totals[name]).astype(self._dtypes[name]) for name in list(sums)}


def add_weighted(sums: np.ndarray, array: np.ndarray, weight: int) -> None:
    """sums += weight * array, computed in float64, in place."""
    flat_sums, flat = sums.reshape(-1), array.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        flat_sums[block] += np.multiply(flat[block], weight, dtype=np.float64)
