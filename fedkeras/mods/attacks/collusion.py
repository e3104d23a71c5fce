"""Attacks whose clients must know of each other: they train as they should, meet, and all send the same lie.

Where real colluders would talk to each other behind the server's back, these meet in the server's process: their honest
answers come over the wire, and here, before anything is checked or aggregated, the lie takes their place. So it is the
same, to the bit, in every runtime, and neither strategy nor checks can tell. This is a simulation of colluders.

What they know are the global weights, how many clients a round asks, how many of these are malicious, and *their own*
honest updates, from which they estimate what the others send. Only with `omniscient=true` do they know the updates of
the honest clients too: in the papers' words an attack with full knowledge, which nobody has who merely takes part.

Memory: the honest updates of a round's malicious clients in float64, with `omniscient` those of all.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flwr.app import Message, MessageType

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.federation.messages import arrays_of
from fedkeras.federation.validation import fault_of_train
from fedkeras.mods.attacks.attack import AttackMod
from fedkeras.mods.attacks.updates import Update, update_of, with_update
from fedkeras.mods.base import Exchange


class Round(NamedTuple):
    """How many clients a round asks to train, and how many of them are malicious."""

    clients: int
    malicious: int


class ColludingAttack(AttackMod):
    """A subclass makes one lie for all malicious clients of a round."""

    least = 2
    untracked = ("cid_of",)

    def __init__(self, malicious: float = 0.2, omniscient: bool = False) -> None:
        super().__init__(malicious)
        if not isinstance(omniscient, bool):
            raise ValueError(f"omniscient must be true or false, not {omniscient}")
        self.omniscient = omniscient
        self.cid_of: dict[int, int] = {}  # of node ids, in the phase that goes on

    def check(self, config: Config) -> None:
        """Their answers wait for each other, which a real clock could cut short."""
        super().check(config)
        if not config.clients and (config.over_select > 1 or config.round_deadline):
            flag = "--over-select" if config.over_select > 1 else "--round-deadline"
            raise UserError(
                f"--mods {self.name} does not go with {flag} by the real clock: its clients wait for each other, and "
                "the round could end before their lie is sent; add a simulated clock (--clients slow=lognormal)"
            )

    def lie(self, known: Sequence[Update], asked: Round) -> Update:
        """What all of them send, from the updates that they know, in the order of cid."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its clients send")

    @property
    def knowing(self) -> str:
        """What they know, as the end of a sentence."""
        return "knowing all honest updates (omniscient)" if self.omniscient else "knowing their own honest updates"

    def callbacks(self) -> Sequence[Callback]:
        """One that tells which node is which client."""
        return (_Cohort(self),)

    def exchange(self, inner: Exchange, messages: Sequence[Message]) -> Iterator[Message]:
        """The malicious clients' answers wait for each other; all others are handed on as they come."""
        replies = inner.exchange(messages)
        if not self.cids or not messages or messages[0].metadata.message_type != MessageType.TRAIN:
            return replies
        return self._lied(replies, {message.metadata.dst_node_id: message for message in messages})

    def _lied(self, replies: Iterator[Message], sent: Mapping[int, Message]) -> Iterator[Message]:
        malicious = {node for node in sent if self.cid_of.get(node) in self.cids}
        asked = Round(len(sent), len(malicious))
        honest = set(sent) - malicious
        waiting = set(sent) if self.omniscient else set(malicious)
        known: dict[int, Update] = {}  # by cid
        held: list[Message] = []
        for reply in replies:
            node = reply.metadata.src_node_id
            waiting.discard(node)
            good = not reply.has_error() and fault_of_train(reply, arrays_of(sent[node].content)) is None
            if good and node in (honest if self.omniscient else malicious):
                known[self.cid_of[node]] = update_of(reply, sent[node], self.trainable)
            if good and node in malicious:
                held.append(reply)
            else:
                yield reply
            if not waiting:
                yield from self._crafted(held, known, asked, sent)
                held = []
        yield from self._crafted(held, known, asked, sent)  # for somebody has not answered

    def _crafted(
        self, held: Sequence[Message], known: Mapping[int, Update], asked: Round, sent: Mapping[int, Message]
    ) -> Iterator[Message]:
        """The answers with the lie in them; as they are where nothing is known to make one from."""
        lie = self.lie([known[cid] for cid in sorted(known)], asked) if held and known else None
        for reply in held:
            yield reply if lie is None else with_update(reply, sent[reply.metadata.src_node_id], lie)


class _Cohort(Callback):
    def __init__(self, mod: ColludingAttack) -> None:
        self._mod = mod

    def on_phase_begin(
        self, server_round: int, phase: str, cohort: Mapping[int, int], suspended: Sequence[int]
    ) -> None:
        self._mod.cid_of = {node: cid for cid, node in cohort.items()}


def mean_of(updates: Sequence[Update]) -> dict[str, np.ndarray]:
    """Their mean, each counted once."""
    return {name: np.mean([update[name] for update in updates], axis=0) for name in updates[0]}


def deviation_of(updates: Sequence[Update]) -> dict[str, np.ndarray]:
    """Their standard deviation in each single weight, of the population of them (divided by their number)."""
    return {name: np.std([update[name] for update in updates], axis=0) for name in updates[0]}
