"""Centred clipping.

Karimireddy, He, Jaggi: Learning from History for Byzantine Robust Optimization, ICML 2021,
https://arxiv.org/abs/2012.10333, algorithm 2, on updates u_k = w_k - w.

What the clients agreed on in the round before, v, is where this round's updates are held near: each is clipped to the
distance tau from it, and their mean, each client counted once, is the new v, `iterations` times (1 in the paper):

    v  <-  v + sum_k (u_k - v) min(1, tau / |u_k - v|) / K                    v = 0 at first
    w  <-  w + v

So f liars carry the result at most f tau / K away, whatever they send, and a lie that is small in each round is held
against the history. The paper's tau is a number that must fit the task (10 for its gradients of MNIST), and an update
of some epochs is of another length than a gradient: unset, it is the median of the |u_k - v| of each round, which fewer
than half of the clients cannot raise beyond the others'. The paper's clients send a momentum; here they train as in
FedAvg, and the history is the server's alone.

v, the trainable arrays of the last aggregate in float64, goes into the checkpoint. What is not trained
(BatchNormalization's statistics, counters) is no update, and becomes its median over clients (`fedmedian.py`). A
round's updates are in memory together, once, beside v and the sum of one pass.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.base_strategy import BaseStrategy, by_array
from fedkeras.federation.messages import arrays_of, contents, mean_metrics, metrics_of
from fedkeras.federation.records import record, view, views
from fedkeras.strategies.krum import require_count

MEDIAN = "median"


class CenteredClipping(BaseStrategy):
    """Updates clipped around the last round's; `tau` is the clipping distance, or `median`: of each round's."""

    takes_all = True
    robust = True
    moves_global_model = True

    def __init__(self, tau: float | str = MEDIAN, iterations: int = 1) -> None:
        self.tau = length_or_median("tau", tau)
        self.iterations = require_count("iterations", iterations, 1)
        self.v: dict[str, np.ndarray] = {}
        self.w: dict[str, np.ndarray] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The global arrays to every client; w is kept until they answer."""
        self.w = views(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """w + v, and which share of the clients was clipped; (None, None) without a reply."""
        received = list(contents(replies))
        if not received:
            return None, None
        updates = [arrays_of(content) for content in received]
        names = [name for name in self.w if name in self.trainable] if self.trainable else list(self.w)
        v = {name: self.v[name] if name in self.v else np.zeros(self.w[name].shape) for name in names}
        clipped = 0.0
        for _ in range(self.iterations):
            lengths = np.array([math.sqrt(sum(float(np.vdot(d, d)) for _, d in self._away(u, v))) for u in updates])
            tau = float(np.median(lengths)) if self.tau == MEDIAN else self.tau
            clipped = float((lengths > tau).mean())
            factors = tau / np.maximum(np.maximum(lengths, tau), np.finfo(np.float64).tiny)
            v = self._moved(v, updates, factors / len(updates))
        self.v = v
        moved = {name: as_dtype(self.w[name] + v[name], self.w[name].dtype) for name in names}
        others = medians(updates, [name for name in self.w if name not in v])
        new = record({name: moved[name] if name in moved else others[name] for name in self.w})
        self.w = {}  # the next round brings its own, and a checkpoint need not hold it
        metrics = mean_metrics([metrics_of(content) for content in received])
        return new, MetricRecord({**metrics, "clipped": clipped})

    def _away(self, update: ArrayRecord, v: Mapping[str, np.ndarray]) -> Iterable[tuple[str, np.ndarray]]:
        """u_k - v, an array after the other, in float64."""
        for name, array in v.items():
            yield name, np.subtract(view(update[name]), self.w[name], dtype=np.float64) - array

    def _moved(
        self, v: Mapping[str, np.ndarray], updates: Sequence[ArrayRecord], shares: np.ndarray
    ) -> dict[str, np.ndarray]:
        """v + sum_k shares_k (u_k - v)."""
        total = {name: array.copy() for name, array in v.items()}
        for update, share in zip(updates, shares, strict=True):
            for name, difference in self._away(update, v):
                total[name] += share * difference
        return total


def length_or_median(name: str, value: float | str) -> float | str:
    """An option that is a length, or the word median. Raises ValueError for anything else."""
    if value == MEDIAN:
        return MEDIAN
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, or {MEDIAN}, not {value}")
    return float(value)


def medians(updates: Sequence[ArrayRecord], names: Sequence[str]) -> dict[str, np.ndarray]:
    """The coordinate-wise medians over clients of these arrays."""
    if not names:
        return {}
    shown = [ArrayRecord({name: update[name] for name in names}) for update in updates]
    return by_array(shown, lambda stack: np.median(stack, axis=0))
