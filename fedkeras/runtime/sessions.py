"""The client processes of a run: those with partitions of their own, and pools whose processes share theirs.

A session outlives its connection: a process that comes back in time continues where it was. All processes of a pool
serve the same partitions, and whichever is free takes the next message. What a client computes is a function of its
message, so it does not matter which of them computes it. Everything here runs in the network's loop, except
`Sessions.cids`.
"""

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from fedkeras.runtime.client_connection import PROCESSES, ClientConnection, MessageQueue, Session, cids_text
from fedkeras.runtime.federation_pb2 import Goodbye, Join
from fedkeras.runtime.handshake import TICKET_NAME, ticket
from fedkeras.runtime.peer_log import PeerLog
from fedkeras.runtime.wire import Outgoing

QUEUE = 4096
"""Messages that may wait for a process. A round sends one; an app that sends this many without waiting is mistaken."""

FailMessages = Callable[[Iterable[str], Iterable[int], str], None]
"""Called as fail(message ids, cids, reason) for messages that will never be answered: these, and all that are owed by
these clients."""


class Sessions:
    """The sessions of all client processes, and the queue of each client id. Its length is the number of sessions.

    A process that lost its connection has `grace` seconds to come back. What is logged of one goes to `peer_log`.
    """

    def __init__(self, grace: float, fail: FailMessages, peer_log: PeerLog | None = None) -> None:
        self._grace, self._fail, self.peer_log = grace, fail, peer_log or PeerLog(clients=1)
        self._queues: dict[int, MessageQueue] = {}
        self._by_name: dict[bytes, Session] = {}

    def __len__(self) -> int:
        return len(self._by_name)

    def holds(self, shown: bytes, share: bytes) -> bool:
        """True if this ticket is of a session that is there; `share` is the one of this login."""
        named = (name for name in self._by_name if shown and name.startswith(shown[:TICKET_NAME]))
        return any(hmac.compare_digest(shown, ticket(name, share)) for name in named)

    def cids(self) -> list[int]:
        """The client ids that are served by a process, or by one that is expected back."""
        return list(self._queues)

    def forget_session(self, name: bytes) -> None:
        """Drop the session of a process that came back after the run's end, and was sent away."""
        if session := self._by_name.get(name):
            self._leave(session, "it came back after the end of the run")

    def taken(self, join: Join) -> int | None:
        """The first of its client ids that is served by others (not by its own pool), or None if all are free."""
        cids, own = tuple(join.cids), self._by_name.get(join.session)
        for cid in () if join.replace else cids:
            queue = self._queues.get(cid)
            pool = queue and join.shared and queue.shared and queue.cids == cids
            if queue and queue.is_served() and not pool and not (own and own.queue is queue):
                return cid
        return None

    def is_full(self, join: Join) -> bool:
        """True if it would be one more process of a pool that has as many as it may, all of them connected."""
        queue, cids = self._queues.get(join.cids[0]) if join.cids else None, tuple(join.cids)
        joins = queue and join.shared and queue.shared and queue.cids == cids and join.session not in self._by_name
        return bool(joins) and sum(bool(each.connection) for each in queue.sessions) >= PROCESSES

    def join(self, join: Join, cids: tuple[int, ...], peer: str) -> tuple[ClientConnection, bool]:
        """Add a process whose ids are not `taken`; True if it resumes a session that it had."""
        session = self._by_name.get(join.session)
        if session and session.cids == cids:
            return self._resume(session, join, peer), True
        queue = self._queue_for(cids, join.shared)
        session = Session(cids, queue)
        session.connection = connection = ClientConnection(session, peer)
        session.peer = peer
        queue.sessions[session] = None
        self._queues.update(dict.fromkeys(cids, queue))
        self._by_name[session.name] = session
        return connection, False

    def put(self, cid: int, message_id: str, outgoing: Outgoing) -> str:
        """Queue a message for whoever serves `cid`. Returns why not, if it cannot be queued, else ''."""
        queue = self._queues.get(cid)
        if queue is None:
            return "is not connected"
        if len(queue.waiting) >= QUEUE:
            return f"has {QUEUE} messages waiting already"
        queue.waiting[message_id] = outgoing
        queue.wake()
        return ""

    @staticmethod
    def answered_in_vain(session: Session, message_id: str) -> None:
        """Note a reply to a message that this process does not hold, or that was given up: it owes no other."""
        session.holding.pop(message_id, None)
        session.acknowledge(message_id)

    def answered(self, session: Session, message_id: str) -> None:
        """Note the reply to a message that this process holds."""
        session.holding.pop(message_id, None)
        self._forget(session.queue, message_id)  # handed to others meanwhile, who need not answer it now
        session.acknowledge(message_id)

    def forget(self, message_ids: Iterable[str]) -> None:
        """Give messages up: they are not sent, or not begun, if there is still time."""
        for message_id in message_ids:
            for queue in set(self._queues.values()):
                self._forget(queue, message_id)

    def dropped(self, session: Session, message_id: str) -> None:
        """Note that a process has dropped a message that was given up, and may hold another one in its place."""
        if message_id in session.holding and session.holding[message_id] is None:
            del session.holding[message_id]
            session.wake()

    def lost(self, connection: ClientConnection, reason: str, final: bool) -> None:
        """Note that a connection ended; unless that is final, its process may come back within the grace."""
        session = connection.session
        if session.connection is not connection:
            return  # it has another one already, or is forgotten
        session.connection = None
        if final or not self._grace:
            self._leave(session, reason)
            return
        self._tell(session, "client %s: %s; it has %g s to come back", cids_text(session.cids), reason, self._grace)
        if session.queue.is_served():
            self._hand_over(session, reason)
        session.expiry = asyncio.get_running_loop().call_later(self._grace, self._leave, session, reason)

    def dismiss(self, goodbye_to: Callable[[Sequence[int]], Goodbye]) -> None:
        """Send everyone away, whatever was still waiting for them; `goodbye_to(cids)` is the last word to a process."""
        for session in self._by_name.values():
            if session.connection:
                session.connection.close(goodbye_to(session.cids))

    @staticmethod
    def _forget(queue: MessageQueue, message_id: str) -> None:
        queue.waiting.pop(message_id, None)
        queue.returned.discard(message_id)
        for session in queue.sessions:
            if message_id in session.resend:  # it would be sent once more, so the process does not have it
                session.resend.remove(message_id)
                session.holding.pop(message_id, None)
            elif message_id in session.holding:
                # It counts as held until the process confirms that it is not, for it may be at work on it.
                session.holding[message_id] = None
                session.acknowledge(message_id)

    def _resume(self, session: Session, join: Join, peer: str) -> ClientConnection:
        if session.connection:  # the old connection is dead, and this is how the server learns of it
            session.connection.close(Goodbye(reason="it is connected again", again=True))
        if session.expiry:
            session.expiry.cancel()
            session.expiry = None
        session.connection = ClientConnection(session, peer)
        session.peer = peer
        session.acknowledgements.clear()  # the Welcome names all that is still to be answered
        session.holding = {key: outgoing for key, outgoing in session.holding.items() if outgoing or key in join.held}
        # What was under way when the connection broke is sent again from its beginning.
        session.resend = deque(key for key, outgoing in session.holding.items() if outgoing and key not in join.held)
        return session.connection

    def _queue_for(self, cids: tuple[int, ...], shared: bool) -> MessageQueue:
        """The queue for a new process: its pool's, else what an absent or replaced process with these ids has left."""
        reason = "another client took its place"
        for queue in dict.fromkeys(self._queues[cid] for cid in cids if cid in self._queues):
            if queue.cids == cids and queue.shared and shared:
                if len(queue.sessions) >= PROCESSES:  # one that is away makes room
                    absent = next(session for session in queue.sessions if not session.connection)
                    self._leave(absent, "others of its pool came")
                return queue
            for session in list(queue.sessions):
                if session.connection:
                    session.connection.close(Goodbye(reason=f"{reason} (--replace)"))
                    session.connection = None
                if queue.cids == cids:
                    queue.take_back(session)
                    self._remove(session)
                else:
                    self._leave(session, reason)
            if queue.cids == cids:
                queue.shared = shared
                return queue
        return MessageQueue(cids, shared)

    def _hand_over(self, session: Session, reason: str) -> None:
        """Leave a process's messages to the rest of its pool, except those over which two processes have been lost:
        they may be the reason."""
        twice = [key for key in session.holding if key in session.queue.returned]
        for message_id in twice:
            del session.holding[message_id]
            session.queue.returned.discard(message_id)
        session.queue.take_back(session)
        self._fail(twice, (), f"is gone: {reason}, as the process before it")

    def _leave(self, session: Session, reason: str) -> None:
        """Forget a process; the rest of its pool answers what it owes, or the messages fail."""
        queue = session.queue
        self._remove(session)
        self._tell(session, "client %s is gone: %s", cids_text(session.cids), reason)
        if queue.sessions:
            self._hand_over(session, reason)
            return
        for cid in session.cids:
            self._queues.pop(cid, None)
        self._fail(session.holding, session.cids, f"is gone: {reason}")

    def _tell(self, session: Session, text: str, *values: str | float) -> None:
        self.peer_log.about_client(logging.INFO, session.peer, text, *values)

    def _remove(self, session: Session) -> None:
        if session.expiry:
            session.expiry.cancel()
            session.expiry = None
        session.queue.sessions.pop(session, None)
        self._by_name.pop(session.name, None)
