"""Four ways to bring values to a common scale, all of the form (x - shift) / spread.

Images are scaled by one number for all pixels, which keeps their contrasts; tables and time series by one for each
feature or signal (the last axis). Statistics are taken in float64.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Statistics:
    """Of all values, shape (), or of each feature, shape (features,). `std` is the population's."""

    minimum: np.ndarray
    maximum: np.ndarray
    mean: np.ndarray
    std: np.ndarray


@dataclass(frozen=True)
class Normaliser:
    """Fitted on training data, applied to any."""

    name: str
    shift: np.ndarray
    spread: np.ndarray

    def apply(self, x: np.ndarray) -> np.ndarray:
        """(x - shift) / spread as float32, in the shape of `x`."""
        if self.name == "none":
            return x
        return (x - self.shift.astype(np.float32)) / self.spread.astype(np.float32)


def fit(name: str, statistics: Statistics | None) -> Normaliser:
    """Make the normaliser `name` from statistics of the training data (`none` needs none).

    scale: x / max|x|, "simple feature scaling", the same as x / max where nothing is negative;
    minmax: to 0..1; zscore: to mean 0 and standard deviation 1. A constant feature is divided by one.
    """
    zero, one = np.zeros(()), np.ones(())
    if name == "none":
        return Normaliser(name, zero, one)
    if name == "scale":
        return Normaliser(name, zero, _divisor(np.maximum(abs(statistics.minimum), abs(statistics.maximum))))
    if name == "minmax":
        return Normaliser(name, statistics.minimum, _divisor(statistics.maximum - statistics.minimum))
    if name == "zscore":
        return Normaliser(name, statistics.mean, _divisor(statistics.std))
    raise ValueError(f"no normaliser is called '{name}'")


def measure(chunks: Iterable[np.ndarray], per_feature: bool) -> Statistics:
    """Statistics of arrays that need not fit in memory together, merged as Chan, Golub and LeVeque (1979) do.

    `chunks` yields arrays (n, ..., features). Raises ValueError where there is not one value.
    """
    count, mean, squares = 0, 0.0, 0.0
    low, high = np.inf, -np.inf
    for chunk in chunks:
        values = chunk.reshape(-1, chunk.shape[-1]) if per_feature else chunk.reshape(-1)
        if not len(values):
            continue
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
        new_mean = values.mean(axis=0, dtype=np.float64)
        new_squares = np.square(values - new_mean).sum(axis=0)
        total, delta = count + len(values), new_mean - mean
        squares = squares + new_squares + delta**2 * (count * len(values) / total)
        mean, count = mean + delta * (len(values) / total), total
    if not count:
        raise ValueError("no values to take statistics of")
    return Statistics(np.float64(low), np.float64(high), np.asarray(mean), np.sqrt(squares / count))


def _divisor(spread: np.ndarray) -> np.ndarray:
    # a spread of rounding error alone would blow noise up to full size
    return np.where(spread > 1e-12, spread, 1.0)
