"""Coordinate-wise median.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates, ICML 2018,
https://arxiv.org/abs/1803.01498, option I of algorithm 1, on weights instead of gradients.

Each single weight becomes the median of the clients' values, whatever their numbers of examples: **a median ignores
weights**, so a client with ten images counts as one with ten thousand. With an even number of clients it is the mean
of the middle two. Fewer than half of the clients, however wrong, cannot move it out of the range of the others.

The rule takes all arrays: BatchNormalization's statistics, counters and frozen layers too, which a liar spoils as well.
"""

import numpy as np
from flwr.app import ArrayRecord

from fedkeras.federation.base_strategy import AllAtOnce, by_array


class FedMedian(AllAtOnce):
    """The median of the clients' weights, coordinate by coordinate, each client counted once."""

    takes_all = True
    robust = True

    def combine(self, updates: list[ArrayRecord]) -> dict[str, np.ndarray]:
        """Medians over clients."""
        return by_array(updates, lambda stack: np.median(stack, axis=0))
