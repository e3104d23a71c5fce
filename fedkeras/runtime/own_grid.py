"""What our two grids have in common: Flower's Grid interface over a mailbox, and what Flower's own grids lack."""

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedkeras.flower.identity import SERVER_NODE_ID, act_as
from fedkeras.flower.internals import Run, new_run, set_message_id
from fedkeras.runtime.mailbox import Mailbox

HoldersTable = Mapping[str, str | Mapping[str, str]]
"""Who holds which client id, in a checkpoint: {"run": "<the run's name in hexadecimal>", "cids": {"3": "<SHA-256 of a
secret>", "4": "certificate anna"}}."""

NO_TIMEOUT = 365.0 * 24 * 3600
"""Seconds that stand for no time-out; threading refuses infinity."""


@dataclass(frozen=True)
class Ending:
    """How a run that ended well ended for a client that had no part in it: it `failed`, or nobody asked it; why."""

    failed: bool
    reason: str


class OwnGrid(Grid):
    """A Grid of our own runtimes. Beyond Flower's interface it

    - waits for replies instead of polling for them: `wait_for_replies`;
    - bounds replies before they are there: `push_within`;
    - gives messages up, so that a client that has not begun them need not: `abandon`;
    - knows which node is which client without sending a message: `cids`;
    - declares how its clients run: `patient`, `keeps_processes`;
    - tells clients at the end what became of them: `set_endings`.
    """

    patient: bool = False
    """True if clients run within this process, one after the other, while they are waited for. No client is late then,
    and a time-out would only count against those whose time has not come."""

    keeps_processes: bool = True
    """True if a client's process lasts from message to message, so that it may keep a model, a compiled graph, or what
    another message of the same round needs. (Under Flower's SuperNodes each message has a process of its own, and in
    its simulation any worker may get the next one.)"""

    def __init__(self, run_id: int = 1) -> None:
        self._run = new_run(run_id)
        self._mailbox = Mailbox()
        act_as(SERVER_NODE_ID, run_id)

    def cids(self) -> dict[int, int]:
        """Connected nodes as {node id: cid}."""
        raise TypeError(f"{type(self).__name__} does not say who is connected")

    def wait_for_replies(self, message_ids: Iterable[str], timeout: float) -> list[Message]:
        """At least one reply to these messages, or none after `timeout` seconds."""
        return self._mailbox.wait(message_ids, timeout)

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Give these messages up: replies that still come are dropped and logged."""
        self._mailbox.abandon(message_ids)

    def holders(self) -> HoldersTable:
        """Who holds which client id, for a checkpoint. Here nobody can take another's."""
        return {}

    def set_endings(self, endings: Mapping[int, Ending]) -> None:
        """The run has ended well; by cid, how for the clients that had no part in it. Here nobody waits to be told."""

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

    def push_within(self, messages: Sequence[Message], reply_limits: Sequence[int | None]) -> Iterable[str]:
        """As `push_messages`; the reply to each may have so many bytes of arrays (None: any number).

        Where clients are other processes, a larger reply is refused before its bytes are taken. Within one process
        there is nobody to be refused.
        """
        return self.push_messages(messages)

    def get_node_ids(self) -> Iterable[int]:
        """Connected nodes, in the order of cid."""
        return sorted(self.cids())

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that have arrived."""
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

    def _register(self, message: Message, reply_limit: int | None = None) -> str:
        """Name a message and expect a reply to it. Returns its id."""
        message_id = uuid.uuid4().hex
        set_message_id(message, message_id)
        self._mailbox.expect(message, reply_limit)
        return message_id
