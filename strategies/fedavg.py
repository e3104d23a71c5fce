"""Federated Averaging.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from
Decentralized Data, AISTATS 2017, https://arxiv.org/abs/1602.05629, algorithm 1.

The new global weights are the mean of the clients' weights, each client counted by its number of examples n_k:

    w  <-  sum_k n_k w_k / sum_k n_k

The sum is taken in float64, one client at a time and in the order in which `replies` come, which the round loop makes
the order of cid: memory is one accumulator however many clients there are, and the same updates give the same bits.
"""

from collections.abc import Iterable

from flwr.app import ArrayRecord, Message, MetricRecord

from fedkeras.federation.aggregation import Mean
from fedkeras.federation.base_strategy import BaseStrategy
from fedkeras.federation.messages import arrays_of, contents, mean_metrics, metrics_of, num_examples
from fedkeras.federation.records import record, views


class FedAvg(BaseStrategy):
    """Sends the global weights to every node of the grid it is shown; averages what comes back."""

    streams = True

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The example-weighted mean of the replies' arrays and metrics; (None, None) without a reply."""
        mean, metrics = Mean(), []
        for content in contents(replies):
            metrics.append(metrics_of(content))
            mean.add(views(arrays_of(content)), num_examples(content))
        return (record(mean.result()), mean_metrics(metrics)) if mean.total else (None, None)
