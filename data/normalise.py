"""Four ways to bring values to a common scale, all of the form (x - shift) / spread.

Images are scaled by one number for all pixels, which keeps their contrasts; tables and time series by one for each
feature or signal (the last axis). Statistics are taken in float64.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from fedkeras.data.statistics import Statistics


@dataclass(frozen=True)
class Normaliser:
    """Fitted on training data, applied to any. `shift` and `spread` are of one shape, () or (features,)."""

    name: str
    shift: np.ndarray
    spread: np.ndarray

    @property
    def said(self) -> str:
        """Its name, and its numbers where there is one for all values."""
        if self.name == "none" or self.shift.ndim or self.spread.ndim:
            return self.name
        shift, spread = float(self.shift), float(self.spread)
        return f"{self.name}, {f'(x - {shift:.6g})' if shift else 'x'} / {spread:.6g}"

    def apply(self, x: np.ndarray) -> np.ndarray:
        """(x - shift) / spread as float32, in the shape of `x`; of "none", `x` as it came, in its own dtype.

        What comes in float64 (or int32, int64) is computed in float64: at 1e6 float32 has one digit behind the point.
        """
        if self.name == "none":
            return x
        if np.result_type(x.dtype, np.float32) == np.float64:  # large whole numbers too
            return ((x - self.shift) / self.spread).astype(np.float32)
        return (x - self.shift.astype(np.float32)) / self.spread.astype(np.float32)


NAMES = ("none", "scale", "minmax", "zscore")


def checked_normaliser(name: str, shift: np.ndarray, spread: np.ndarray, features: int | None = None) -> Normaliser:
    """The normaliser that a file says it is. Raises ValueError for what is none, or not one for so many features."""
    shift, spread = (np.asarray(each, np.float64) for each in (shift, spread))
    if name not in NAMES:
        raise ValueError(f"'{name[:40]}' is not one of {', '.join(NAMES)}")
    if shift.shape != spread.shape or shift.ndim > 1 or (shift.ndim and features not in (None, len(shift))):
        raise ValueError(f"shift has the shape {shift.shape} and spread {spread.shape}, of {features} features")
    if not (np.isfinite(shift).all() and np.isfinite(spread).all() and spread.all()):
        raise ValueError("its numbers must be finite, and its spread not 0")
    return Normaliser(name, shift, spread)


def fit(name: str, statistics: Statistics | None) -> Normaliser:
    """Make the normaliser `name` from statistics of the training data (`none` needs none).

    scale: x / max|x|, "simple feature scaling", the same as x / max where nothing is negative;
    minmax: to 0..1; zscore: to mean 0 and standard deviation 1. A constant feature is divided by one. Raises ValueError
    for statistics of nothing.
    """
    if name == "none":
        return Normaliser(name, np.zeros(()), np.ones(()))
    if not statistics.count:
        raise ValueError("no values to take statistics of")
    if name == "zscore":
        return Normaliser(name, statistics.mean, _divisor(statistics.std))
    return fit_range(name, statistics.low, statistics.high)


def fit_range(name: str, low: np.ndarray, high: np.ndarray) -> Normaliser:
    """The normaliser `scale` or `minmax` of values between `low` and `high`, both of shape () or (features,)."""
    if name == "scale":
        spread = _divisor(np.maximum(abs(low), abs(high)))
        return Normaliser(name, np.zeros(spread.shape), spread)
    if name == "minmax":
        return Normaliser(name, low, _divisor(high - low))
    raise ValueError(f"no normaliser by a range is called '{name}'")


def normaliser_from(total: Statistics | None, name: str) -> Normaliser:
    """The normaliser `name` from merged statistics of all parts: what `fit` makes of their rows together.

    A constant feature's mean is its one value, whatever digits merging has lost. Raises ValueError for statistics of
    nothing.
    """
    if name == "none":
        return fit(name, None)
    return fit(name, dataclasses.replace(total, mean=np.where(total.is_constant, total.low, total.mean)))


def _divisor(spread: np.ndarray) -> np.ndarray:
    # constant features have a spread of exactly 0, see statistics.py; less than this, float32 cannot divide by
    return np.where(spread > np.finfo(np.float32).tiny, spread, 1.0)
