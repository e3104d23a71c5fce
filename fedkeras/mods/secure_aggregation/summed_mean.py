"""A strategy around the run's own, which is handed the mean of a secure sum as if it were the one client's reply.

So FedAvg takes it as it is, and FedAvgM, FedAdam and their like make their step of it. What is not trained
(BatchNormalization's statistics) is averaged in the same sum, and is the mean whatever the strategy does.
"""

import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkeras.federation.base_strategy import BaseStrategy
from fedkeras.federation.messages import NUM_EXAMPLES
from fedkeras.federation.records import record
from fedkeras.federation.trainable import complete, withheld
from fedkeras.mods.secure_aggregation.plan import Outcome

if TYPE_CHECKING:
    from fedkeras.mods.secure_aggregation.mod import SecureAggregation

log = logging.getLogger("fedkeras")

CLIPPED = "clipped"
"""Metric of a round: the share of values that clients have cut off."""


class SummedMean(BaseStrategy):
    """What clients answer is no more than that they have answered; what came of it is the mod's `outcome`."""

    streams = True
    takes_all = True

    def __init__(self, inner: Strategy, mod: "SecureAggregation") -> None:
        self.inner, self._mod = inner, mod

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages; it is shown the trainable arrays alone."""
        kept = withheld(arrays, self.trainable or ())
        shown = ArrayRecord({name: arrays[name] for name in arrays if name not in kept})
        return complete(list(self.inner.configure_train(server_round, shown, config, grid)), arrays, kept)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's."""
        return self.inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the inner strategy makes of the mean. Raises ValueError where there is no sum."""
        deque(replies, maxlen=0)
        outcome = self._mod.take_outcome(MessageType.TRAIN)
        if outcome is None or not outcome.clients:
            raise ValueError(outcome.reason if outcome else "no client was asked for a secure sum")
        kept = withheld(outcome.arrays, self.trainable or ())
        shown = {name: array for name, array in outcome.arrays.items() if name not in kept}
        arrays, _ = self.inner.aggregate_train(server_round, [_reply_of_one(shown, outcome)])
        if arrays is None:
            return None, None
        averaged = record({name: outcome.arrays[name] for name in outcome.arrays if name in kept})
        clipped = {CLIPPED: outcome.clipped / outcome.values} if outcome.clipped else {}
        return ArrayRecord({**averaged, **arrays}), MetricRecord({**outcome.figures, **clipped})

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The means of the clients' figures; nothing where there is no sum."""
        deque(replies, maxlen=0)
        outcome = self._mod.take_outcome(MessageType.EVALUATE)
        if outcome is None:
            return None
        if not outcome.clients:
            log.warning("round %d: there are no means of the clients' figures: %s", server_round, outcome.reason)
            return None
        return MetricRecord(outcome.figures)

    def summary(self) -> None:
        """The inner strategy's."""
        self.inner.summary()


def _reply_of_one(arrays: dict, outcome: Outcome) -> Message:
    """The mean as the reply of the only client of a round."""
    metrics = MetricRecord({**outcome.figures, NUM_EXAMPLES: outcome.weight})
    content = RecordDict({"arrays": record(arrays), "metrics": metrics})
    return Message(content, reply_to=Message(RecordDict(), 1, MessageType.TRAIN))
