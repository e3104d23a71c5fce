"""What our two grids have in common: Flower's Grid interface over a mailbox and client ids."""

import time
import uuid
from collections.abc import Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedkeras.flower.identity import SERVER_NODE_ID, be
from fedkeras.runtime.mailbox import Mailbox


class OwnGrid(Grid):
    """A Grid that can also wait for replies instead of polling, and knows which node is which client."""

    patient = False
    """True: clients run inside of it, one after the other, and nobody is late."""

    def __init__(self, run_id: int = 1) -> None:
        self._run = Run.create_empty(run_id)
        self._mailbox = Mailbox()
        be(SERVER_NODE_ID, run_id)

    def cids(self) -> dict[int, int]:
        """Connected nodes as {node id: cid}."""
        raise TypeError(f"{type(self).__name__} does not say who is connected")

    def wait_for_replies(self, message_ids: Iterable[str], timeout: float) -> list[Message]:
        """At least one reply to these messages, or none after `timeout` seconds."""
        return self._mailbox.wait(message_ids, timeout)

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Give these messages up: replies that still come are dropped and logged."""
        self._mailbox.abandon(message_ids)

    def set_run(self, run: Run) -> None:
        """Set the run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run's description."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A new message; Flower prefers its constructor."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Connected nodes, in the order of cid."""
        return sorted(self.cids())

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there."""
        return self._mailbox.take(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send, and wait for all replies or `timeout` seconds."""
        waiting, replies = set(self.push_messages(messages)), []
        deadline = time.monotonic() + (timeout if timeout is not None else NO_TIMEOUT)
        while waiting and (left := deadline - time.monotonic()) > 0:
            for reply in self.wait_for_replies(waiting, left):
                waiting.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
        self.abandon(waiting)
        return replies

    def _register(self, message: Message) -> str:
        """Give a message its id and expect a reply to it."""
        message_id = uuid.uuid4().hex
        message.metadata.__dict__["_message_id"] = message_id  # as Flower's own grids do: there is no setter
        self._mailbox.expect(message)
        return message_id


NO_TIMEOUT = 365.0 * 24 * 3600
"""Seconds that stand for no time-out; threading refuses infinity."""
