"""The weighted mean of named arrays: summed in float64, one at a time, in the order in which they are added.

Memory is one accumulator however many there are, and the same arrays in the same order give the same bits. What is
computed of whole numbers (a counter, a step) is rounded to the nearest one, half to even, wherever it is computed.
"""

from collections.abc import Iterator, Mapping

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
        self._totals: dict[str, float] = {}
        self._dtypes: dict[str, np.dtype] = {}

    def add(self, arrays: Mapping[str, np.ndarray], weight: float) -> None:
        """Count `arrays` as `weight` examples', or by any other weight."""
        self.total += weight
        for name, array in arrays.items():
            self._dtypes[name] = array.dtype
            if name not in self._sums:
                self._sums[name], self._totals[name] = np.zeros(array.shape, np.float64), 0
            self._totals[name] += weight
            add_weighted(self._sums[name], array, weight)

    def result(self) -> dict[str, np.ndarray]:
        """The mean in the arrays' own dtypes; to be called once, and not before anything was added."""
        return {name: as_dtype(array, self._dtypes[name]) for name, array in self._means()}

    def exact(self) -> dict[str, np.ndarray]:
        """The same as float64, whatever the arrays' own dtypes: for what is computed further."""
        return dict(self._means())

    def _means(self) -> Iterator[tuple[str, np.ndarray]]:
        for name in list(self._sums):  # an array's sums go before the next one's mean is made
            yield name, np.divide(self._sums.pop(name), self._totals[name])


def as_dtype(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`array` as `dtype`: for whole numbers and truth values rounded, half to even, where a bare cast cuts off.

    A mean may be 2.9999 where all clients sent 3. What is beyond a float type's range becomes infinite, which is looked
    for by whoever takes it; whole numbers have no infinity, so that raises ValueError, as does what is not finite.
    """
    if array.dtype == dtype:
        return array
    if dtype.kind in "iu":
        array, limits = np.rint(array), np.iinfo(dtype)
        if (odd := ~((array >= limits.min) & (array <= limits.max))).any():  # NaN is neither
            raise ValueError(f"{array[odd][0]:g} is no number of type {dtype}")
    elif dtype.kind == "b":
        array = np.rint(array)
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def add_weighted(sums: np.ndarray, array: np.ndarray, weight: float) -> None:
    """sums += weight * array, computed in float64, in place."""
    flat_sums, flat = sums.reshape(-1), array.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        flat_sums[block] += np.multiply(flat[block], weight, dtype=np.float64)
