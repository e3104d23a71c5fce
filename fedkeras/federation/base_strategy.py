"""What FedMedian, trimmed mean and Krum share: they must see all updates at once, and then work array by array."""

from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord

from fedkeras.federation.records import record, view
from fedkeras.strategies.fedavg import FedAvg, arrays_of, contents, mean_metrics, metrics_of

Stack = np.ndarray
"""One array of all clients, shape (clients, *shape)."""


class AllAtOnce(FedAvg):
    """FedAvg's messages with another aggregation, given as a function of all updates."""

    streams = False

    def combine(self, updates: list[ArrayRecord]) -> dict[str, np.ndarray]:
        """The new global arrays from all clients' arrays."""
        raise TypeError(f"{type(self).__name__} does not say how to combine updates")

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What `combine` makes of the arrays; metrics are example-weighted means, as in FedAvg."""
        received = list(contents(replies))
        if not received:
            return None, None
        metrics = mean_metrics([metrics_of(content) for content in received])
        return record(self.combine([arrays_of(content) for content in received])), metrics


def by_array(updates: list[ArrayRecord], function: Callable[[Stack], np.ndarray]) -> dict[str, np.ndarray]:
    """Apply `function` to each array's stack in turn, so that only one array's copies are in memory at once."""
    result = {}
    for name, first in updates[0].items():
        stack = np.stack([view(update[name]) for update in updates])
        result[name] = np.asarray(function(stack)).astype(first.dtype)
    return result
