"""A client's update, taken out of its answer, and another one put in its place.

An attack lies about what training moves: the trainable arrays. BatchNormalization's statistics, counters and frozen
layers stay as the client has them, for a negative variance would give a liar away at once.
"""

from collections.abc import Collection, Mapping

import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict

from fedkeras.federation.messages import arrays_of
from fedkeras.federation.records import of_kind, record, view
from fedkeras.federation.trainable import trainable_of

Update = Mapping[str, np.ndarray]
"""What training has added to each trainable array, by name, float64."""


def update_of(reply: Message, sent: Message, trainable: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """w_k - w of a train reply, whose arrays must fit those that were sent; without `trainable` names decide."""
    before, after = arrays_of(sent.content), arrays_of(reply.content)
    names = trainable_of(before, trainable)
    return {name: np.subtract(view(after[name]), view(before[name]), dtype=np.float64) for name in names}


def with_update(reply: Message, sent: Message, update: Update) -> Message:
    """The reply as if its client had come to `update`; all else in it, its figures too, stays."""
    before, arrays = arrays_of(sent.content), arrays_of(reply.content)
    key = next(name for name in of_kind(reply.content, ArrayRecord))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is the client's failure, as it is for all
        lies = {name: (view(before[name]) + change).astype(before[name].dtype) for name, change in update.items()}
    changed = ArrayRecord({**arrays, **record(lies)})
    return Message(RecordDict({**reply.content, key: changed}), metadata=reply.metadata)


def norm(update: Update) -> float:
    """Its Euclidean length over all arrays."""
    return float(np.sqrt(dot(update, update)))


def dot(first: Update, second: Update) -> float:
    """Their inner product over all arrays."""
    return sum(float(np.vdot(change, second[name])) for name, change in first.items())
