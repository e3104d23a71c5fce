"""Several mods as one: which are chosen, and in which order their hooks are called."""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from flwr.app import Context, Error, Message
from flwr.serverapp.strategy import Strategy

from fedkeras.callbacks import Callback
from fedkeras.config import Config
from fedkeras.data import Examples
from fedkeras.errors import UserError, describe, one_line
from fedkeras.federation.dispatcher import Dispatcher
from fedkeras.federation.trainable import Trainable
from fedkeras.flower.internals import ErrorCode
from fedkeras.mods.base import CallNext, Exchange, Mod, ModelBytes
from fedkeras.named_code import EVERYTHING, Permission, make, parse_specs
from fedkeras.reports.page import ReportSection
from fedkeras.reports.run_folder import Json, RunFolder
from fedkeras.reports.server_view import UNSAID, Seen, Sight

if TYPE_CHECKING:
    from fedkeras.factory import CentralEvaluation

BUILT_IN: Mapping[str, str] = {
    "alie": "fedkeras.mods.attacks.alie:Alie",
    "backdoor": "fedkeras.mods.attacks.backdoor:Backdoor",
    "control-variates": "fedkeras.mods.control_variates:ControlVariates",
    "compress": "fedkeras.mods.compression.mod:Compression",
    "ditto": "fedkeras.mods.personalisation.ditto:Ditto",
    "dp": "fedkeras.mods.client_dp.mod:ClientDp",
    "dp-sgd": "fedkeras.mods.example_dp.mod:ExampleDp",
    "fine-tuning": "fedkeras.mods.personalisation.fine_tuning:FineTuning",
    "ipm": "fedkeras.mods.attacks.ipm:Ipm",
    "local-layers": "fedkeras.mods.personalisation.local_layers:LocalLayers",
    "label-flip": "fedkeras.mods.attacks.label_flip:LabelFlip",
    "min-max": "fedkeras.mods.attacks.min_max:MinMax",
    "noise": "fedkeras.mods.attacks.noise:Noise",
    "secure-aggregation": "fedkeras.mods.secure_aggregation.mod:SecureAggregation",
    "sign-flip": "fedkeras.mods.attacks.sign_flip:SignFlip",
    "stragglers": "fedkeras.mods.stragglers:Stragglers",
}
"""Name -> package.module:Class."""


def make_mods(text: str, permission: Permission = EVERYTHING) -> "ModChain":
    """The mods that `--mods` names, outermost first. Raises UserError; see named_code for names that came by wire."""
    return ModChain([make(spec, Mod, BUILT_IN, "mods", permission) for spec in parse_specs(text, "mods")])


@dataclass(frozen=True)
class ModChain:
    """Mods, the outermost first."""

    mods: Sequence[Mod] = field(default_factory=list)

    def check(self, config: Config, sends_updates: bool = True) -> None:
        """Raise UserError for what one of them cannot be combined with; `sends_updates`: see Mod.needs_updates."""
        for mod in self.mods:
            if mod.needs_updates and not sends_updates:
                raise UserError(
                    f"--mods {config.mods} is for federated rounds: in this way to train more reaches the server than "
                    "updates"
                )
            mod.check(config)

    def choose(self, config: Config) -> dict[str, str]:
        """What they decide by themselves; where two say something of the same, the outer one knows what comes of it."""
        found: dict[str, str] = {}
        for mod in self.mods:
            found |= {name: text for name, text in mod.choose(config).items() if name not in found}
        return found

    def warnings(self, clients: int) -> list[str]:
        """What must be known of a run with them, in whose rounds `clients` train."""
        return [warning for mod in self.mods for warning in mod.warnings(clients)]

    def tell(self, names: Collection[str], trainable: Trainable) -> None:
        """Tell all of them, on the server, which arrays there are, and which are trainable. Raises UserError."""
        self.check_arrays(names, trainable)
        for mod in self.mods:
            mod.trainable = trainable

    def check_arrays(self, names: Collection[str], trainable: Trainable) -> None:
        """Raise UserError for a model that one of them cannot be combined with."""
        for mod in self.mods:
            mod.check_arrays(names, trainable)

    def answer(self, message: Message, context: Context, handler: CallNext) -> Message:
        """On the client: the handler's answer with all mods around it."""
        for mod in reversed(self.mods):
            handler = functools.partial(_surrounded, mod, handler)
        return handler(message, context)

    def strategy(self, strategy: Strategy) -> Strategy:
        """The strategy with all mods around it."""
        for mod in reversed(self.mods):
            strategy = mod.strategy(strategy)
        return strategy

    def sample(self, eligible: Sequence[int], server_round: int, phase: str) -> list[int] | None:
        """The cohort, ascending, as the outermost mod that chooses one has it; None: no mod does."""
        for mod in self.mods:
            chosen = mod.sample(eligible, server_round, phase)
            if chosen is not None:
                return sorted(set(chosen) & set(eligible))
        return None

    @property
    def shows_clients(self) -> bool:
        """False if one of them hides the figures of single clients."""
        return all(mod.shows_clients for mod in self.mods)

    @property
    def shows_means(self) -> bool:
        """False if one of them hides what clients measure altogether."""
        return all(mod.shows_means for mod in self.mods)

    @property
    def shows_cohort(self) -> bool:
        """False if one of them hides who is asked."""
        return all(mod.shows_cohort for mod in self.mods)

    @property
    def own_models(self) -> bool:
        """True if under one of them clients end with models of their own."""
        return any(mod.own_models for mod in self.mods)

    @property
    def whole_model(self) -> bool:
        """False if under one of them the global arrays are a part of a model alone."""
        return all(mod.whole_model for mod in self.mods)

    @property
    def needs_replies(self) -> bool:
        """False if one of them makes a round of no reply at all."""
        return all(mod.needs_replies for mod in self.mods)

    @property
    def fixed_counts(self) -> bool:
        """False if one of them lets clients' numbers of examples change."""
        return all(mod.fixed_counts for mod in self.mods)

    @property
    def keeps_client_state(self) -> bool:
        """True if with one of them a client is half-way between two messages."""
        return any(mod.keeps_client_state for mod in self.mods)

    def reply_limit(self, limit: int | None, message: Message) -> int | None:
        """What all of them make of the limit."""
        for mod in reversed(self.mods):
            limit = mod.reply_limit(limit, message)
        return limit

    def model_bytes(self, arrays: Mapping[str, np.ndarray], trainable: Collection[str]) -> ModelBytes:
        """What is moved for a model of these arrays, all mods around it."""
        size = sum(array.nbytes for array in arrays.values())
        moved = ModelBytes(size, size)
        for mod in reversed(self.mods):
            moved = mod.model_bytes(moved, arrays, trainable)
        return moved

    def most_epochs(self, config: Config) -> int:
        """As many as one of them may have trained in a training of its own."""
        return max([config.local_epochs, *(mod.most_epochs(config) for mod in self.mods)])

    def training_examples(self, examples: Examples, config: Config, cid: int) -> Examples:
        """What a client trains on, as all of them have it, the innermost last."""
        for mod in self.mods:
            examples = mod.training_examples(examples, config, cid)
        return examples

    def central_metrics(self, central: "CentralEvaluation", weights: Mapping[str, np.ndarray]) -> dict[str, float]:
        """What all of them add to the server's line of a round."""
        return {name: value for mod in self.mods for name, value in mod.central_metrics(central, weights).items()}

    def callbacks(self) -> list[Callback]:
        """All of theirs."""
        return [callback for mod in self.mods for callback in mod.callbacks()]

    def summary(self) -> dict[str, Json]:
        """What all of them add to summary.json."""
        return {name: value for mod in self.mods for name, value in mod.summary().items()}

    def report_sections(self, folder: RunFolder) -> list[ReportSection]:
        """What all of them add to the report."""
        return [section for mod in self.mods for section in mod.report_sections(folder)]

    def server_saw(self, sight: Sight, config: Config) -> Sight:
        """What the server sees of clients' data, when what it would see without mods has gone through all of them.

        Of a mod that does not say what it does to it, a line says so.
        """
        for mod in reversed(self.mods):
            sight = mod.server_saw(sight, config)
            if type(mod).server_saw is Mod.server_saw:
                name = type(mod).__name__
                sight = {**sight, name: Seen(f"what the mod {name} sends besides, or instead", protection=UNSAID)}
        return sight

    def over(self, dispatcher: Dispatcher, limit_of: Callable[[Message], int | None]) -> "ModExchange":
        """A round's exchange by this dispatcher with all mods around it.

        `limit_of(message)`: the bytes of arrays that the workflow expects in the reply to a message, None for any.
        """
        return ModExchange(self, dispatcher, limit_of)


class ModExchange:
    """The server's way out and back: every mod's `exchange` around encoding, sending and decoding.

    `sent` is what each node was sent last, by node id, before it was encoded.
    """

    def __init__(self, mods: ModChain, dispatcher: Dispatcher, limit_of: Callable[[Message], int | None]) -> None:
        self._mods, self._dispatcher, self._limit_of = mods.mods, dispatcher, limit_of
        self._chain = mods
        self.sent: dict[int, Message] = {}

    def exchange(self, messages: Sequence[Message], seconds: float | None = None) -> Iterator[Message]:
        """Send now; yield the replies as they come, decoded. A mod may answer for a client that it does not ask.

        Each answer, of each step of it, counts for `seconds` at most, if they are fewer than the run's.
        """
        self.sent.update({message.metadata.dst_node_id: message for message in messages})
        inner: Exchange = _Wire(self) if seconds is None else _Within(_Wire(self), seconds)
        for mod in reversed(self._mods):
            inner = _Layer(mod, inner)
        return inner.exchange(messages)

    def transmit(self, messages: Sequence[Message], seconds: float | None = None) -> Iterator[Message]:
        """The innermost step; each answer counts for `seconds` at most, if they are fewer than the run's."""
        self.sent.update({message.metadata.dst_node_id: message for message in messages})
        limits = [self.reply_limit(message) for message in messages]
        if not self._mods:
            return self._dispatcher.exchange(messages, limits, seconds)
        encoded = [self.encoded(message) for message in messages]
        return map(self.decoded, self._dispatcher.exchange(encoded, limits, seconds))

    def reply_limit(self, message: Message) -> int | None:
        """Bytes of arrays that the reply to a message may have, on its way as well as when it is decoded."""
        return self._chain.reply_limit(self._limit_of(message), message)

    def encoded(self, message: Message) -> Message:
        """A message as it goes over the wire."""
        for mod in reversed(self._mods):
            message = mod.encode(message)
        return message

    def decoded(self, reply: Message) -> Message:
        """A reply to what its node was `sent` last, as the rest of the server knows it."""
        sent = self.sent[reply.metadata.src_node_id]
        try:
            for mod in self._mods:
                if reply.has_error():
                    break
                reply = mod.decode(reply, sent)
        except Exception as error:  # noqa: BLE001 - an answer that nobody thought of is its client's failure
            why = str(error) if isinstance(error, ValueError) else describe(error)
            reason = one_line(f"sent what cannot be decoded: {why}")
            return Message(Error(ErrorCode.UNKNOWN, reason), metadata=reply.metadata)
        return reply


@dataclass(frozen=True)
class _Wire:
    owner: ModExchange

    def exchange(self, messages: Sequence[Message], seconds: float | None = None) -> Iterator[Message]:
        return self.owner.transmit(messages, seconds)


@dataclass(frozen=True)
class _Layer:
    mod: Mod
    inner: Exchange

    def exchange(self, messages: Sequence[Message], seconds: float | None = None) -> Iterator[Message]:
        return self.mod.exchange(self.inner if seconds is None else _Within(self.inner, seconds), messages)


@dataclass(frozen=True)
class _Within:
    """What is inside of a mod, whose answers count for so many seconds at most."""

    inner: Exchange
    seconds: float

    def exchange(self, messages: Sequence[Message], seconds: float | None = None) -> Iterator[Message]:
        return self.inner.exchange(messages, min(self.seconds, self.seconds if seconds is None else seconds))


def _surrounded(mod: Mod, inner: CallNext, message: Message, context: Context) -> Message:
    return mod.client(message, context, inner)
