"""The client's half: it trains, keeps its update, and sends it masked; what it keeps is in `context.state` alone.

`context.state` is the client's own memory. It goes from message to message wherever a runtime sends them: in our
processes it stays where it is, in a simulation it travels between one person's workers, on a SuperNode it is in that
one's memory. The update is there until it is masked, the session (`SumClient.to_bytes`) until the attempt is over.
Who has lost it, since its process was started again, is lost for the attempt, and begins anew with the next one.
"""

import logging
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict

from fedkeras.errors import UserError
from fedkeras.federation.messages import NUM_EXAMPLES, arrays_of, metrics_of
from fedkeras.federation.records import record, view, views
from fedkeras.mods.base import CallNext
from fedkeras.mods.secure_aggregation import figures, update, wire
from fedkeras.mods.secure_aggregation.client_session import SumClient
from fedkeras.mods.secure_aggregation.encoding import Integers, Quantised
from fedkeras.mods.secure_aggregation.failures import ProtocolRefused
from fedkeras.mods.secure_aggregation.keys import PublicKeys
from fedkeras.mods.secure_aggregation.terms import Terms

if TYPE_CHECKING:
    from fedkeras.mods.secure_aggregation.mod import SecureAggregation

log = logging.getLogger("fedkeras")

MUCH = 1e-3
"""Share of the values cut off above which a client's user, and the server's, is told aloud, once in a run."""

STATE, UPDATE, SAID = "secure-aggregation", "secure-aggregation-update", "secure-aggregation-said"
"""Names of records in `context.state`."""
NOT_SUMMED = (NUM_EXAMPLES, "seconds")
"""Of a client's metrics; the first is counted by itself, the second is nobody's mean."""


class Participant:
    """One client, for one message."""

    def __init__(self, mod: "SecureAggregation", message: Message, context: Context) -> None:
        self._mod, self._message, self._state = mod, message, context.state
        self._seed = int(context.run_config.get("seed", 0))
        self._cid = int(context.node_config["partition-id"])
        self._told = wire.config_of(message.content)

    def answer(self, context: Context, call_next: CallNext) -> Message:
        """The answer to any message of an attempt. What it refuses is an exception, and ends the attempt for it."""
        kind = self._message.metadata.message_type
        if kind in (MessageType.TRAIN, MessageType.EVALUATE):
            return self._work(context, call_next)
        kept = self._state.get(STATE)
        if kept is None or kept["attempt"] != self._told.get(wire.ATTEMPT):  # of another attempt nothing is forgotten
            raise UserError(
                f"client {self._cid} is not in this attempt at a secure sum: its process was started again, or the "
                "attempt is over"
            )
        try:
            content = self._step(kind, kept)
        except Exception:
            self._forget()
            raise
        return Message(content, reply_to=self._message)

    def _work(self, context: Context, call_next: CallNext) -> Message:
        """Train or test; keep what came of it, and say which figures there are."""
        self._forget()
        name = self._told.get(wire.ATTEMPT)
        if not isinstance(name, str) or not name:
            raise UserError("the server asks for an update that would not be masked, and --mods has secure-aggregation")
        reply = call_next(self._message, context)
        if reply.has_error():
            return reply
        metrics = dict(metrics_of(reply.content))
        table = {"attempt": name, "kind": self._message.metadata.message_type, "examples": int(metrics[NUM_EXAMPLES])}
        if table["examples"] < 1:
            raise ValueError("a client without examples has nothing to add to a sum")
        measured = {key: float(value) for key, value in metrics.items() if key not in NOT_SUMMED}
        names = figures.readable(sorted(measured))
        figures.to_words(measured, names, 1)  # what cannot be added up is said here
        if table["kind"] == MessageType.TRAIN:
            own, origin = views(arrays_of(reply.content)), views(arrays_of(self._message.content))
            self._state[UPDATE] = record({"update": update.flattened(own, origin)})
        self._state[STATE] = ConfigRecord({**table, "names": names, "values": [measured[each] for each in names]})
        return Message(RecordDict({"config": ConfigRecord({wire.FIGURES: names})}), metadata=reply.metadata)

    def _step(self, kind: str, kept: ConfigRecord) -> RecordDict:
        """One step of the protocol. Raises ProtocolRefused for one that is not this attempt's next."""
        randomness = self._mod.randomness(self._seed, self._cid, f"{kept['attempt']} {kind}")
        if kind == wire.ADVERTISE:
            if "session" in kept:
                raise ProtocolRefused("the server asks for keys twice in one attempt at a secure sum")
            session = SumClient(self._terms(kept), self._cid, randomness)
            kept["summed"], kept["most"] = self._told[wire.FIGURES], self._told[wire.MOST_EXAMPLES]
            content = RecordDict({wire.KEYS: wire.blobs({self._cid: session.advertise().to_bytes()})})
        else:
            if "session" not in kept:
                raise ProtocolRefused(f"the server asks for '{kind}' before there are terms of a secure sum")
            session = SumClient.from_bytes(kept["session"], randomness)
            content = {wire.SHARE: self._share, wire.MASK: self._mask, wire.UNMASK: self._unmask}[kind](session, kept)
        kept["session"] = session.to_bytes()
        if not session.next_step:
            self._forget()
        return content

    def _terms(self, kept: ConfigRecord) -> Terms:
        """The server's terms, held against this run's options and what this client has. Raises ProtocolRefused."""
        mod, data, names = self._mod, self._told.get(wire.TERMS), self._told.get(wire.FIGURES)
        most = self._told.get(wire.MOST_EXAMPLES)
        if not isinstance(data, bytes) or not isinstance(names, list) or type(most) is not int or most < 1:
            raise ProtocolRefused("the server says no terms for a secure sum")
        terms = Terms.from_bytes(data)
        if terms.max_dropout > mod.max_dropout or terms.colluding != mod.colluding:
            raise ProtocolRefused(
                f"the server's terms are max-dropout={terms.max_dropout:g},colluding={terms.colluding:g}, and this "
                f"run's --mods say {mod.max_dropout:g} and {mod.colluding:g}"
            )
        if isinstance(terms.encoding, Quantised) and terms.encoding.clip != mod.clip:
            raise ProtocolRefused(f"the server's terms are clip={terms.encoding.clip:g}, and --mods says {mod.clip:g}")
        if len(terms.cohort) < mod.min_clients:
            raise ProtocolRefused(
                f"a secure sum of {len(terms.cohort)} clients is asked for, and min-clients is {mod.min_clients}"
            )
        trained = kept["kind"] == MessageType.TRAIN
        values = self._update().size if trained else 0
        if isinstance(terms.encoding, Quantised) != trained or len(names) != len(set(names)):
            raise ProtocolRefused("the server's terms are for another sum than this client has something for")
        if unknown := set(names) - set(figures.COUNTS) - set(kept["names"]):
            raise ProtocolRefused(f"a figure is asked for that this client does not have: {sorted(unknown)[0][:50]}")
        if terms.length != terms.encoding.length(values + figures.length(names)):
            raise ProtocolRefused(f"the server's terms are for {terms.length} words, which this client's update is not")
        return terms

    def _share(self, session: SumClient, kept: ConfigRecord) -> RecordDict:
        roster = {
            cid: PublicKeys.from_bytes(keys) for cid, keys in wire.blobs_of(self._message.content, wire.KEYS).items()
        }
        return RecordDict({wire.SEALED: wire.blobs(session.share(roster))})

    def _mask(self, session: SumClient, kept: ConfigRecord) -> RecordDict:
        if session.next_step != "mask":  # of an update that is gone by now
            raise ProtocolRefused(f"the server asks for a masked vector, and '{session.next_step}' comes next")
        sealed = wire.blobs_of(self._message.content, wire.SEALED)
        masked = session.mask(sealed, self._vector(session.terms, kept))
        self._state.pop(UPDATE, None)
        return RecordDict({"arrays": wire.vector(masked)})

    def _unmask(self, session: SumClient, kept: ConfigRecord) -> RecordDict:
        survivors, dropped = (wire.cids_of(self._told, key) for key in (wire.SURVIVORS, wire.DROPPED))
        if len(survivors) < self._mod.min_clients:
            raise ProtocolRefused(
                f"the sum of {len(survivors)} clients would be opened, and min-clients is {self._mod.min_clients}"
            )
        return RecordDict(wire.shares(session.unmask(survivors, dropped)))

    def _vector(self, terms: Terms, kept: ConfigRecord) -> np.ndarray:
        """What is masked: the quantised update and the weight, if there is an update, and the figures."""
        measured = dict(zip(kept["names"], kept["values"], strict=True))
        weight = min(kept["examples"], kept["most"])
        counts, own = {figures.EXAMPLES: kept["examples"], figures.CLIPPED: 0}, np.zeros(0, np.uint32)
        if isinstance(terms.encoding, Quantised):
            rng = np.random.default_rng(0)  # rounding is to the nearest: nothing is drawn
            encoded = terms.encoding.encode(self._update(), weight, rng)
            own, counts[figures.CLIPPED], weight = encoded.vector, encoded.clipped, encoded.weight
            self._say(encoded.clipped, own.size - 1, terms.encoding.clip)
        else:
            assert isinstance(terms.encoding, Integers)
        if kept["most"] == 1:  # all count alike, and how many examples somebody has is nobody's business
            counts[figures.EXAMPLES] = weight
        words = figures.to_words({**measured, **counts, figures.WEIGHT: weight}, kept["summed"], weight)
        return np.concatenate([own, words])

    def _say(self, clipped: int, values: int, clip: float) -> None:
        """This client's own user hears what was cut off, of much of it once aloud; nobody else learns whose it was."""
        if not clipped:
            return
        aloud = clipped > MUCH * values and SAID not in self._state
        log.log(
            logging.WARNING if aloud else logging.INFO,
            "client %d: %d of %d values of its update were cut off at %g (clip, --mods secure-aggregation)",
            self._cid, clipped, values, clip,
        )  # fmt: skip
        if aloud:
            self._state[SAID] = ConfigRecord({"clipped": clipped})

    def _update(self) -> np.ndarray:
        return view(self._state[UPDATE]["update"])

    def _forget(self) -> None:
        """Nothing of an attempt is left."""
        for name in (STATE, UPDATE):
            self._state.pop(name, None)
