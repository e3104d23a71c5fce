"""Count, mean, spread and extremes of numbers, in a form that can be added up: of parts, the same as of the whole.

T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for Computing the Sample Variance: Analysis and Recommendations",
The American Statistician 37(3), 1983: two passes over a block, and formula (2.1) to merge two blocks. So a client sends
five numbers a feature and no row; sums of squares would do too on paper, but at a mean of 1e6 and a spread of 1e-3 they
agree in all the digits that float64 has, and their difference is noise.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fedkeras.errors import UserError

BLOCK = 2048
"""Rows looked at together: float64 copies of them are made."""

LARGEST = 1e100
"""Numbers beyond it have squares that float64 cannot add up."""

FIELDS = ("count", "mean", "m2", "low", "high")


@dataclass(frozen=True)
class Statistics:
    """Of all numbers, arrays of shape (), or of each feature, (features,); all float64.

    `count` is how many numbers each of them is of, `m2` the sum of squared differences from the mean, `low` and `high`
    the extremes. Of nothing: 0, 0, 0, inf and -inf.
    """

    count: int
    mean: np.ndarray
    m2: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def is_constant(self) -> np.ndarray:
        """Where all numbers are the same one, though rounding may have given `m2` another value than 0."""
        return self.low == self.high

    @property
    def std(self) -> np.ndarray:
        """The population's standard deviation."""
        return np.where(self.is_constant, 0.0, np.sqrt(self.m2 / max(self.count, 1)))

    def to_dict(self) -> dict[str, np.ndarray]:
        """As arrays by name, to be sent."""
        return {name: np.asarray(getattr(self, name), np.int64 if name == "count" else np.float64) for name in FIELDS}


def nothing(features: int | None) -> Statistics:
    """The statistics of no numbers; `features` is None for those of all numbers together."""
    shape = () if features is None else (features,)
    return Statistics(0, np.zeros(shape), np.zeros(shape), np.full(shape, np.inf), np.full(shape, -np.inf))


def statistics_of(x: np.ndarray | Iterable[np.ndarray], per_feature: bool = True) -> Statistics:
    """The statistics of an array (n, ..., features), memory-mapped or not, or of such arrays one after another.

    Without `per_feature`, of all numbers together. Raises UserError for NaN and infinity, ValueError for no array.
    """
    total = None
    for array in [x] if isinstance(x, np.ndarray) else x:
        total = total or nothing(array.shape[-1] if per_feature else None)
        for start in range(0, len(array), BLOCK):
            total = merge(total, _of_block(array[start : start + BLOCK], per_feature))
    if total is None:
        raise ValueError("no values to take statistics of")
    return total


def _of_block(block: np.ndarray, per_feature: bool) -> Statistics:
    values = np.asarray(block, np.float64).reshape(-1, *(block.shape[-1:] if per_feature else ()))
    if not len(values):
        return nothing(block.shape[-1] if per_feature else None)
    if not np.isfinite(values).all():
        column = "" if values.ndim == 1 else f" in column {1 + int(np.argwhere(~np.isfinite(values))[0][1])}"
        raise UserError(f"there are missing or infinite values{column} (NaN): statistics need numbers everywhere")
    mean = values.mean(axis=0)
    rest = values - mean
    mean = mean + rest.mean(axis=0)  # what rounding left over of the first pass: small where the mean is large
    return Statistics(len(values), mean, np.square(values - mean).sum(axis=0), values.min(axis=0), values.max(axis=0))


def merge(left: Statistics, right: Statistics) -> Statistics:
    """The statistics of two parts together. Raises UserError for different numbers of features."""
    if np.shape(left.mean) != np.shape(right.mean):
        counts = [np.size(side.mean) for side in (left, right)]
        raise UserError(f"statistics of {counts[0]} and of {counts[1]} features cannot be merged: not the same columns")
    if not left.count or not right.count:
        return left if left.count else right
    count, delta = left.count + right.count, right.mean - left.mean
    mean = left.mean + delta * (right.count / count)
    m2 = left.m2 + right.m2 + delta**2 * (left.count * right.count / count)
    return Statistics(count, mean, m2, np.minimum(left.low, right.low), np.maximum(left.high, right.high))


def from_dict(arrays: Mapping[str, np.ndarray]) -> Statistics:
    """The inverse of `to_dict` for what came from elsewhere. Raises ValueError with what is wrong with it."""
    if set(arrays) != set(FIELDS):
        raise ValueError(f"statistics are {', '.join(FIELDS)}, not {', '.join(sorted(arrays))}")
    values = {name: np.asarray(arrays[name], np.float64) for name in FIELDS[1:]}
    count = np.asarray(arrays["count"])
    if count.shape != () or count.dtype.kind not in "iu" or not 0 <= count < 2**53:
        raise ValueError("count must be one whole number, 0 or more")
    if len({value.shape for value in values.values()}) > 1 or values["mean"].ndim > 1:
        raise ValueError("mean, m2, low and high must be of one shape, (features,) or ()")
    if not count:
        return nothing(None if values["mean"].ndim == 0 else len(values["mean"]))
    if not all(np.isfinite(value).all() for value in values.values()):
        raise ValueError("mean, m2, low and high must be finite")
    if any((np.abs(values[name]) > LARGEST).any() for name in ("mean", "low", "high")):
        raise ValueError(f"there are numbers beyond {LARGEST:g}, which have no variance")
    slack = 1e-9 * (1 + np.abs(values["mean"]))
    inside = (values["low"] - slack <= values["mean"]) & (values["mean"] <= values["high"] + slack)
    if not (inside & (values["m2"] >= 0)).all():
        raise ValueError("a mean must lie between low and high, and m2 must not be negative")
    # Bhatia and Davis: no numbers between low and high with this mean vary more; the rest is what rounding may add
    largest = np.maximum(values["mean"] - values["low"], 0) * np.maximum(values["high"] - values["mean"], 0)
    rounding = 1e-6 * (values["high"] - values["low"]) ** 2 + slack**2
    if (values["m2"] > count * (largest + rounding)).any():
        raise ValueError("m2 is larger than numbers between low and high can make it")
    return Statistics(int(count), **values)
