"""The client's half: what leaves a client is its update, clipped, and whether it had to be."""

import math

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict

from fedkeras.errors import UserError
from fedkeras.federation.grids import IDENTIFY
from fedkeras.federation.initial_weights import INITIAL_WEIGHTS
from fedkeras.federation.messages import NUM_EXAMPLES, arrays_of
from fedkeras.federation.records import of_kind, record, views
from fedkeras.mods.base import CallNext
from fedkeras.mods.client_dp.clipping import clipped, distance, factor
from fedkeras.mods.client_dp.noisy_mean import BOUND, TRAINABLE, WITHIN


def private_answer(message: Message, context: Context, call_next: CallNext) -> Message:
    """The answer of a client that trains by `call_next`: no loss, no number of examples, nothing untrained.

    Raises UserError for a question whose answer would not be protected, ValueError for one without a bound.
    """
    kind = message.metadata.message_type
    if kind in (IDENTIFY, INITIAL_WEIGHTS):
        return call_next(message, context)
    if kind != MessageType.TRAIN:
        raise UserError(f"--mods dp: a client answers no '{kind}', since the answer would not be protected")
    table = next(iter(of_kind(message.content, ConfigRecord).values()))
    bound, names = table.get(BOUND), table.get(TRAINABLE)
    if type(bound) is not float or not 0 < bound < math.inf or not isinstance(names, list):
        raise ValueError("the train message says no bound to clip to, as --mods dp does")
    origin = views(next(iter(of_kind(message.content, ArrayRecord).values())))
    reply = call_next(message, context)
    if reply.has_error():
        return reply
    arrays = views(arrays_of(reply.content))
    length = distance(arrays, origin, names)
    if not math.isfinite(length):
        raise ValueError("training gave numbers that are not finite (a smaller learning rate may help)")
    sent = clipped(arrays, origin, names, factor(length, bound))
    figures = MetricRecord({NUM_EXAMPLES: 1, WITHIN: int(length <= bound)})
    return Message(RecordDict({"arrays": record(sent), "metrics": figures}), metadata=reply.metadata)
