"""Coordinate-wise trimmed mean.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018,
https://arxiv.org/abs/1803.01498, option II of algorithm 1, on weights instead of gradients.

For each single weight the floor(beta * K) smallest and as many largest of the K clients' values are left out; the rest
are averaged, each client counted once (numbers of examples are ignored, as in the paper). The rule takes all arrays:
BatchNormalization's statistics, counters and frozen layers too, which a liar spoils as well.
"""

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord

from fedkeras.federation.base_strategy import AllAtOnce, by_array


class TrimmedMean(AllAtOnce):
    """The mean of each weight without the fraction `beta` of the clients at either end, 0 <= beta < 0.5."""

    takes_all = True
    robust = True

    def __init__(self, beta: float = 0.2) -> None:
        if not 0 <= beta < 0.5:
            raise ValueError(f"beta must be at least 0 and below 0.5, not {beta}")
        self.beta = float(beta)

    def cut(self, clients: int) -> int:
        """How many of so many clients' values are left out at either end."""
        # 1e-9: 0.29 * 100 is 28.999... in binary, and the paper's floor means 29 there.
        return int(self.beta * clients + 1e-9)

    def check(self, clients: int) -> Iterable[str]:
        """Of few clients the floor is 0."""
        if not self.cut(clients):
            enough = f"beta={math.ceil(1000 / clients) / 1000:g} trims one at either end"
            yield (
                f"trimmed_mean with beta={self.beta:g} trims nothing of {clients} clients' values and is a plain mean; "
                f"{enough if clients > 2 else 'it takes three clients to trim any'}"
            )

    def combine(self, updates: list[ArrayRecord]) -> dict[str, np.ndarray]:
        """Trimmed means over clients, in float64."""
        cut = self.cut(len(updates))

        def trimmed(stack: np.ndarray) -> np.ndarray:
            ordered = np.sort(stack, axis=0)
            return ordered[cut : len(stack) - cut].mean(axis=0, dtype=np.float64)

        return by_array(updates, trimmed)
