"""SCAFFOLD: stochastic controlled averaging.

Karimireddy, Kale, Mohri, Reddi, Stich, Suresh: SCAFFOLD: Stochastic Controlled Averaging for Federated Learning, ICML
2020, https://arxiv.org/abs/1910.06378, algorithm 1 with option II.

Where clients differ, each one's gradients lead away from what is best for all. The server keeps an estimate c of the
mean gradient, each client one of its own, c_i, and a client steps along g + c - c_i: its own lean is taken out, and the
mean's put in. After the round

    x  <-  x + eta_g sum_i p_i (y_i - x)            Delta_i  =  - c + (x - y_i) / (eta_l K)
    c  <-  c + sum_i (n_i / n) Delta_i              c_i  <-  c_i + Delta_i

over the clients that answered. n_i counts a client by --client-weights, p_i is its share of those that answered, and n
is the sum of all N clients' n_i. So c is the weighted mean of all clients' c_i, whoever answers in a round, and the
rounds end where the weighted mean of the losses is least. In the paper all count alike (`--client-weights uniform`),
and n_i / n is 1 / N. Of clients that have never answered n_i is taken to be the mean of the others'; their c_i is 0, so
that c is put right when they are heard. For c a client counts for good by its first answer's n_i, since another n_i
would leave in c some of what the first has put there. eta_g is `server_learning_rate`. c and all c_i begin at 0. The
clients' half is the mod `control-variates`, which is added where this page is chosen: it has the K of momentum, and why
Delta_i needs not be sent. c is float32, as clients are sent it; what is not trainable (BatchNormalization's statistics)
is averaged.

With one client c is c_1, to the bit, and it is SGD.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from fedkeras.config import Config
from fedkeras.federation.aggregation import Mean, as_dtype
from fedkeras.federation.base_strategy import BaseStrategy, refuse_mods
from fedkeras.federation.claimed_steps import warnings_of
from fedkeras.federation.local_steps import accumulated_steps, momentum_of
from fedkeras.federation.messages import (
    LOCAL_STEPS,
    MOST_STEPS,
    arrays_of,
    mean_metrics,
    metrics_of,
    num_examples,
)
from fedkeras.federation.records import record, views
from fedkeras.mods.control_variates import UNSEEN, VARIATE, change_of, moved


class Scaffold(BaseStrategy):
    """FedAvg whose clients correct their gradients by control variates. Option: server_learning_rate, the paper's 1."""

    moves_global_model = True
    needs_rounds = True
    mods = "control-variates"

    def __init__(self, server_learning_rate: float = 1.0) -> None:
        if isinstance(server_learning_rate, bool) or not 0 < server_learning_rate < float("inf"):
            raise ValueError(f"server_learning_rate must be above 0, not {server_learning_rate}")
        self.server_learning_rate = float(server_learning_rate)
        self.clients, self.momentum, self.learning_rate = 0, 0.0, 0.0  # the run's, by `prepare`
        self.cid_of: Mapping[int, int] = {}  # node id -> cid of a round's cohort, by the run
        self.n: dict[int, int] = {}  # by cid
        self.c: dict[str, np.ndarray] = {}
        self.x: dict[str, np.ndarray] = {}
        self.warnings: list[str] = []

    def prepare(self, config: Config) -> None:
        """N, and the clients' optimizer. Raises UserError for one that option II does not hold of."""
        refuse_mods(config, "scaffold", UNSEEN)
        self.warnings = warnings_of(config, "scaffold")
        self.clients, self.learning_rate = config.num_partitions, config.learning_rate
        self.momentum = momentum_of(config, "scaffold")

    def check(self, clients: int) -> list[str]:
        """Steps that must be believed."""
        return [*super().check(clients), *self.warnings]

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The global arrays and c to every client; x is kept until they answer."""
        self.x = views(arrays)
        self.c = self.c or {name: np.zeros(array.shape, np.float32) for name, array in self.x.items()}
        config[MOST_STEPS] = 0
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for content in {id(message.content): message.content for message in messages}.values():
            content[VARIATE] = record(self.c)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """x and c after the round; (None, None) without a reply."""
        mean, change, metrics = Mean(), Mean(), []
        before = self._total()
        for reply in replies:
            if reply.has_error():
                continue
            content, node_id = reply.content, reply.metadata.src_node_id
            table, y, weight = metrics_of(content), views(arrays_of(content)), num_examples(content)
            steps = accumulated_steps(int(table[LOCAL_STEPS]), self.momentum)
            mean.add(y, weight)
            n = self.n.setdefault(self.cid_of.get(node_id, node_id), weight)
            change.add(change_of(self.c, self.x, y, steps, self.learning_rate), n)
            metrics.append(table)
        if not metrics:
            return None, None
        total = self._total()
        for name, array in change.exact().items():  # n c is the sum of all n_i c_i, though more of n be known by now
            self.c[name] = moved(self.c[name] * (before / total), change.total / total * array)
        after = mean.exact()
        if self.server_learning_rate != 1:
            after = {name: x + self.server_learning_rate * (after[name] - x) for name, x in self.x.items()}
        arrays = record({name: as_dtype(after[name], x.dtype) for name, x in self.x.items()})
        self.x = {}  # the next round brings its own, and a checkpoint need not hold it
        return arrays, mean_metrics(metrics)

    def _total(self) -> float:
        """n, as far as clients were heard."""
        return sum(self.n.values()) * self.clients / max(1, len(self.n))
