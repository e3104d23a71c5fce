"""Simulated stragglers: some of a round's clients manage fewer epochs, and send what they have or are dropped.

T. Li, A. K. Sahu, M. Zaheer, M. Sanjabi, A. Talwalkar, V. Smith, "Federated Optimization in Heterogeneous Networks",
MLSys 2020, arXiv:1812.06127, section 5.2. In each round a fixed share of the cohort are stragglers; each has time for a
number of epochs drawn evenly from 1 to --local-epochs. FedProx takes their partial work as it is (`drop=false`);
FedAvg, as it was deployed, leaves out who is not done in time (`drop=true`). Who straggles depends on seed and round
alone, so that both meet the same stragglers. (The authors' code draws from 1 to one less.)
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Error, Message, MessageType, RecordDict

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.messages import LOCAL_EPOCHS
from fedkeras.flower.internals import ErrorCode
from fedkeras.mods.base import Exchange, Mod
from fedkeras.randomness import generator
from fedkeras.reports.server_view import Sight

if TYPE_CHECKING:
    from fedkeras.workflows.base import RunContext


class Stragglers(Mod):
    """`--mods "stragglers:share=0.9,drop=true"`: `share` of a cohort, rounded to whole clients, are stragglers."""

    def __init__(self, share: float = 0.5, drop: bool = False) -> None:
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"share must be from 0 to 1, not {share}")
        if not isinstance(drop, bool):
            raise ValueError(f"drop must be true or false, not {drop}")
        self.share, self.drop = float(share), drop
        self.seed, self.epochs = 0, 0  # the run's, when it begins

    def check(self, config: Config) -> None:
        """A client that is dropped for the sake of study is not to be suspended, and somebody must be left."""
        if self.drop and config.rest_after:
            raise UserError("--mods stragglers:drop=true needs --rest-after 0, or who straggles often is suspended")
        if self.drop and self.share == 1:
            raise UserError("--mods stragglers:share=1,drop=true leaves nobody in a round; lower the share")

    def callbacks(self) -> Sequence[Callback]:
        """One that tells the seed and the epochs of the run."""
        return (_Settings(self),)

    def exchange(self, inner: Exchange, messages: Sequence[Message]) -> Iterator[Message]:
        """Name the stragglers' epochs in their messages; those to be dropped are not asked, and count as failed."""
        if not messages or messages[0].metadata.message_type != MessageType.TRAIN:
            return inner.exchange(messages)
        epochs = self._draw(len(messages), int(messages[0].content["config"]["server-round"]))
        if not self.drop:
            return inner.exchange([_with_epochs(message, epochs.get(i)) for i, message in enumerate(messages)])
        dropped = [_dropped(messages[i], number, self.epochs) for i, number in epochs.items()]
        kept = [message for i, message in enumerate(messages) if i not in epochs]
        return itertools.chain(dropped, inner.exchange(kept) if kept else ())

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """The same of fewer epochs, or of fewer clients."""
        return sight

    def _draw(self, clients: int, server_round: int) -> dict[int, int]:
        """{place in the cohort: epochs} of a round's stragglers."""
        rng = generator(self.seed, "stragglers", server_round)
        places = rng.choice(clients, round(self.share * clients), replace=False)
        return dict(sorted(zip(places.tolist(), rng.integers(1, self.epochs + 1, len(places)).tolist(), strict=True)))


class _Settings(Callback):
    def __init__(self, mod: Stragglers) -> None:
        self._mod = mod

    def on_run_begin(self, run: "RunContext") -> None:
        self._mod.seed, self._mod.epochs = run.config.seed, run.config.local_epochs


def _with_epochs(message: Message, epochs: int | None) -> Message:
    """The message with a configuration of its own; its arrays stay those of all."""
    if epochs is None:
        return message
    content = RecordDict(dict(message.content.items()))
    content["config"] = ConfigRecord({**message.content["config"], LOCAL_EPOCHS: epochs})
    return Message(content, metadata=message.metadata)


def _dropped(message: Message, epochs: int, wanted: int) -> Message:
    """What stands for the reply of a client that is not waited for."""
    reason = f"is a simulated straggler: {epochs} of {wanted} epochs when the round ended, and is dropped"
    return Message(Error(ErrorCode.UNKNOWN, reason), reply_to=message)
