"""Where replies wait until the round loop takes them, and how it waits for them."""

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flwr.app import Error, Message

from fedkeras.runtime.peer_log import Allowance

log = logging.getLogger("fedkeras")

LATE_LINES, LATE_SECONDS = 50, 5.0
"""Lines about answers that came too late: so many at once, and one more each so many seconds."""


class Asked(NamedTuple):
    """A message that a node was sent, how many bytes of arrays the reply may have (None: any number), and its place
    among all messages that were sent."""

    message: Message
    reply_limit: int | None
    place: int


class Mailbox:
    """Messages that were sent and not yet answered, and their replies. Safe between two threads: the network's, which
    delivers replies, and the round loop's, which takes them."""

    def __init__(self) -> None:
        self._changed, self._places = threading.Condition(), itertools.count()
        self._outstanding: dict[str, Asked] = {}
        self._replies: dict[str, tuple[Message, Callable[[], None]]] = {}
        self._late = Allowance(LATE_LINES, LATE_SECONDS, LATE_LINES, time.monotonic())

    def expect(self, message: Message, reply_limit: int | None = None) -> None:
        """Note a message that is about to be sent; its reply may have `reply_limit` bytes of arrays (None: any)."""
        with self._changed:
            self._outstanding[message.metadata.message_id] = Asked(message, reply_limit, next(self._places))

    def expected(self, message_id: str) -> Message | None:
        """The message of this id if a reply to it is still expected, else None: it was answered, or given up."""
        asked = self.asked(message_id)
        return asked and asked.message

    def asked(self, message_id: str) -> "Asked | None":
        """The same, with what its reply may have."""
        with self._changed:
            return self._outstanding.get(message_id)

    def outstanding(self, node_ids: Iterable[int]) -> list[str]:
        """Ids of the messages that these nodes have not answered."""
        nodes = set(node_ids)
        with self._changed:
            return [key for key, asked in self._outstanding.items() if asked.message.metadata.dst_node_id in nodes]

    def deliver(self, reply: Message, on_release: Callable[[], None] = lambda: None) -> None:
        """Put a reply in. One that is not expected is dropped: it came too late, or twice.

        `on_release` is called when the mailbox no longer holds the reply: it was taken, given up or dropped.
        """
        with self._changed:
            if self._outstanding.pop(reply.metadata.reply_to_message_id, None) is None:
                if self._late.take(time.monotonic()):  # a client may send one reply for ever
                    log.warning("an answer of node %d came too late and is dropped", reply.metadata.src_node_id)
                on_release()
                return
            self._replies[reply.metadata.reply_to_message_id] = reply, on_release
            self._changed.notify_all()

    def fail(self, message_id: str, code: int, reason: str) -> None:
        """Answer a message with an error in the place of a node that cannot; `code` is one of Flower's ErrorCode."""
        if message := self.expected(message_id):
            self.deliver(Message(Error(code, reason), reply_to=message))

    def take(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to these messages that have arrived, removed from the mailbox."""
        with self._changed:
            found = [self._replies.pop(message_id) for message_id in list(message_ids) if message_id in self._replies]
        for _, on_release in found:
            on_release()
        return [reply for reply, _ in found]

    def wait(self, message_ids: Iterable[str], timeout: float) -> list[Message]:
        """Like `take`, but waits up to `timeout` seconds until there is at least one."""
        wanted, deadline = set(message_ids), time.monotonic() + timeout
        with self._changed:
            while not wanted & self._replies.keys() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
        return self.take(wanted)

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Give these messages up: replies to them are dropped."""
        with self._changed:
            for message_id in message_ids:
                self._outstanding.pop(message_id, None)
                _, on_release = self._replies.pop(message_id, (None, lambda: None))
                on_release()
