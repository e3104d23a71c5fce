"""Who is connected, and which messages wait for whom: a process with partitions of its own, or a pool that shares some.

A pool's processes all serve the same partitions, and whoever is free takes the next message. What a client computes is
a function of its message, so it does not matter who does it, and nobody waits while another has two to do.
"""

import asyncio
from dataclasses import dataclass, field

IN_FLIGHT = 2
"""Messages a pool's process may hold: one to work on and one that has already arrived."""


@dataclass(eq=False)
class Session:
    """One client process. `holding` are the messages it was sent and has not answered."""

    cids: tuple[int, ...]
    peer: str
    line: "Line"
    holding: set[str] = field(default_factory=set)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))

    async def next(self) -> tuple | None:
        """The next message for this process, when it may hold one more; None when it is to be sent away."""
        if self.line.shared:
            await self.slots.acquire()
        item = await self.line.queue.get()
        if item is None:
            return None
        message_id, outgoing = item
        self.holding.add(message_id)
        return outgoing

    def answered(self, message_id: str) -> None:
        """Note a reply."""
        if message_id in self.holding:
            self.holding.discard(message_id)
            self.slots.release()


@dataclass(eq=False)
class Line:
    """The messages that wait for a process, or for a pool's."""

    shared: bool
    queue: asyncio.Queue = field(default_factory=asyncio.Queue)
    members: set[Session] = field(default_factory=set)

    def dismiss(self) -> None:
        """Send all members away, whatever was still waiting for them."""
        while not self.queue.empty():
            self.queue.get_nowait()
        for member in self.members:
            member.slots.release()
            self.queue.put_nowait(None)


class Sessions:
    """All connected processes, and the line for each client id. Used in the network's loop; `cids` from any thread."""

    def __init__(self) -> None:
        self._lines: dict[int, Line] = {}

    def cids(self) -> list[int]:
        """The client ids that somebody serves."""
        return list(self._lines)

    def taken(self, cids: tuple[int, ...], shared: bool) -> int | None:
        """The first of these client ids that is served already by others than this pool; None if there is none."""
        for cid in cids:
            line = self._lines.get(cid)
            if line and not (shared and line.shared and all(member.cids == cids for member in line.members)):
                return cid
        return None

    def join(self, cids: tuple[int, ...], peer: str, shared: bool) -> Session:
        """Add a process that `taken` does not speak against."""
        line = self._lines.get(cids[0]) or Line(shared)
        session = Session(cids, peer, line)
        line.members.add(session)
        self._lines.update(dict.fromkeys(cids, line))
        return session

    def leave(self, session: Session) -> bool:
        """Remove a process; True if nobody serves its client ids now."""
        session.line.members.discard(session)
        if session.line.members:
            return False
        for cid in session.cids:
            self._lines.pop(cid, None)
        return True

    def put(self, cid: int, message_id: str, outgoing: tuple) -> bool:
        """Queue a message for whoever serves `cid`; False if nobody does."""
        line = self._lines.get(cid)
        if line:
            line.queue.put_nowait((message_id, outgoing))
        return line is not None

    def dismiss(self) -> None:
        """Send everyone away."""
        for line in set(self._lines.values()):
            line.dismiss()
