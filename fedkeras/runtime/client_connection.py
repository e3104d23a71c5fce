"""One process that takes part, its present connection, and the messages that wait for it or for its pool.

Everything here runs in the network's loop.
"""

import asyncio
import os
from collections import deque
from dataclasses import dataclass, field

from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Settled
from fedkeras.runtime.wire import Outgoing

IN_FLIGHT = 2
"""Messages a pool's process may hold: one to work on and one that has already arrived."""

REMEMBERED = 256
"""Messages a session was given lately, whose replies may come twice or late."""


@dataclass(eq=False)
class Session:
    """One client process. `holding` are the messages it was given and has not answered; None where nobody waits."""

    cids: tuple[int, ...]
    line: "MessageQueue"
    name: bytes = field(default_factory=lambda: os.urandom(16))
    holding: dict[str, Outgoing | None] = field(default_factory=dict)
    given: dict[str, None] = field(default_factory=dict)
    settled: deque[str] = field(default_factory=deque)
    again: deque[str] = field(default_factory=deque)
    link: "ClientConnection | None" = None
    expiry: asyncio.TimerHandle | None = None

    def give(self) -> Outgoing | None:
        """The next message for this process, if there is one and it may hold one more."""
        while self.again:
            if outgoing := self.holding.get(self.again.popleft()):
                return outgoing
        if not self.line.waiting or (self.line.shared and len(self.holding) >= IN_FLIGHT):
            return None
        message_id = next(iter(self.line.waiting))
        self.holding[message_id] = outgoing = self.line.waiting.pop(message_id)
        self.given[message_id] = None
        while len(self.given) > REMEMBERED + len(self.holding):
            self.given.pop(next(iter(self.given)))
        return outgoing

    def settle(self, message_id: str) -> None:
        """Tell the process that nothing more is wanted of it for this message."""
        self.settled.append(message_id)
        self.wake()

    def wake(self) -> None:
        """Let the connection look what there is to send."""
        if self.link:
            self.link.wake.set()


@dataclass(eq=False)
class ClientConnection:
    """One connection of a session; `goodbye` is the last thing to send on it."""

    session: Session
    peer: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    goodbye: Goodbye | None = None

    def close(self, goodbye: Goodbye) -> None:
        """End it."""
        self.goodbye = goodbye
        self.wake.set()

    async def next(self) -> Outgoing | Frame:
        """The next thing to send: a message, a Settled, at last a Goodbye."""
        while True:
            self.wake.clear()
            if self.goodbye:
                return Frame(goodbye=self.goodbye)
            if self.session.settled:
                return Frame(settled=Settled(message_id=self.session.settled.popleft()))
            if outgoing := self.session.give():
                return outgoing
            await self.wake.wait()


@dataclass(eq=False)
class MessageQueue:
    """The messages that wait for a process, or for a pool's."""

    cids: tuple[int, ...]
    shared: bool
    waiting: dict[str, Outgoing] = field(default_factory=dict)
    members: set[Session] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)

    def is_served(self) -> bool:
        """True if one of its processes is connected now."""
        return any(member.link for member in self.members)

    def take_back(self, session: Session) -> None:
        """Put what a process holds in front of the line, for others."""
        held = {key: outgoing for key, outgoing in session.holding.items() if outgoing}
        session.holding.clear()
        self.returned.update(held)
        self.waiting = held | self.waiting
        self.wake()

    def wake(self) -> None:
        """Let all connections look what there is to send."""
        for member in self.members:
            member.wake()


def label(cids: tuple[int, ...]) -> str:
    """Client ids in a log line."""
    return str(cids[0]) if len(cids) == 1 else f"{cids[0]}-{cids[-1]}"
