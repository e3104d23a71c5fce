"""Norm bounding.

Sun, Kairouz, Suresh, McMahan: Can You Really Backdoor Federated Learning?, 2019, https://arxiv.org/abs/1911.07963,
section 5, without the noise that the paper adds as a second defence.

An update is clipped to the length M, and the clipped ones are averaged as in FedAvg, each client counted by its
examples n_k:

    w  <-  w + sum_k n_k (w_k - w) min(1, M / |w_k - w|) / sum_k n_k

A liar may push in any direction, but no further than M times its share; a backdoor that is boosted to win against the
others is cut down to their size. That bounds harm and does not take liars out: what is small and lasting gets through.

M, `bound`, is a number that must fit the task (the paper tunes it). Unset, it is the median of a round's lengths, which
fewer than half of the clients cannot raise beyond the others'. With a number updates are taken one after the other, and
memory is one accumulator; for the median a round's updates are in memory together, once.

Lengths are those of the trainable arrays. What is not trained (BatchNormalization's statistics, counters) is no update,
and becomes its median over clients (`fedmedian.py`): these few arrays of all clients are kept until the end.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedkeras.federation.aggregation import Mean, as_dtype
from fedkeras.federation.base_strategy import BaseStrategy
from fedkeras.federation.messages import arrays_of, contents, mean_metrics, metrics_of, num_examples
from fedkeras.federation.records import record, view, views
from fedkeras.strategies.centered_clipping import MEDIAN, length_or_median, medians


class NormBound(BaseStrategy):
    """FedAvg of clipped updates; `bound` is their largest length, or `median`: of each round's."""

    takes_all = True
    robust = True
    moves_global_model = True

    def __init__(self, bound: float | str = MEDIAN) -> None:
        self.bound = length_or_median("bound", bound)
        self.streams = bound != MEDIAN
        self.w: dict[str, np.ndarray] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The global arrays to every client; w is kept for the answers' lengths."""
        self.w = views(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """w and the mean of the clipped updates, and which share was clipped; (None, None) without a reply."""
        received: Iterable[RecordDict] = contents(replies)
        bound = self.bound
        if bound == MEDIAN:
            received = list(received)
            bound = float(np.median([self._length(arrays_of(content)) for content in received])) if received else 0.0
        mean, others, metrics, clipped = Mean(), [], [], []
        names = self._names()
        for content in received:
            arrays, length = arrays_of(content), self._length(arrays_of(content))
            clipped.append(length > bound)
            factor = bound / length if length > bound else 1.0
            mean.add({name: factor * change for name, change in self._update(arrays)}, num_examples(content))
            others.append(ArrayRecord({name: arrays[name] for name in self.w if name not in names}))
            metrics.append(metrics_of(content))
        if not metrics:
            return None, None
        changes = mean.exact()
        moved = {name: as_dtype(self.w[name] + changes[name], self.w[name].dtype) for name in names}
        kept = medians(others, list(others[0]))
        new = record({name: moved[name] if name in moved else kept[name] for name in self.w})
        self.w = {}  # the next round brings its own, and a checkpoint need not hold it
        return new, MetricRecord({**mean_metrics(metrics), "clipped": float(np.mean(clipped))})

    def _names(self) -> Sequence[str]:
        return [name for name in self.w if name in self.trainable] if self.trainable else list(self.w)

    def _update(self, arrays: ArrayRecord) -> Iterable[tuple[str, np.ndarray]]:
        """w_k - w, an array after the other, in float64."""
        for name in self._names():
            yield name, np.subtract(view(arrays[name]), self.w[name], dtype=np.float64)

    def _length(self, arrays: ArrayRecord) -> float:
        return math.sqrt(sum(float(np.vdot(change, change)) for _, change in self._update(arrays)))
