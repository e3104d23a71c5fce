"""A strategy around the run's own, which it leaves alone: it adds each round's worst and median epsilon."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkeras.federation.base_strategy import BaseStrategy

if TYPE_CHECKING:
    from fedkeras.mods.example_dp.mod import ExampleDp

WORST, MEDIAN = "epsilon", "epsilon-median"
"""Metrics of the row `train,all`."""


class EpsilonColumn(BaseStrategy):
    """Around the run's strategy: what that makes of updates, which are private already, costs nothing more."""

    def __init__(self, inner: Strategy, mod: "ExampleDp") -> None:
        self.inner, self._mod = inner, mod
        self.streams = getattr(inner, "streams", False)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages."""
        return self.inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's arrays, and epsilon by now. Replies that it has not looked at have been paid for too."""
        arrays, metrics = self.inner.aggregate_train(server_round, replies)
        for _ in replies:
            pass
        entry = self._mod.ledger.end_round(server_round)
        if entry.worst is None:
            return arrays, metrics
        return arrays, MetricRecord({**(metrics or {}), WORST: entry.worst, MEDIAN: entry.median})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages."""
        return self.inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's metrics."""
        return self.inner.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """The inner strategy's."""
        self.inner.summary()
