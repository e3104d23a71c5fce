"""Federated Averaging with momentum on the server.

Hsu, Qi, Brown: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification, 2019,
https://arxiv.org/abs/1909.06335, section 3 (there as Delta w = w - mean, which is subtracted).

The mean change of a round, each client counted by its number of examples, is added to a velocity that lasts:

    v  <-  beta v + sum_k n_k (w_k - w) / sum_k n_k              v = 0 at first
    w  <-  w + eta v

beta is `server_momentum`; eta, `server_learning_rate`, is 1 in the paper. Without momentum and with eta = 1 it is
FedAvg. 0.9 is the momentum of most of the paper's best results: after some rounds a step is up to ten times as long as
FedAvg's, so a smaller rate for the clients may be needed. Computed in float64, on trainable arrays alone.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.base_strategy import BaseStrategy, mean_of
from fedkeras.federation.records import record, views


class FedAvgM(BaseStrategy):
    """FedAvg's change of the global weights, with momentum. Options: server_momentum, server_learning_rate."""

    moves_global_model = True

    def __init__(self, server_momentum: float = 0.9, server_learning_rate: float = 1.0) -> None:
        if not 0 <= server_momentum < 1:
            raise ValueError(f"server_momentum must be at least 0 and below 1, not {server_momentum}")
        if not 0 < server_learning_rate < float("inf"):
            raise ValueError(f"server_learning_rate must be above 0, not {server_learning_rate}")
        self.server_momentum, self.server_learning_rate = float(server_momentum), float(server_learning_rate)
        self.velocity: dict[str, np.ndarray] = {}
        self.w: dict[str, np.ndarray] = {}

    def check(self, clients: int) -> Iterable[str]:
        """Without momentum it is a slower way to write fedavg."""
        if self.server_momentum == 0:
            same = "is fedavg" if self.server_learning_rate == 1 else "is fedavg with shorter or longer steps"
            yield f"fedavgm with server_momentum=0 {same}; --strategy-args server_momentum=0.9 gives it momentum"

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The global arrays to every client; w is kept until they answer."""
        self.w = views(arrays)
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """One step from w with the velocity; (None, None) without a reply."""
        mean, metrics = mean_of(replies)
        if not mean:
            return None, None
        moved = {}
        for name, w in self.w.items():
            change = mean[name] - w.astype(np.float64)
            self.velocity[name] = self.server_momentum * self.velocity.get(name, 0.0) + change
            moved[name] = as_dtype(w + self.server_learning_rate * self.velocity[name], w.dtype)
        self.w = {}  # the next round brings its own, and a checkpoint need not hold it
        return record(moved), metrics
