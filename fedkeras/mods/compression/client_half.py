"""The client's half: what came becomes float32 again; what is sent back is how the arrays have moved, compressed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict

from fedkeras.federation.records import of_kind, record, views
from fedkeras.federation.requests import ClientRequest
from fedkeras.mods.base import CallNext
from fedkeras.mods.compression.error_feedback import joined, sparsified, split
from fedkeras.mods.compression.forms import EXACT
from fedkeras.mods.compression.residual_memory import NAMES, ResidualMemory, memory_of
from fedkeras.mods.compression.wire import (
    DOWN,
    GAPS,
    LOST,
    RESIDUAL,
    RUN,
    SCALES,
    TABLE,
    TOPK,
    UP,
    Chance,
    forms_in,
    model_of,
    packed,
    table_of,
    unpacked,
)  # fmt: skip
from fedkeras.randomness import generator


def compressed_answer(message: Message, context: Context, call_next: CallNext) -> Message:
    """The answer to a compressed message; to one that is not, what `call_next` says.

    Raises ValueError for a message that cannot be read, and for an update that is not finite.
    """
    table, key = table_of(message.content), model_of(message.content)
    if table is None or key is None:
        return call_next(message, context)
    arrays = message.content[key]
    received = unpacked(arrays, forms_in(table, DOWN, len(arrays)), table.get(SCALES))
    plain = {name: entry for name, entry in message.content.items() if name != TABLE}
    inner = Message(RecordDict({**plain, key: record(received)}), metadata=message.metadata)
    reply = call_next(inner, context)
    own = None if reply.has_error() else _trained(reply.content, received)
    if message.metadata.message_type != MessageType.TRAIN or own is None:
        return reply
    forms = forms_in(table, UP, len(arrays))
    moved = _moved(views(reply.content[own]), received, forms)
    rounding = _rounding(ClientRequest(context, inner))
    beside = {name: entry for name, entry in reply.content.items() if name != own}
    if not table.get(TOPK):
        update, scales = packed(moved, forms, rounding)
        content = {own: update, **beside, TABLE: ConfigRecord({SCALES: scales})}
    else:
        with_feedback = ErrorFeedback.asked_for(table, context)
        content = {**with_feedback.records(own, moved, forms, rounding), **beside}
    return Message(RecordDict(content), metadata=reply.metadata)


@dataclass(frozen=True)
class ErrorFeedback:
    """Top-k with a residual: `share` of each array is sent, `used` is the digest that the server knows ("": none)."""

    share: float
    used: str
    memory: ResidualMemory

    @classmethod
    def asked_for(cls, table: ConfigRecord, context: Context) -> "ErrorFeedback":
        """As the server's message has it. Raises ValueError for what nobody can have meant."""
        share, used = table.get(TOPK), table.get(RESIDUAL)
        if type(share) is not float or not 0 < share < 1 or not (used == "" or NAMES.fullmatch(str(used))):
            raise ValueError("a compressed message asks for the largest numbers and does not say which residual counts")
        return cls(share, str(used), memory_of(context, str(table.get(RUN))))

    def records(
        self, key: str, moved: Mapping[str, np.ndarray], forms: Sequence[str], rounding: Chance
    ) -> dict[str, ArrayRecord | ConfigRecord]:
        """The reply's records; what is not sent is in the memory by then."""
        sparse = {name: array for (name, array), form in zip(moved.items(), forms, strict=True) if form != EXACT}
        before = self.memory.recall(self.used) if self.used else None
        lost = bool(self.used) and (before is None or before.size != sum(array.size for array in sparse.values()))
        residuals = {} if before is None or lost else split(before, sparse)
        data, gaps, scales, rest = {}, {}, [], {}
        for (name, array), form in zip(moved.items(), forms, strict=True):
            if form == EXACT:
                data[name] = array
                scales.append(1.0)
                continue
            whole = array + residuals[name] if name in residuals else array
            try:
                (values, gaps[name]), rest[name] = sparsified(whole, self.share, form, rounding(name))
            except ValueError as error:
                raise ValueError(f"'{name}': {error}") from error
            data[name] = values.data
            scales.append(values.scale)
        digest = self.memory.keep(self.used, joined(rest))
        table = ConfigRecord({SCALES: scales, RESIDUAL: digest, LOST: lost})
        return {key: record(data), GAPS: record(gaps), TABLE: table}


def _trained(content: RecordDict, received: Mapping[str, np.ndarray]) -> str | None:
    """The key of the record with the trained arrays; None: the server says what is wrong with the answer."""
    found = of_kind(content, ArrayRecord)
    return next((name for name, arrays in found.items() if list(arrays) == list(received)), None)


def _moved(
    after: Mapping[str, np.ndarray], before: Mapping[str, np.ndarray], forms: Sequence[str]
) -> dict[str, np.ndarray]:
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused when it is packed
        return {
            name: after[name] if form == EXACT else after[name] - array
            for (name, array), form in zip(before.items(), forms, strict=True)
        }


def _rounding(request: ClientRequest) -> Chance:
    """By chance, from seed, round, client and array: the same in every runtime."""
    seed, server_round, cid = request.config.seed, int(request.sent["server-round"]), request.cid
    return lambda name: generator(seed, "compression", server_round, cid, name)
