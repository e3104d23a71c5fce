"""Federated Averaging.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from
Decentralized Data, AISTATS 2017, https://arxiv.org/abs/1602.05629, algorithm 1.

The new global weights are the mean of the clients' weights, each client counted by its number of examples n_k:

    w  <-  sum_k n_k w_k / sum_k n_k

The sum is taken in float64, one client at a time and in the order in which `replies` come, which the round loop makes
the order of cid: memory is one accumulator however many clients there are, and the same updates give the same bits.
"""

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkeras.federation.aggregation import Mean
from fedkeras.federation.records import of_kind, record, views

NUM_EXAMPLES = "num-examples"


class FedAvg(Strategy):
    """Sends the global weights to every node of the grid it is shown; averages what comes back."""

    streams = True
    """Replies may be handed over while others are still under way: nothing is remembered between rounds."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One train message a node."""
        return to_all(grid, MessageType.TRAIN, server_round, arrays, config)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The example-weighted mean of the replies' arrays and metrics; (None, None) without a reply."""
        mean, seen = Mean(), []
        for content in contents(replies):
            seen.append(metrics_of(content))
            mean.add(views(arrays_of(content)), examples(content))
        return (record(mean.result()), mean_metrics(seen)) if mean.total else (None, None)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One evaluate message a node."""
        return to_all(grid, MessageType.EVALUATE, server_round, arrays, config)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The example-weighted mean of the replies' metrics; None without a reply."""
        return mean_metrics([metrics_of(content) for content in contents(replies)])

    def summary(self) -> None:
        """Nothing to add to the run's own log."""


def to_all(
    grid: Grid, message_type: str, server_round: int, arrays: ArrayRecord, config: ConfigRecord
) -> list[Message]:
    """The same content to every node; it is one object, so a runtime can serialise it once."""
    config["server-round"] = server_round
    content = RecordDict({"arrays": arrays, "config": config})
    return [
        Message(content, dst_node_id=node_id, message_type=message_type, group_id=str(server_round))
        for node_id in grid.get_node_ids()
    ]


def contents(replies: Iterable[Message]) -> Iterable[RecordDict]:
    """The contents of the replies that are no errors."""
    return (reply.content for reply in replies if not reply.has_error())


def examples(content: RecordDict) -> int:
    """A client's weight: its number of examples, not of batches."""
    return int(metrics_of(content)[NUM_EXAMPLES])


def arrays_of(content: RecordDict) -> ArrayRecord:
    """The one ArrayRecord of a train reply."""
    return next(iter(of_kind(content, ArrayRecord).values()))


def metrics_of(content: RecordDict) -> MetricRecord:
    """The one MetricRecord of a reply."""
    return next(iter(of_kind(content, MetricRecord).values()))


def mean_metrics(tables: list[MetricRecord]) -> MetricRecord | None:
    """Example-weighted mean of every metric that all clients' metric records have; None without a client."""
    if not tables:
        return None
    weights = [float(table[NUM_EXAMPLES]) for table in tables]
    names = [name for name in tables[0] if name != NUM_EXAMPLES and all(name in table for table in tables)]
    return MetricRecord(
        {name: sum(w * t[name] for w, t in zip(weights, tables, strict=True)) / sum(weights) for name in names}
    )
