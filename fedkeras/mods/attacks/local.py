"""Attacks on the update that a client makes by itself: it trains as it should, and sends something else.

They are played in the client's own process, so that it is the lie that travels.
"""

import numpy as np
from flwr.app import Context, Message, MessageType

from fedkeras.federation.requests import ClientRequest
from fedkeras.mods.attacks.attack import AttackMod
from fedkeras.mods.attacks.updates import Update, update_of, with_update
from fedkeras.mods.base import CallNext
from fedkeras.randomness import generator


class LocalAttack(AttackMod):
    """A subclass says what a client sends in the place of its update."""

    def lie(self, update: Update, rng: np.random.Generator) -> Update:
        """What it sends, of the same arrays; `rng` is a function of seed, round and client."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its clients send")

    def client(self, message: Message, context: Context, call_next: CallNext) -> Message:
        """The lie, if this client is malicious and was asked to train; whatever else it is asked it answers."""
        reply = super().client(message, context, call_next)
        if message.metadata.message_type != MessageType.TRAIN or reply.has_error():
            return reply
        request = ClientRequest(context, message)
        if not self.is_malicious(request.config, request.cid):
            return reply
        rng = generator(request.config.seed, self.name, int(request.sent["server-round"]), request.cid)
        # An array that training has not moved is no trainable one: a frozen layer's
        moved = {name: change for name, change in update_of(reply, message).items() if change.any()}
        return with_update(reply, message, self.lie(moved, rng))
