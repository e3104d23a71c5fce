"""The bound of one client's influence: its update as one vector is scaled down to a length, which is fixed or adapts.

McMahan, Ramage, Talwar, Zhang: Learning Differentially Private Recurrent Language Models, ICLR 2018, arXiv:1710.06963
("flat clipping": one norm over all trainable arrays together).
Andrew, Thakkar, McMahan, Ramaswamy: Differentially Private Learning with Adaptive Clipping, NeurIPS 2021,
arXiv:1905.03871, algorithm 1: the bound follows a quantile of the updates' lengths, by a noisy count of the clients
that lie within it.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

Arrays = Mapping[str, np.ndarray]


def distance(arrays: Arrays, origin: Arrays, names: Sequence[str]) -> float:
    """The length of the update: the Euclidean norm of arrays - origin over all arrays `names`, in float64."""
    total = 0.0
    for name in names:
        moved = np.subtract(arrays[name], origin[name], dtype=np.float64).reshape(-1)
        total += float(moved @ moved)
    return math.sqrt(total)


def factor(length: float, bound: float) -> float:
    """By what an update of this length is multiplied, so that it has `bound` at most."""
    return 1.0 if length <= bound else bound / length


def clipped(arrays: Arrays, origin: Arrays, names: Sequence[str], scale: float) -> dict[str, np.ndarray]:
    """origin + scale * (arrays - origin) for the arrays `names`, in the arrays' dtypes; the others are origin's."""
    result = dict(origin)
    for name in names:
        moved = np.subtract(arrays[name], origin[name], dtype=np.float64)
        result[name] = (origin[name] + scale * moved).astype(arrays[name].dtype)
    return result


class ClippedSum:
    """Adds updates up, each clipped to `bound`, in float64; memory is one update's however many there are."""

    def __init__(self, origin: Arrays, names: Sequence[str], bound: float) -> None:
        self._origin, self._names, self._bound = origin, names, bound
        self.sums = {name: np.zeros(origin[name].shape, np.float64) for name in names}

    def add(self, arrays: Arrays) -> None:
        """Count a client's arrays, whatever it has made of them."""
        scale = factor(distance(arrays, self._origin, self._names), self._bound)
        for name in self._names:
            self.sums[name] += scale * np.subtract(arrays[name], self._origin[name], dtype=np.float64)


class AdaptiveBound:
    """How the bound follows the `quantile` of the lengths: by at most a factor exp(rate) in a round.

    The count of clients within the bound is noised by a deviation of its own, `count_noise`, and the sum's noise is
    raised so that both together cost what `noise` alone would:

        z_sum  =  (z^-2 - (2 sigma_b)^-2)^(-1/2)                      (theorem 1)
        b      =  1/m (sum_i (b_i - 1/2) + N(0, sigma_b^2)) + 1/2
        bound  <- bound exp(-rate (b - quantile))

    sigma_b is m/20 as in the paper, and no less than HARDLY * z: below z/2 nothing would be left for the sum.
    """

    HARDLY = 1.2
    """At 1.2 z of noise on the count, the sum's is a tenth more."""

    def __init__(self, noise: float, expected: float, quantile: float, rate: float) -> None:
        self._expected, self._quantile, self._rate = expected, quantile, rate
        self.count_noise = max(expected / 20, self.HARDLY * noise)
        self.sum_noise = (noise**-2 - (2 * self.count_noise) ** -2) ** -0.5

    def share_within(self, bits: Sequence[bool], noise: float) -> float:
        """The noisy share of clients within the bound; `noise` is a draw from the standard normal distribution."""
        return (sum(bit - 0.5 for bit in bits) + self.count_noise * noise) / self._expected + 0.5

    def next(self, bound: float, share: float) -> float:
        """The bound of the next round."""
        return bound * math.exp(-self._rate * (min(1.0, max(0.0, share)) - self._quantile))
