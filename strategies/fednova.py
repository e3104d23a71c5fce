"""FedNova: federated normalised averaging.

Wang, Liu, Liang, Joshi, Poor: Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization,
NeurIPS 2020, https://arxiv.org/abs/2007.07481, section 5.

Under FedAvg a client that takes more steps moves the global weights further, so the rounds end where the many-step
clients want to be. FedNova divides what a client has moved, x - y_i, by what its steps add up to, |a_i|
(`fedkeras.federation.local_steps`: the number of its steps, more with momentum, fewer with a proximal term), and
multiplies the mean by the mean of these:

    x  <-  x  -  (sum_i p_i |a_i|)  sum_i p_i (x - y_i) / |a_i|                     p_i = n_i / sum_k n_k

(p_i is what --client-weights makes of a client's examples.) With equal |a_i| it is FedAvg, but for rounding: the result
is computed in float64 and is float32's nearest, or the one beside it. Clients differ in their steps where they have
unlike numbers of examples, or manage fewer epochs (--mods stragglers). They say how many they did, and nothing else
more than in FedAvg; an answer that does not, or another number than they were to do
(`fedkeras.federation.claimed_steps`), is that client's failure. Momentum of the clients' SGD is taken from
--optimizer-args. `proximal_mu` is the paper's proximal variant, for SGD without momentum.
"""

from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.base_strategy import BaseStrategy, refuse_mods
from fedkeras.federation.claimed_steps import warnings_of
from fedkeras.federation.local_steps import accumulated_steps, momentum_of
from fedkeras.federation.messages import (
    LOCAL_STEPS,
    MOST_STEPS,
    arrays_of,
    contents,
    mean_metrics,
    metrics_of,
    num_examples,
)
from fedkeras.federation.records import record, view, views

UNSEEN = {
    "dp": "the server is handed one noisy mean, and must divide each client's change by its steps",
    "dp-sgd": "its clients draw batches of their own, and tell no steps",
    "secure-aggregation": "the server is handed a sum, and must divide each client's change by its steps",
}
"""Mods it does not go with, and why."""


class FedNova(BaseStrategy):
    """Each client's change is divided by what its steps add up to. Option: proximal_mu."""

    moves_global_model = True
    needs_rounds = True

    def __init__(self, proximal_mu: float = 0.0) -> None:
        if isinstance(proximal_mu, bool) or not 0 <= proximal_mu < float("inf"):
            raise ValueError(f"proximal_mu must be 0 or more, not {proximal_mu}")
        self.proximal_mu = float(proximal_mu)
        self.momentum = self.learning_rate = 0.0  # the clients', by `prepare`
        self.x: dict[str, np.ndarray] = {}
        self.warnings: list[str] = []

    def prepare(self, config: Config) -> None:
        """Take the clients' momentum and learning rate. Raises UserError for what their steps cannot be counted of."""
        refuse_mods(config, "fednova", UNSEEN)
        self.warnings = warnings_of(config, "fednova")
        self.momentum, self.learning_rate = momentum_of(config, "fednova"), config.learning_rate
        if self.momentum and self.proximal_mu:
            raise UserError("--strategy fednova: proximal_mu is for SGD without momentum, as in the paper")
        if self.proximal_mu * self.learning_rate >= 1:
            raise UserError(
                f"--strategy fednova: proximal_mu {self.proximal_mu:g} times learning rate {self.learning_rate:g} is 1 "
                "or more, so that each step would undo all before it"
            )

    def check(self, clients: int) -> list[str]:
        """Steps that must be believed."""
        return [*super().check(clients), *self.warnings]

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The global arrays to every client, which is to say how many steps it did; x is kept until they answer."""
        self.x = views(arrays)
        config[MOST_STEPS] = 0
        if self.proximal_mu:
            config["objective"] = f"proximal:mu={self.proximal_mu!r}"
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The normalised average; (None, None) without a reply."""
        received = list(contents(replies))
        if not received:
            return None, None
        tables = [metrics_of(content) for content in received]
        weights = np.array([num_examples(content) for content in received], np.float64)
        pull = self.learning_rate * self.proximal_mu
        norms = np.array([accumulated_steps(int(table[LOCAL_STEPS]), self.momentum, pull) for table in tables])
        shares = weights / weights.sum()
        effective = float(shares @ norms)
        moved = {}
        for name, x in self.x.items():
            direction = np.zeros(x.shape, np.float64)
            for content, share, norm in zip(received, shares, norms, strict=True):
                direction += share / norm * (x.astype(np.float64) - view(arrays_of(content)[name]))
            moved[name] = as_dtype(x - effective * direction, x.dtype)
        self.x = {}  # the next round brings its own, and a checkpoint need not hold it
        return record(moved), mean_metrics(tables)
