"""The geometric median, by the smoothed Weiszfeld algorithm (RFA).

Pillutla, Kakade, Harchaoui: Robust Aggregation for Federated Learning, IEEE Transactions on Signal Processing 70, 2022,
https://arxiv.org/abs/1912.13445, algorithms 1 and 2.

The new global weights are the point whose summed distance to the clients' weights, each counted by its number of
examples n_k, is smallest. `iterations` times (3 in the paper):

    beta_k  =  n_k / max(nu, |v - w_k|)          v  <-  sum_k beta_k w_k / sum_k beta_k

nu is `smoothing`. Clients that together have less than half of all examples cannot carry it away, however wrong. (With
`--client-weights uniform` each counts once, and no claim plays a part.)

v begins at the median of each single weight, each client counted once. The paper begins at the mean, from which three
iterations leave a hundredth of the way that a liar has carried it, however far that was; where they end is the same.

Distances are those of the trainable arrays; the weights beta that come of them are taken for all arrays. A round's
updates are in memory together, once; each iteration passes over them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord

from fedkeras.federation.aggregation import Mean, as_dtype
from fedkeras.federation.base_strategy import BaseStrategy, Stack, by_array
from fedkeras.federation.messages import arrays_of, contents, mean_metrics, metrics_of, num_examples
from fedkeras.federation.records import record, views
from fedkeras.strategies.krum import require_count


class GeometricMedian(BaseStrategy):
    """RFA: a few of Weiszfeld's steps towards the geometric median."""

    takes_all = True
    robust = True

    def __init__(self, iterations: int = 3, smoothing: float = 1e-6) -> None:
        self.iterations = require_count("iterations", iterations, 1)
        if isinstance(smoothing, bool) or not 0 < smoothing < math.inf:
            raise ValueError(f"smoothing must be above 0, not {smoothing}")
        self.smoothing = float(smoothing)

    def check(self, clients: int) -> Iterable[str]:
        """Of two any point between them is a median."""
        if clients < 3:
            yield f"geometric_median withstands nobody of {clients} clients; it takes three"

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The median of the replies' arrays, and the mean of their metrics; (None, None) without a reply."""
        received = list(contents(replies))
        if not received:
            return None, None
        updates, counts = [arrays_of(content) for content in received], [num_examples(each) for each in received]
        names = self.trainable or tuple(updates[0])
        v = by_array([ArrayRecord({name: each[name] for name in names}) for each in updates], coordinate_median)
        weights = np.array(counts, np.float64)
        for _ in range(self.iterations):
            weights = counts / np.maximum(self.smoothing, distances(updates, v))
            v = weighted_mean(updates, weights, names)
        exact = weighted_mean(updates, weights, tuple(updates[0]))
        median = {name: as_dtype(exact[name], np.dtype(array.dtype)) for name, array in updates[0].items()}
        return record(median), mean_metrics([metrics_of(content) for content in received])


def coordinate_median(stack: Stack) -> np.ndarray:
    """The median over clients of each single weight."""
    return np.median(stack, axis=0)


def weighted_mean(updates: Sequence[ArrayRecord], weights: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
    """The mean of the arrays `names` of all updates, in float64, each client counted by its weight."""
    mean = Mean()
    for update, weight in zip(updates, weights / weights.sum(), strict=True):
        mean.add(views(ArrayRecord({name: update[name] for name in names})), float(weight))
    return mean.exact()


def distances(updates: Sequence[ArrayRecord], point: Mapping[str, np.ndarray]) -> np.ndarray:
    """Euclidean distances of the updates from `point`, over the point's arrays, in float64, shape (clients,)."""
    squares = np.zeros(len(updates))
    for index, update in enumerate(updates):
        for name, array in views(ArrayRecord({name: update[name] for name in point})).items():
            difference = np.subtract(array, point[name], dtype=np.float64)
            squares[index] += float(np.vdot(difference, difference))
    return np.sqrt(squares)
