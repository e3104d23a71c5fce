"""Vectors as integers modulo 2^32 whose sum is exact, and what the sum says.

Bonawitz et al. 2017, section 8 (integers of a ring wide enough for the sum); stochastic rounding as in Alistarh et al.
2017, arXiv:1610.02132 (QSGD), without bias. Two encodings: `Quantised` for real numbers with weights, `Integers` for
whole ones. Both refuse at once what could overflow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

HALF = 2**31 - 1
"""The largest sum: sums are read as signed 32 bit integers."""
CHUNK = 1 << 16
"""Values worked on at once: what lies between in float64 stays in the cache."""

Rounding = Literal["stochastic", "nearest"]


@dataclass(frozen=True)
class Encoded:
    """A client's vector as the protocol takes it, and what its own user should hear (nobody else does)."""

    vector: np.ndarray
    """uint32; after the values, the weight."""
    clipped: int
    """Values that lay outside of the clip range."""
    weight: int
    """What the client counts for, after the cap."""
    capped: bool
    """Whether it would have counted for more."""


@dataclass(frozen=True)
class Quantised:
    """Real numbers in [-clip, clip], weighted: a client sends round(w x m / clip) and w, and sums are divided.

    `max_weight` is the most that one client may count for (1: all alike) and `clients` the cohort's size, so that
    m = (2^31 - 1) // (clients * max_weight) keeps every sum within 32 bits. A million examples in all leave m = 2147:
    4,295 levels, 12 bits, for a client of one example; one of w examples has w times as many, since the product is
    rounded and not the value. `rounding` is stochastic (unbiased) or nearest.
    """

    clip: float
    max_weight: int
    clients: int
    rounding: Rounding = "stochastic"

    def check(self) -> None:
        """Raise ValueError, in one line, for what could overflow or loses everything."""
        if not _whole(self.clients) or not _whole(self.max_weight) or self.clients < 1 or self.max_weight < 1:
            raise ValueError("a quantisation needs whole numbers of clients and of examples, 1 at least")
        if isinstance(self.clip, bool) or not isinstance(self.clip, int | float) or not 0 < self.clip < math.inf:
            raise ValueError(f"the clip range must be a number above 0, not {self.clip}")
        if not math.isfinite(HALF / self.clip):
            raise ValueError(f"a clip range of {self.clip} is too small to be told in whole numbers")
        if self.rounding not in ("stochastic", "nearest"):
            raise ValueError(f"rounding is stochastic or nearest, not {self.rounding}")
        if self.bits < LEAST_BITS:
            raise ValueError(
                f"{self.clients} clients of up to {self.max_weight} examples leave {self.bits} bits a value in 32 bit "
                f"sums, and {LEAST_BITS} are needed: let a client count for fewer examples, or all count alike"
            )

    @property
    def levels(self) -> int:
        """m: a value of a client of weight 1 becomes a whole number from -m to m."""
        return HALF // (self.clients * self.max_weight)

    @property
    def bits(self) -> int:
        """Whole bits that the 2 m + 1 levels of a value are worth."""
        return (2 * self.levels + 1).bit_length() - 1

    @property
    def step(self) -> float:
        """What a difference of 1 in the sum means, before it is divided by the sum of weights."""
        return self.clip / self.levels

    def length(self, values: int) -> int:
        """The vector's length for so many values: one more, for the weight."""
        return values + 1

    def encode(self, values: np.ndarray, weight: int, rng: np.random.Generator) -> Encoded:
        """`values`, shape (n,), real, with `weight` examples, at least 1. Raises ValueError for what is not finite.

        `rng` decides how values are rounded; it should be the client's own (no secrecy rests on it).
        """
        if not _whole(weight) or weight < 1:
            raise ValueError(f"a client counts for a whole number of examples, 1 at least, not {weight}")
        counted = min(int(weight), self.max_weight)
        most, scale = counted * self.levels, counted * self.levels / self.clip
        vector, clipped = np.empty(len(values) + 1, np.uint32), 0
        signed = vector.view(np.int32)
        for start in range(0, len(values), CHUNK):
            part = values[start : start + CHUNK].astype(np.float64)
            low, high = part.min(), part.max()  # of values one of which is none, both are none
            if not (np.isfinite(low) and np.isfinite(high)):
                raise ValueError("the update has values that are not finite (a smaller learning rate may help)")
            if low < -self.clip or high > self.clip:
                clipped += int(np.count_nonzero(np.abs(part) > self.clip))
            part *= scale
            part += rng.random(len(part)) if self.rounding == "stochastic" else 0.5
            np.floor(part, out=part)
            np.clip(part, -most, most, out=part)
            signed[start : start + len(part)] = part  # whole, and at most HALF: exact
        vector[-1] = counted
        return Encoded(vector, clipped, counted, counted < weight)

    def decode(self, total: np.ndarray, clients: int) -> tuple[np.ndarray, int]:
        """The weighted mean of the values in float64 and the sum of weights, of a sum over `clients` clients.

        Raises ValueError for a sum that clients who keep to the terms cannot have sent.
        """
        weight = int(total[-1])
        signed = total[:-1].view(np.int32)
        if not clients <= weight <= clients * self.max_weight:
            raise ValueError(
                f"{clients} clients of up to {self.max_weight} examples cannot count for {weight} together"
            )
        most = weight * self.levels
        if signed.size and not -most <= int(signed.min()) <= int(signed.max()) <= most:
            raise ValueError("the sum lies outside of what the clip range allows: somebody did not keep to the terms")
        return signed.astype(np.float64) * (self.step / weight), weight


@dataclass(frozen=True)
class Integers:
    """Whole numbers from -bound to bound, summed exactly; for counts, or what another step has made integers of."""

    bound: int
    clients: int

    def check(self) -> None:
        """Raise ValueError for what could overflow."""
        if not _whole(self.clients) or not _whole(self.bound) or self.clients < 1 or self.bound < 1:
            raise ValueError("integers need a whole bound and number of clients, 1 at least")
        if self.clients * self.bound > HALF:
            raise ValueError(f"{self.clients} integers of up to {self.bound} do not fit a sum of 32 bits")

    def length(self, values: int) -> int:
        """The vector's length for so many values: the same."""
        return values

    def encode(self, values: np.ndarray | Sequence[int]) -> np.ndarray:
        """Integers, shape (n,), as uint32. Raises ValueError beyond the bound or for numbers that are not whole."""
        array = np.asarray(values)
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise ValueError(f"an array of integers of one dimension is needed, not {array.dtype} of {array.ndim}")
        if array.size and not -self.bound <= int(array.min()) <= int(array.max()) <= self.bound:
            raise ValueError(f"integers beyond {self.bound} do not fit the terms of this sum")
        return array.astype(np.int64).astype(np.uint32)

    def decode(self, total: np.ndarray, clients: int) -> np.ndarray:
        """The sum over `clients` clients in int64. Raises ValueError for one beyond what they may have sent."""
        signed = total.view(np.int32).astype(np.int64)
        most = clients * self.bound
        if signed.size and not -most <= int(signed.min()) <= int(signed.max()) <= most:
            raise ValueError("the sum lies outside of the bound: somebody did not keep to the terms")
        return signed


Encoding = Quantised | Integers
LEAST_BITS = 8
"""Bits a value of a client of weight 1 needs: below, rounding is coarser than int8, and the run had better say so."""


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
