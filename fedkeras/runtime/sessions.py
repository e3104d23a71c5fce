"""Who takes part: a process with partitions of its own, or a pool that shares some.

A session outlives its connection: a process that comes back in time goes on where it was. A pool's processes all serve
the same partitions, and whoever is free takes the next message. What a client computes is a function of its message, so
it does not matter who does it. Everything here runs in the network's loop, but for `Sessions.cids`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from fedkeras.runtime.client_connection import ClientConnection, MessageQueue, Session, label
from fedkeras.runtime.federation_pb2 import Goodbye, Hello
from fedkeras.runtime.wire import Outgoing

log = logging.getLogger("fedkeras")

QUEUE = 4096
"""Messages that may wait for a process. A round sends one; an app that sends this many without waiting is mistaken."""


class Sessions:
    """All processes, and the line for each client id.

    `grace`: seconds for which a process that lost its connection is waited for. `fail(message_ids, cids, reason)` is
    called for messages that nobody will answer: these, and all that these clients owe.
    """

    def __init__(self, grace: float, fail: Callable[[Iterable[str], Iterable[int], str], None]) -> None:
        self._grace, self._fail = grace, fail
        self._lines: dict[int, MessageQueue] = {}
        self._names: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._names)

    def cids(self) -> list[int]:
        """The client ids that somebody serves, or is expected back to serve."""
        return list(self._lines)

    def forget_session(self, name: bytes) -> None:
        """A process that came back when all was over has been told."""
        if session := self._names.get(name):
            self._leave(session, "it was told that the run is over")

    def taken(self, hello: Hello) -> int | None:
        """The first of its client ids that others serve already, not being this process's own pool; None: none is."""
        cids, mine = tuple(hello.cids), self._names.get(hello.session)
        for cid in () if hello.replace else cids:
            line = self._lines.get(cid)
            pool = line and hello.shared and line.shared and line.cids == cids
            if line and line.is_served() and not pool and not (mine and mine.line is line):
                return cid
        return None

    def join(self, hello: Hello, cids: tuple[int, ...], peer: str) -> tuple[ClientConnection, bool]:
        """Add a process that `taken` does not speak against; True if it goes on with a session that it had."""
        session = self._names.get(hello.session)
        if session and session.cids == cids:
            return self._come_back(session, hello, peer), True
        line = self._inherit(cids, hello.shared)
        session = Session(cids, line)
        session.link = link = ClientConnection(session, peer)
        line.members.add(session)
        self._lines.update(dict.fromkeys(cids, line))
        self._names[session.name] = session
        return link, False

    def put(self, cid: int, message_id: str, outgoing: Outgoing) -> str:
        """Queue a message for whoever serves `cid`; why not, if it cannot be."""
        line = self._lines.get(cid)
        if line is None:
            return "is not connected"
        if len(line.waiting) >= QUEUE:
            return f"has {QUEUE} messages waiting already"
        line.waiting[message_id] = outgoing
        line.wake()
        return ""

    def answered(self, session: Session, message_id: str) -> bool:
        """Note a reply; False if the process was never given this message."""
        if message_id not in session.given:
            return False
        session.line.waiting.pop(message_id, None)  # taken back for others meanwhile: they need not
        session.holding.pop(message_id, None)
        session.line.returned.discard(message_id)
        session.settle(message_id)
        return True

    def forget(self, message_ids: Iterable[str]) -> None:
        """Nobody waits for these: they are not sent, or not begun, if there is still time."""
        for message_id in message_ids:
            for line in set(self._lines.values()):
                line.waiting.pop(message_id, None)
                line.returned.discard(message_id)
                for member in line.members:
                    if message_id in member.again:  # it would be sent once more, and so is not there
                        member.again.remove(message_id)
                        del member.holding[message_id]
                    elif message_id in member.holding:
                        member.holding[message_id] = None  # it counts as held until the process says: it may be at work
                        member.settle(message_id)

    def dropped(self, session: Session, message_id: str) -> None:
        """A process is rid of a message that nobody waits for, and may hold another one in its place."""
        if message_id in session.holding and session.holding[message_id] is None:
            del session.holding[message_id]
            session.wake()

    def lost(self, link: ClientConnection, reason: str, final: bool) -> None:
        """A connection ended; unless that is final, its process may come back within the grace."""
        session = link.session
        if session.link is not link:
            return  # it has another one already, or is forgotten
        session.link = None
        if final or not self._grace:
            self._leave(session, reason)
            return
        log.info("client %s: %s; it has %g s to come back", label(session.cids), reason, self._grace)
        if session.line.is_served():
            self._hand_over(session, reason)
        session.expiry = asyncio.get_running_loop().call_later(self._grace, self._leave, session, reason)

    def dismiss(self, goodbye: Goodbye) -> None:
        """Send everyone away, whatever was still waiting for them."""
        for session in self._names.values():
            if session.link:
                session.link.close(goodbye)

    def _come_back(self, session: Session, hello: Hello, peer: str) -> ClientConnection:
        if session.link:  # the old connection is dead, and this is how the server learns of it
            session.link.close(Goodbye(reason="it is connected again", again=True))
        if session.expiry:
            session.expiry.cancel()
            session.expiry = None
        session.link = ClientConnection(session, peer)
        session.settled.clear()  # Welcome says it all
        session.holding = {key: outgoing for key, outgoing in session.holding.items() if outgoing or key in hello.held}
        # What was under way when the connection broke is sent again from its beginning.
        session.again = deque(key for key, outgoing in session.holding.items() if outgoing and key not in hello.held)
        return session.link

    def _inherit(self, cids: tuple[int, ...], shared: bool) -> MessageQueue:
        """The line for a new process: its pool's, or what one that is away, or replaced, with the same ids has left."""
        reason = "another client took its place"
        for line in {self._lines[cid] for cid in cids if cid in self._lines}:
            if line.cids == cids and line.shared and shared:
                return line
            for member in list(line.members):
                if member.link:
                    member.link.close(Goodbye(reason=f"{reason} (--replace)"))
                    member.link = None
                if line.cids == cids:
                    line.take_back(member)
                    self._drop(member)
                else:
                    self._leave(member, reason)
            if line.cids == cids:
                line.shared = shared
                return line
        return MessageQueue(cids, shared)

    def _hand_over(self, session: Session, reason: str) -> None:
        """Let the rest of a pool do it, but not what two processes have been lost over: it might be the reason."""
        twice = [key for key in session.holding if key in session.line.returned]
        for message_id in twice:
            del session.holding[message_id]
        session.line.take_back(session)
        self._fail(twice, (), f"is gone: {reason}, as the process before it")

    def _leave(self, session: Session, reason: str) -> None:
        """Forget a process; what it owes is done by the rest of its pool, or nobody will do it."""
        line = session.line
        self._drop(session)
        log.info("client %s is gone: %s", label(session.cids), reason)
        if line.members:
            self._hand_over(session, reason)
            return
        for cid in session.cids:
            self._lines.pop(cid, None)
        self._fail(session.holding, session.cids, f"is gone: {reason}")

    def _drop(self, session: Session) -> None:
        if session.expiry:
            session.expiry.cancel()
            session.expiry = None
        session.line.members.discard(session)
        self._names.pop(session.name, None)
