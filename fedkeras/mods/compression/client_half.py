"""The client's half: what came becomes float32 again; what is sent back is how the arrays have moved, compressed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict

from fedkeras.federation.records import of_kind, record, views
from fedkeras.federation.requests import ClientRequest
from fedkeras.mods.base import CallNext
from fedkeras.mods.client_state import KeptState
from fedkeras.mods.compression.error_feedback import sparsified
from fedkeras.mods.compression.forms import EXACT
from fedkeras.mods.compression.wire import (
    DOWN,
    GAPS,
    MOST,
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
    """Top-k with residuals: `share` of each array is sent, what is not is the client's state."""

    share: float
    state: KeptState

    @classmethod
    def asked_for(cls, table: ConfigRecord, context: Context) -> "ErrorFeedback":
        """As the server's message has it. Raises ValueError for what nobody can have meant."""
        share = table.get(TOPK)
        if type(share) is not float or not 0 < share <= MOST:
            raise ValueError(f"a compressed message asks for {share!r} of the numbers")
        return cls(share, KeptState.asked_for(table, context, "compress"))

    def records(
        self, key: str, moved: Mapping[str, np.ndarray], forms: Sequence[str], rounding: Chance
    ) -> dict[str, ArrayRecord | ConfigRecord]:
        """The reply's records; what is not sent is kept by then."""
        sparse = {name: array for (name, array), form in zip(moved.items(), forms, strict=True) if form != EXACT}
        residuals = self.state.recall(like=sparse)
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
        table = ConfigRecord({SCALES: scales, **self.state.keep(rest)})
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
