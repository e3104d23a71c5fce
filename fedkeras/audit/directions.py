"""Random directions in the space of a model's trainable weights, and what of a vector lies along each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

KEPT = 20_000_000
"""Numbers of all directions together that are kept and made orthogonal; of more, each is drawn again when needed."""


@dataclass(frozen=True)
class Directions:
    """`count` unit vectors in `size` dimensions, uniformly distributed, float64, the same for the same seed.

    Where they fit into memory and into the space they are orthogonal as well, so that one canary does not speak for
    another; in a large space they nearly are.
    """

    seed: int
    count: int
    size: int

    def of(self, number: int) -> np.ndarray:
        """One of them, (size,)."""
        return self._drawn(number) if self._together is None else self._together[number]

    def along(self, vector: np.ndarray) -> np.ndarray:
        """The vector's share in each, (count,)."""
        if self._together is not None:
            return self._together @ vector
        return np.array([self._drawn(number) @ vector for number in range(self.count)])

    def _drawn(self, number: int) -> np.ndarray:
        found = np.random.default_rng([self.seed, 2, number]).standard_normal(self.size)
        return found / np.linalg.norm(found)

    @cached_property
    def _together(self) -> np.ndarray | None:
        if self.count * self.size > KEPT:
            return None
        drawn = np.stack([self._drawn(number) for number in range(self.count)])
        if self.count > self.size:
            return drawn
        basis, triangle = np.linalg.qr(drawn.T)
        return (basis * np.sign(np.diag(triangle))).T  # the signs make the frame uniformly distributed


def flat(weights: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """The arrays `names` as one vector, float64."""
    return np.concatenate([np.asarray(weights[name], np.float64).reshape(-1) for name in names])
