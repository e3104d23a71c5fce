"""q-FedAvg.

Li, Sanjabi, Beirami, Smith: Fair Resource Allocation in Federated Learning, ICLR 2020,
https://arxiv.org/abs/1905.10497, algorithm 2.

FedAvg minimises the mean of the clients' losses F_k, and may buy it with some clients' misery. q-FFL minimises

    sum_k  p_k / (q + 1)  F_k^(q+1)          p_k = n_k / n

so that a client counts the more, the worse the global model is for it. From the weights w that all were sent, and with
L = 1 / learning rate in place of the loss's unknown Lipschitz constant:

    Delta_k  =  L (w - w_k)                          what client k moved, as a gradient
    h_k      =  q F_k^(q-1) ||Delta_k||^2  +  L F_k^q
    w       <-  w  -  sum_k n_k F_k^q Delta_k  /  sum_k n_k h_k

F_k is the client's loss at w on its training examples, which it says because it is asked to (`loss-first`). The paper
draws clients by p_k and then counts them alike; here a cohort is drawn evenly and n_k stands in the sums. q = 0 is
FedAvg. The paper's table 1 takes q between 0.001 and 5 by data set. A client that overstates its loss gains weight:
nothing here withstands liars. Computed in float64, on trainable arrays alone.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.base_strategy import BaseStrategy
from fedkeras.federation.local_steps import momentum_of
from fedkeras.federation.messages import (
    INITIAL_LOSS,
    LOSS_FIRST,
    arrays_of,
    contents,
    mean_metrics,
    metrics_of,
    num_examples,
)
from fedkeras.federation.records import record, views

SMALLEST_LOSS = 1e-10
"""Added to each loss: a loss of 0 has no power below 0."""


class QFedAvg(BaseStrategy):
    """FedAvg that counts a client by the q-th power of its loss too. Options: q, learning_rate (of the clients)."""

    streams = True
    moves_global_model = True

    def __init__(self, q: float = 1.0, learning_rate: float = 0.01) -> None:
        if not 0 <= q < float("inf"):
            raise ValueError(f"q must be 0 or more, not {q}")
        if not 0 < learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be above 0, not {learning_rate}")
        self.q, self.learning_rate = float(q), float(learning_rate)
        self.w: dict[str, np.ndarray] = {}

    def check(self, clients: int) -> Iterable[str]:
        """With q = 0 each client would test for nothing."""
        if self.q == 0:
            yield "qfedavg with q=0 is fedavg, whose clients need not say their loss before training"

    def prepare(self, config: Config) -> None:
        """Raise UserError for clients that do not take plain SGD: their steps would be no gradients times a rate."""
        if momentum_of(config, "qfedavg"):
            raise UserError("--strategy qfedavg is for SGD without momentum: a client's change stands for its gradient")

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The global arrays to every client, and the question; w is kept until they answer."""
        self.w = {name: array.astype(np.float64) for name, array in views(arrays).items()}
        config[LOSS_FIRST] = True
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """One step from w; (None, None) without a reply."""
        step, total, metrics, dtypes = {name: np.zeros_like(w) for name, w in self.w.items()}, 0.0, [], {}
        lipschitz = 1 / self.learning_rate
        for content in contents(replies):
            metrics.append(metrics_of(content))
            loss, n = float(metrics[-1][INITIAL_LOSS]) + SMALLEST_LOSS, num_examples(content)
            squared = 0.0
            for name, array in views(arrays_of(content)).items():
                moved = lipschitz * (self.w[name] - array)
                squared += float(np.vdot(moved, moved))
                step[name] += n * loss**self.q * moved
                dtypes[name] = array.dtype
            total += n * (self.q * loss ** (self.q - 1) * squared + lipschitz * loss**self.q)
        if not metrics:
            return None, None
        new = {name: as_dtype(w - step[name] / total, dtypes[name]) for name, w in self.w.items()}
        self.w = {}  # the next round brings its own, and a checkpoint need not hold it
        return record(new), mean_metrics(metrics)
