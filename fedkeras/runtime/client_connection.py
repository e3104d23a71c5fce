"""The server's view of one client process: its session, its present connection, and the messages that wait for it.

Everything here runs in the network's loop.
"""

import asyncio
import os
from collections import deque
from dataclasses import dataclass, field

from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Settled
from fedkeras.runtime.wire import Outgoing

PROCESSES = 256
"""Processes that may share the same partitions; each has buffers of its own in the server's memory."""

IN_FLIGHT = 2
"""Messages that a process of a pool may hold: one to work on and one that has already arrived."""

REMEMBERED = 256
"""Messages that a session was sent lately, whose replies may come twice or late."""


@dataclass(eq=False)
class Session:
    """One client process, which outlives its connections.

    `holding` are the messages that it was sent and has not answered, with None for those that nobody waits for any
    more; `recent` are the ids of all that it was sent lately. `acknowledgements` and `resend` are ids of messages that
    are acknowledged, or sent once more, as soon as there is a connection. `peer` is where the last one came from.
    """

    cids: tuple[int, ...]
    queue: "MessageQueue"
    name: bytes = field(default_factory=lambda: os.urandom(16))
    holding: dict[str, Outgoing | None] = field(default_factory=dict)
    recent: dict[str, None] = field(default_factory=dict)
    acknowledgements: deque[str] = field(default_factory=deque)
    resend: deque[str] = field(default_factory=deque)
    """By which its process, started again, could show that it held these cids."""
    connection: "ClientConnection | None" = None
    peer: str = ""
    expiry: asyncio.TimerHandle | None = None

    def next_message(self) -> Outgoing | None:
        """The next message for this process, if there is one and it may hold one more."""
        while self.resend:
            if outgoing := self.holding.get(self.resend.popleft()):
                return outgoing
        if not self.queue.waiting or (self.queue.shared and len(self.holding) >= IN_FLIGHT):
            return None
        message_id = next(iter(self.queue.waiting))
        self.holding[message_id] = outgoing = self.queue.waiting.pop(message_id)
        self.recent[message_id] = None
        while len(self.recent) > REMEMBERED + len(self.holding):
            self.recent.pop(next(iter(self.recent)))
        return outgoing

    def acknowledge(self, message_id: str) -> None:
        """Let the process know that nothing more is expected of it for this message."""
        self.acknowledgements.append(message_id)
        self.wake()

    def wake(self) -> None:
        """Let the connection look what there is to send."""
        if self.connection:
            self.connection.wake.set()


@dataclass(eq=False)
class ClientConnection:
    """One connection of a session; `goodbye` is the last thing to send on it."""

    session: Session
    peer: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    goodbye: Goodbye | None = None
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self, goodbye: Goodbye) -> None:
        """End it with this Goodbye, soon: whether the process reads it or not."""
        self.goodbye = goodbye
        self.closing.set()
        self.wake.set()

    async def next(self) -> Outgoing | Frame:
        """Wait for the next thing to send: a message, an acknowledgement (frame Settled), at last a Goodbye."""
        while True:
            self.wake.clear()
            if self.goodbye:
                return Frame(goodbye=self.goodbye)
            if self.session.acknowledgements:
                return Frame(settled=Settled(message_id=self.session.acknowledgements.popleft()))
            if outgoing := self.session.next_message():
                return outgoing
            await self.wake.wait()


@dataclass(eq=False)
class MessageQueue:
    """The messages that wait for a process, or for any process of a pool (`shared`).

    `sessions` are in the order in which they joined; `returned` are the ids of messages that came back from a process
    that was lost.
    """

    cids: tuple[int, ...]
    shared: bool
    waiting: dict[str, Outgoing] = field(default_factory=dict)
    sessions: dict[Session, None] = field(default_factory=dict)
    returned: set[str] = field(default_factory=set)

    def is_served(self) -> bool:
        """True if one of its processes is connected now."""
        return any(session.connection for session in self.sessions)

    def take_back(self, session: Session) -> None:
        """Put what a process holds at the head of the queue, for others."""
        held = {key: outgoing for key, outgoing in session.holding.items() if outgoing}
        session.holding.clear()
        self.returned.update(held)
        self.waiting = held | self.waiting
        self.wake()

    def wake(self) -> None:
        """Let all connections look what there is to send."""
        for session in self.sessions:
            session.wake()


def cids_text(cids: tuple[int, ...]) -> str:
    """Client ids in a log line: "3", or "0-9"."""
    return str(cids[0]) if len(cids) == 1 else f"{cids[0]}-{cids[-1]}"
