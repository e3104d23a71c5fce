"""Four ways to bring values to a common scale, all of the form (x - shift) / spread.

Images are scaled by one number for all pixels, which keeps their contrasts; tables and time series by one for each
feature or signal (the last axis). Statistics are taken in float64.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from fedkeras.data import statistics


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
        """(x - shift) / spread as float32, in the shape of `x`.

        What comes in float64 (or int32, int64) is computed in float64: at 1e6 float32 has one digit behind the point.
        """
        if self.name == "none":
            return x
        if np.result_type(x.dtype, np.float32) == np.float64:  # large whole numbers too
            return ((x - self.shift) / self.spread).astype(np.float32)
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
    """Statistics of arrays that need not fit in memory together, see `fedkeras.data.statistics`.

    `chunks` yields arrays (n, ..., features). Raises ValueError where there is not one value.
    """
    total = statistics.statistics_of(chunks, per_feature)
    if not total.count:
        raise ValueError("no values to take statistics of")
    return Statistics(total.low, total.high, total.mean, total.std)


def normaliser_from(total: statistics.Statistics, name: str) -> Normaliser:
    """The normaliser `name` from merged statistics of all parts: what `fit` makes of their rows together.

    Raises ValueError for statistics of nothing.
    """
    if name == "none":
        return fit(name, None)
    if not total.count:
        raise ValueError("no values to take statistics of")
    mean = np.where(total.is_constant, total.low, total.mean)
    return fit(name, Statistics(total.low, total.high, mean, total.std))


def _divisor(spread: np.ndarray) -> np.ndarray:
    # constant features have a spread of exactly 0, see statistics.py; less than this, float32 cannot divide by
    return np.where(spread > np.finfo(np.float32).tiny, spread, 1.0)
