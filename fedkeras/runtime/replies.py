"""What the server takes of its clients: a reply is judged by its header, before its bytes are there, and then read.

A reply may be as large as its message lets expect: `reply_limit` for its arrays, as whoever sent the message has said,
and for what is beside them what `wire.header_limit` allows. One that is larger is answered for in its client's place,
and its bytes pass by.
"""

import functools
from collections.abc import Callable

from flwr.app import Message

from fedkeras.flower.identity import SERVER_NODE_ID, cid_of, node_id_of
from fedkeras.flower.internals import ErrorCode
from fedkeras.runtime import wire
from fedkeras.runtime.content import WireError
from fedkeras.runtime.federation_pb2 import Header
from fedkeras.runtime.mailbox import Mailbox

InLoop = Callable[[Callable[[], None]], None]
"""Calls a function in the network's loop."""


class Replies:
    """Between the clients' streams and the mailbox. Everything but `InLoop` calls happens in the network's loop."""

    def __init__(self, mailbox: Mailbox, run_id: Callable[[], int], in_loop: InLoop) -> None:
        self._mailbox, self._run_id, self._in_loop = mailbox, run_id, in_loop

    def fault(self, header: Header, sent: Header) -> str:
        """Why the reply with this header to the message `sent` is not taken, or ''. Raises WireError."""
        if header.cid != sent.cid:
            raise WireError("a reply to another client's message")
        asked = self._mailbox.asked(header.reply_to_message_id)
        limit = asked.reply_limit if asked else None
        if limit is not None and header.payload_bytes > limit:
            return f"sent {header.payload_bytes} bytes of arrays, where {limit} are allowed"
        allowed, size = wire.header_limit(sent.ByteSize()), header.ByteSize()
        if size > allowed:
            return f"sent {size} bytes beside its arrays, where {allowed} are allowed"
        return ""

    def place(self, header: Header) -> int:
        """Whose turn it is among replies that wait: those to messages that were sent first go first."""
        asked = self._mailbox.asked(header.reply_to_message_id)
        return asked.place if asked else 0

    def read(self, header: Header, buffers: list[bytes]) -> Message:
        """A whole reply as a message. Raises WireError."""
        message = self._mailbox.expected(header.reply_to_message_id)
        if message is not None and cid_of(message.metadata.dst_node_id) != header.cid:
            raise WireError("a reply to another client's message")
        return wire.decode(header, buffers, self._run_id(), node_id_of(header.cid), SERVER_NODE_ID)

    def deliver(self, reply: Message, on_release: Callable[[], None]) -> None:
        """Hand a reply on; `on_release` is called in the network's loop when it is no longer held."""
        self._mailbox.deliver(reply, functools.partial(self._in_loop, on_release))

    def fail(self, message_id: str, reason: str) -> None:
        """Answer a message in the place of a client that has not done so as it should."""
        self._mailbox.fail(message_id, ErrorCode.UNKNOWN, reason)
