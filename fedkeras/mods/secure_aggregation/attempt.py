"""The server's half of one attempt: five messages to each client, and at the end one vector, the sum.

Bonawitz et al. 2017, figure 1, when all clients have trained, as in Bonawitz et al.: Towards Federated Learning at
Scale, MLSys 2019, section 6. What a client does wrong is its failure, said in one line; that the sum is right without
it is the protocol's business.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MessageType, MetricRecord, RecordDict

from fedkeras.errors import RunFailed, UserError, one_line
from fedkeras.federation.messages import NUM_EXAMPLES, arrays_of
from fedkeras.federation.records import of_kind, views
from fedkeras.federation.validation import MAX_EXAMPLES
from fedkeras.flower.internals import ErrorCode
from fedkeras.mods.base import Exchange
from fedkeras.mods.secure_aggregation import figures, update, wire
from fedkeras.mods.secure_aggregation.failures import SumNotCredible
from fedkeras.mods.secure_aggregation.keys import PublicKeys
from fedkeras.mods.secure_aggregation.plan import WORK, Outcome, Plan
from fedkeras.mods.secure_aggregation.server_session import SumServer
from fedkeras.mods.secure_aggregation.terms import Terms

Take = Callable[[int, RecordDict], None]
"""Takes the answer of a client, given by its id. Raises ValueError for one that is none."""
Values = Mapping[str, int | str | bytes | list[int] | list[str]]
"""Of a message's configuration."""
Steps = Iterator[Message]
"""A part of an attempt: it yields what the round's loop is to know at once, the failures."""


class TooFew(UserError):
    """Not enough clients are left for a sum."""


class SumAttempt:
    """Ask, take the answers, and hand the round's loop one for each client: an error, or what stands for a good one."""

    def __init__(
        self,
        plan: Plan,
        inner: Exchange,
        messages: Sequence[Message],
        cids: Mapping[int, int],
        opening: Callable[[frozenset[int]], None],
    ) -> None:
        """`messages` are the strategy's, `cids` is {node id: client id}.

        `opening(clients)` is called before the sum of these clients is opened; a UserError that it raises keeps it
        closed.
        """
        self._opening = opening
        self._plan, self._inner, self._cids = plan, inner, cids
        self._sent = {cids[message.metadata.dst_node_id]: message for message in messages}
        """What each client was sent last."""
        self._given = messages[0].content
        self._failed: set[int] = set()
        self._session: SumServer | None = None
        self._figures: list[str] = []
        self.outcome = Outcome(plan, len(messages))

    def begin(self) -> Iterator[Message]:
        """Send the strategy's messages now; each client's answer comes when it is asked for."""
        messages = list(self._sent.values())
        for content in {id(message.content): message.content for message in messages}.values():
            wire.config_of(content)[wire.ATTEMPT] = self._plan.name
        return self._answers(self._inner.exchange(messages))

    def _answers(self, arriving: Iterator[Message]) -> Iterator[Message]:
        outcome = self.outcome
        try:
            yield from self._sum(arriving)
        except RunFailed:
            raise
        except (UserError, ValueError) as error:  # too few clients, or a sum that is none, of which no number is used
            outcome.clients = outcome.examples = outcome.weight = outcome.clipped = outcome.values = 0
            outcome.figures, outcome.reason = {}, one_line(str(error))
        if self._session is not None:
            outcome.lost |= {phase: len(cids) for phase, cids in self._session.lost.items()}
            for cid, reason in sorted(self._session.refused.items()):
                if cid not in self._failed:
                    yield self._failure(cid, reason)
        left = [cid for cid in self._sent if cid not in self._failed]
        for place, cid in enumerate(left):
            yield self._stand_in(cid, max(1, (outcome.examples + place) // len(left)))

    def _sum(self, arriving: Iterator[Message]) -> Steps:
        names: dict[int, list[str]] = {}
        yield from self._take(WORK, arriving, lambda cid, content: names.update({cid: _names(content)}))
        self._require(len(names), "trained" if self._plan.kind == MessageType.TRAIN else "tested")
        self._figures = _common(names)
        values = update.size(views(arrays_of(self._given))) if self._plan.kind == MessageType.TRAIN else 0
        terms = self._plan.terms(sorted(names), values, figures.length(self._figures))
        self.outcome.terms, self._session = terms, SumServer(terms)
        yield from self._set_up(terms, self._session)
        yield from self._collect(terms, self._session)
        started = time.monotonic()
        total = self._session.sum()
        self._read(total, values, len(self._session.remaining))
        self.outcome.seconds["sum"] = time.monotonic() - started

    def _require(self, clients: int, done: str) -> None:
        if clients < self._plan.least:
            raise TooFew(
                f"a secure sum is of {self._plan.least} clients at least (min-clients, --min-results), and {clients} "
                f"have {done}"
            )

    def _require_no_difference(self, clients: frozenset[int]) -> None:
        """In a repeated round clients send what they have sent before, so two sums tell their difference."""
        before = set(self._plan.before)
        if clients in before:
            return
        if len(before) > 1 or any(len(clients ^ each) < self._plan.least for each in before):
            raise TooFew(
                "the round's earlier sum could not be used, and a second one, of which other clients are part, could "
                "give the updates of few of them away"
            )

    def _set_up(self, terms: Terms, session: SumServer) -> Steps:
        """Keys, and shares of the secrets, go from client to client."""
        keys: dict[int, PublicKeys] = {}
        told = {
            wire.TERMS: terms.to_bytes(),
            wire.FIGURES: self._figures,
            wire.MOST_EXAMPLES: self._plan.most_examples,
        }
        yield from self._ask(wire.ADVERTISE, {cid: (told, {}) for cid in terms.cohort}, _into(keys, _own_keys))
        rosters = session.advertised(keys)
        sealed: dict[int, dict[int, bytes]] = {}
        asked = {cid: ({}, {wire.KEYS: _key_record(roster)}) for cid, roster in rosters.items()}
        yield from self._ask(wire.SHARE, asked, _into(sealed, lambda _, content: wire.blobs_of(content, wire.SEALED)))
        self._letters = session.shared(sealed)

    def _collect(self, terms: Terms, session: SumServer) -> Steps:
        """Masked vectors, added as they come; then what takes the masks out of their sum."""

        def add(cid: int, content: RecordDict) -> None:
            if not session.masked(cid, wire.vector_of(content, terms.length)):
                raise ValueError(session.refused[cid])

        told = {wire.WORDS: terms.length}
        asked = {cid: (told, {wire.SEALED: wire.blobs(letters)}) for cid, letters in self._letters.items()}
        yield from self._ask(wire.MASK, asked, add)
        request = session.unmasking()
        self._require(len(request.survivors), "sent a masked vector")
        clients = frozenset(request.survivors)
        self._require_no_difference(clients)
        self._opening(clients)
        told = {wire.SURVIVORS: list(request.survivors), wire.DROPPED: list(request.dropped)}
        revealed: dict = {}
        asked = {cid: (told, {}) for cid in request.survivors}
        yield from self._ask(wire.UNMASK, asked, _into(revealed, lambda _, content: wire.shares_of(content)))
        session.unmasked(revealed)

    def _read(self, total: np.ndarray, values: int, clients: int) -> None:
        """What the sum says. Raises ValueError for one that clients who keep to the terms cannot have sent."""
        outcome, terms = self.outcome, self.outcome.terms
        own = terms.encoding.length(values) if values else 0
        sums = figures.from_words(total[own:], self._figures, clients)
        outcome.examples, outcome.weight = int(sums[figures.EXAMPLES]), int(sums[figures.WEIGHT])
        outcome.clipped, outcome.values = int(sums[figures.CLIPPED]), values * clients
        within = clients <= outcome.weight <= clients * self._plan.most_examples and outcome.clipped <= outcome.values
        if not within or not outcome.weight <= outcome.examples <= clients * MAX_EXAMPLES or outcome.clipped < 0:
            raise SumNotCredible("the clients' numbers of examples do not add up: somebody did not keep to the terms")
        measured = [name for name in self._figures if name not in figures.COUNTS]
        outcome.figures = {name: sums[name] / outcome.weight for name in measured}
        if values:
            mean, weight = terms.encoding.decode(total[:own], clients)
            if weight != outcome.weight:
                raise SumNotCredible("the clients' weights do not add up: somebody did not keep to the terms")
            outcome.arrays = update.moved(views(arrays_of(self._given)), mean)
        outcome.clients = clients

    def _ask(self, kind: str, asked: Mapping[int, tuple[Values, Mapping[str, ConfigRecord]]], take: Take) -> Steps:
        """The next message to some clients, {cid: (values, records)}."""
        node_of = {cid: message.metadata.dst_node_id for cid, message in self._sent.items()}
        messages = []
        for cid, (values, records) in asked.items():
            config = ConfigRecord({**values, wire.ATTEMPT: self._plan.name, "server-round": self._plan.round})
            content = RecordDict({"arrays": ArrayRecord(), "config": config, **records})
            messages.append(Message(content, node_of[cid], kind, group_id=str(self._plan.round)))
        self._sent.update({self._cids[message.metadata.dst_node_id]: message for message in messages})
        phase = kind.rpartition("_")[2]
        yield from self._take(phase, self._inner.exchange(messages, self._plan.seconds), take, asked)

    def _take(self, phase: str, arriving: Iterator[Message], take: Take, asked: Mapping | None = None) -> Steps:
        """Take the answers of a phase; who gives none that can be used is said, and is lost."""
        started, waiting = time.monotonic(), set(self._sent if asked is None else asked)
        for reply in arriving:
            cid = self._cids[reply.metadata.src_node_id]
            waiting.discard(cid)
            try:
                if reply.has_error():
                    raise ValueError(reply.error.reason or f"error {reply.error.code}")
                take(cid, reply.content)
            except ValueError as error:
                yield self._failure(cid, f"{error} (phase '{phase}' of a secure sum)", phase)
        for cid in sorted(waiting):
            yield self._failure(cid, f"gave no answer in time in phase '{phase}' of a secure sum", phase)
        self.outcome.seconds[phase] = time.monotonic() - started

    def _failure(self, cid: int, reason: str, phase: str = "") -> Message:
        self._failed.add(cid)
        if phase:
            self.outcome.lost[phase] += 1
        return Message(Error(ErrorCode.UNKNOWN, one_line(reason)), reply_to=self._sent[cid])

    def _stand_in(self, cid: int, examples: int) -> Message:
        """What the round's loop sees of a client that has failed in nothing: what it was sent, and a mean count."""
        trained = self._plan.kind == MessageType.TRAIN
        arrays = of_kind(self._sent[cid].content, ArrayRecord) if trained else {}
        metrics = MetricRecord({NUM_EXAMPLES: examples})
        return Message(RecordDict({**arrays, "metrics": metrics}), reply_to=self._sent[cid])


def _names(content: RecordDict) -> list[str]:
    return figures.readable(wire.config_of(content).get(wire.FIGURES))


def _common(names: Mapping[int, Sequence[str]]) -> list[str]:
    """The counts, and the figures that all clients have."""
    shared = set.intersection(*(set(each) for each in names.values()))
    return [*figures.COUNTS, *sorted(shared)]


def _own_keys(cid: int, content: RecordDict) -> PublicKeys:
    found = wire.blobs_of(content, wire.KEYS)
    if list(found) != [cid]:
        raise ValueError("sent no public keys of its own")
    return PublicKeys.from_bytes(found[cid])


def _key_record(roster: Mapping[int, PublicKeys]) -> ConfigRecord:
    return wire.blobs({peer: keys.to_bytes() for peer, keys in roster.items()})


def _into(table: dict, read: Callable) -> Take:
    """Keeps what `read(cid, content)` makes of a client's answer."""
    return lambda cid, content: table.update({cid: read(cid, content)})
