"""The server's half: updates are clipped again, summed and noised once; the run's strategy sees no more than that.

McMahan, Ramage, Talwar, Zhang: Learning Differentially Private Recurrent Language Models, ICLR 2018, arXiv:1710.06963,
algorithm 1 with the fixed denominator qN:

    mean  =  w + (sum_k clip_S(w_k - w) + N(0, (z S)^2 I)) / (q N)

The run's own strategy is handed this mean as if it were the one client's reply, so that FedAvg takes it as it is, and
FedAvgM, FedAdam and their like make their step of it: what is done with a private result stays private.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fedkeras.federation.aggregation import as_dtype
from fedkeras.federation.base_strategy import BaseStrategy
from fedkeras.federation.messages import NUM_EXAMPLES, arrays_of, contents, metrics_of
from fedkeras.federation.records import of_kind, record, views
from fedkeras.federation.trainable import complete, withheld
from fedkeras.mods.client_dp.clipping import ClippedSum

if TYPE_CHECKING:
    from fedkeras.mods.client_dp.mod import ClientDp

BOUND = "dp-bound"
"""Key of a train message's configuration: the length that the client's update may have."""
TRAINABLE = "dp-trainable"
"""The names of the arrays that the update consists of."""
WITHIN = "dp-within"
"""Metric of a reply: 1 if the update was within the bound before it was clipped, else 0."""


class NoisyMean(BaseStrategy):
    """Around the run's strategy. Arrays that are not trained never change: nothing of them is released."""

    streams = True
    takes_all = True

    def __init__(self, inner: Strategy, dp: "ClientDp") -> None:
        self.inner, self._dp = inner, dp
        self.sent: dict[str, np.ndarray] = {}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, with the bound in each; it is shown the trainable arrays alone."""
        self.sent = views(arrays)
        kept = withheld(arrays, self.trainable or ())
        shown = ArrayRecord({name: arrays[name] for name in arrays if name not in kept})
        messages = complete(list(self.inner.configure_train(server_round, shown, config, grid)), arrays, kept)
        for content in {id(message.content): message.content for message in messages}.values():
            table = next(iter(of_kind(content, ConfigRecord).values()))
            table.update({BOUND: float(self._dp.bound), TRAINABLE: self._names()})
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """What the inner strategy makes of the noisy mean, which is entered into the ledger before; epsilon by now."""
        total, bits = ClippedSum(self.sent, self._names(), self._dp.bound), []
        for content in contents(replies):
            total.add(views(arrays_of(content)))
            bits.append(bool(metrics_of(content).get(WITHIN, 0)))
        # From here on nothing of a single client is looked at
        noised, epsilon = self._dp.release(server_round, total.sums, bits)
        mean = {name: as_dtype(self.sent[name] + noised[name], self.sent[name].dtype) for name in noised}
        self.sent = {}  # the next round brings its own, and a checkpoint need not hold it
        arrays, _ = self.inner.aggregate_train(server_round, [_reply_of_one(mean)])
        return arrays, MetricRecord({"epsilon": epsilon})

    def summary(self) -> None:
        """The inner strategy's."""
        self.inner.summary()

    def _names(self) -> list[str]:
        trainable = self.trainable or ()
        return [name for name in self.sent if name in trainable or not trainable]


def _reply_of_one(arrays: dict[str, np.ndarray]) -> Message:
    """Arrays as the reply of the only client of a round."""
    content = RecordDict({"arrays": record(arrays), "metrics": MetricRecord({NUM_EXAMPLES: 1})})
    return Message(content, reply_to=Message(RecordDict(), 1, MessageType.TRAIN))
