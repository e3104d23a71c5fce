"""A client's session with the server, which outlives its connections: nothing is done twice, and nothing done is lost.

A message is held from its arrival until the server has acknowledged the reply. When the connection breaks, a new one is
opened under the session's name: the server does not send again what is held, and replies that were computed meanwhile
are delivered. A server that does not know the session, since it was restarted, begins a new one; what was held is
dropped then.
"""

import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fedkeras.errors import RunFailed, UserError
from fedkeras.runtime import wire
from fedkeras.runtime.client_channel import ClientChannel
from fedkeras.runtime.content import WireError
from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Header, Join, Settled, Welcome
from fedkeras.runtime.holder_key import KEY_BYTES
from fedkeras.runtime.passphrase import Access, NeedsPassphrase, ask_passphrase
from fedkeras.runtime.peer_log import LimitedLines
from fedkeras.runtime.pipe import ClientPipe, inherited
from fedkeras.runtime.server_connection import RunOver, ServerConnection, Unconfirmed
from fedkeras.runtime.tls_probe import Unfit, Unreachable
from fedkeras.runtime.wire import Assembler

log = logging.getLogger("fedkeras")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to connect: doubled each time, less a random part, so that clients spread out."""

REPORT_SECONDS = 5.0
"""Seconds between two lines that say that the server is still being waited for."""

LEAVE_SECONDS = 5.0
"""How long the last frames of a client that leaves may take."""

BROKEN_OFF, PUT_OFF = 3, 10
UNCONFIRMED_SECONDS = 3600.0
"""How many logins of a process may end between the client's proof and the server's in this time: each can be a guess.

Without a word; and with the word to come again, as a server says where strangers guess.
"""

Received = tuple[Header, list[bytes]]
"""A whole message: its header, and its arrays' bytes."""


def _size(received: Received) -> int:
    """Bytes of memory that a message takes, beside the arrays that it shares with the one before it."""
    header, _ = received
    return header.ByteSize() + (0 if header.same_payload else header.payload_bytes)


class LostConnection(RunFailed):
    """The connection was lost while the run was still going on, and could not be made again."""


class ClientSession:
    """Joins on creation, in the caller's thread; afterwards a thread of its own reads, and reconnects.

    `max_wait`: seconds for which the server is tried, at the start and after a break. `replace_other`: take the place
    of a client that is connected under the same cid. `report` is called with lines for the person at the terminal.
    `max_message_bytes`: of a message of the server's, whatever it says of itself. `holder_key`: by which the server
    knows this client again; unset: a new one.
    Raises UserError if the server refuses this client or does not answer in time.
    """

    def __init__(
        self,
        server: str,
        cids: Sequence[int],
        shared: bool,
        access: Access,
        replace_other: bool,
        max_wait: float,
        report: Callable[[str], None],
        max_message_bytes: int = wire.MAX_MESSAGE_BYTES,
        holder_key: bytes = b"",
    ) -> None:
        self._holder_key = holder_key or os.urandom(KEY_BYTES)
        self._server, self._cids, self._shared, self._access = server, cids, shared, access
        self._replace_other, self._max_wait, self._report = replace_other, max_wait, LimitedLines(report)
        self._max_message_bytes = max_message_bytes
        self._channel, self._unconfirmed = ClientChannel(server, access), list[tuple[float, bool]]()
        given = inherited()
        self._pipe = given and ClientPipe(given)
        self._lock = threading.Lock()
        self.end_note = ""
        """What the server had to say to this process when the run had ended well."""
        self._session = b""
        self._held: dict[str, None] = {}
        self._replies: dict[str, wire.Outgoing] = {}
        self._inbox: queue.SimpleQueue[Received | Welcome | Goodbye | Exception] = queue.SimpleQueue()
        self._leaving = threading.Event()
        self._unread, self._taken = 0, threading.Condition()
        self._attempts, self._since, self._opened = 0, time.monotonic(), 0.0
        self._connection = self._first_connection()
        self.welcome: Welcome = self._connection.welcome
        self._session, self._cids = self.welcome.session, list(self.welcome.cids)
        self._thread = threading.Thread(target=self._keep_reading, name="fedkeras-read", daemon=True)
        self._thread.start()

    @property
    def cids(self) -> list[int]:
        """The partitions that this process serves, chosen by itself or by the server."""
        return self._cids

    @property
    def encrypted(self) -> bool:
        """Whether the connection is."""
        return self._channel.encrypts

    @property
    def knows_passphrase(self) -> bool:
        """Whether the server has shown that it knows this client's passphrase."""
        return self._access.passphrase is not None

    def withdraw(self, reason: UserError) -> None:
        """Have `receive` raise `reason`, in whichever thread waits there."""
        self._inbox.put(reason)

    def receive(self) -> Received | Welcome | None:
        """Wait for what is next: a message, the Welcome of a new session, or None when the run is finished.

        Raises RunFailed if the run failed, or if the connection is lost for good.
        """
        while True:
            item = self._inbox.get()
            if isinstance(item, tuple):
                with self._taken:
                    self._unread -= _size(item)
                    self._taken.notify_all()
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Goodbye):
                if item.finished:
                    self.end_note = item.reason
                    return None
                raise RunFailed(
                    f"the server {'ended the run' if item.over else 'sent this client away'}: {item.reason}"
                )
            if isinstance(item, Welcome):
                return item
            if item[0].message_id in self._held:
                return item
            self._drop(item[0].message_id)  # the server no longer waits for it

    def reply(self, message_id: str, outgoing: wire.Outgoing) -> None:
        """Send the answer to a message, now or when there is a connection again."""
        with self._lock:
            if message_id not in self._held:
                log.warning("the server no longer waits for this answer, and it is dropped")
                self._drop(message_id)
                return
            self._replies[message_id] = outgoing
            self._connection.send(wire.frames(*outgoing, wire.TO_SERVER))

    def _drop(self, message_id: str) -> None:
        """Tell the server that this process is free for another message. If that is lost, the next Hello repeats it."""
        self._connection.send((Frame(settled=Settled(message_id=message_id)),))

    def leave(self, reason: str) -> None:
        """Tell the server that this client leaves and why, and wait a little until that is sent."""
        self._leaving.set()
        self._connection.send((Frame(goodbye=Goodbye(reason=reason)),))
        self._connection.end()
        self._thread.join(LEAVE_SECONDS)  # the server ends the stream when it has read this

    def close(self) -> None:
        """End the connection."""
        self._leaving.set()
        self._connection.close()
        self._thread.join(LEAVE_SECONDS)

    def _keep_reading(self) -> None:
        """Runs in a thread: read, and reconnect, until there is a Goodbye or no hope of a connection."""
        try:
            while not self._leaving.is_set():
                try:
                    goodbye = self._read(self._connection)
                    # The server's Goodbye is returned, so that the server knows that it has arrived.
                    self._connection.send((Frame(goodbye=Goodbye(over=True)),))
                    self._connection.end()
                    self._inbox.put(goodbye)
                    return
                except wire.TooLarge as error:
                    raise UserError(f"the server sends {error} (--max-message-mb)") from error
                except (Unreachable, WireError) as error:
                    if self._leaving.is_set():
                        return  # it has said Goodbye: to reconnect now would keep the server waiting for its end
                    self._report(f"lost the connection to {self._server}: {error}")
                self._connection.close()
                if time.monotonic() - self._opened > LONGEST_PAUSE:
                    self._attempts = 0  # the connection lasted, even if it carried nothing
                if not self._attempts:
                    self._since = time.monotonic()
                self._resume(self._connect())
        except RunOver as over:
            self._inbox.put(over.goodbye)
        except RunFailed as error:
            self._inbox.put(LostConnection(f"the connection to the server was lost: {error}"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be raised in the thread that waits for messages
            self._inbox.put(error)

    def _read(self, connection: ServerConnection) -> Goodbye:
        """Receive until the Goodbye. Raises Unreachable when the connection breaks, WireError for wrong frames."""
        assembler = Assembler(wire.TO_CLIENT, max_bytes=self._max_message_bytes)
        for frame in connection.frames():
            kind = None if isinstance(frame, memoryview) else frame.WhichOneof("content")
            if kind == "goodbye":
                if frame.goodbye.again:
                    raise Unreachable(f"the server says: {frame.goodbye.reason}")
                return frame.goodbye
            if kind == "settled":
                self._forget(frame.settled.message_id)
            elif complete := assembler.add(frame):
                self._attempts = 0  # the connection brought something: the next break is a new one
                with self._lock:
                    self._held[complete[0].message_id] = None
                self._keep(complete, self._max_message_bytes)
        raise AssertionError("frames() ends with an exception")

    def _keep(self, received: Received, most: int) -> None:
        """Let a message wait for the app, and read nothing more while as much waits as one message may have."""
        with self._taken:
            self._unread += _size(received)
            self._inbox.put(received)
            while self._unread > most and not self._leaving.is_set():
                self._taken.wait(1.0)

    def _forget(self, message_id: str) -> None:
        with self._lock:
            self._held.pop(message_id, None)
            self._replies.pop(message_id, None)

    def _resume(self, connection: ServerConnection) -> None:
        """Continue with a new connection: deliver what was computed meanwhile, or begin again."""
        with self._lock:
            self._connection, self._session = connection, connection.welcome.session
            wanted = set(connection.welcome.wanted) if connection.welcome.resumed else set()
            self._held = {key: None for key in self._held if key in wanted}
            self._replies = {key: outgoing for key, outgoing in self._replies.items() if key in wanted}
            for outgoing in self._replies.values():
                connection.send(wire.frames(*outgoing, wire.TO_SERVER))
        self._report(f"connected again to {self._server}")
        if not connection.welcome.resumed:
            self._inbox.put(connection.welcome)

    def _first_connection(self) -> ServerConnection:
        """The first connection; a person at the terminal can type the passphrase."""
        try:
            return self._connect(first=True)
        except NeedsPassphrase:
            typed = ask_passphrase(self._server)
            if typed is None:
                raise
            self._access = replace(self._access, passphrase=typed)
            self._channel = ClientChannel(self._server, self._access)
            self._attempts, self._since = 0, time.monotonic()  # the time of typing is no waiting for the server
            return self._connect(first=True)

    def _connect(self, first: bool = False) -> ServerConnection:
        """Try until there is a connection. Raises UserError after `max_wait` seconds, or where waiting is of no use.

        A connection that brings nothing before it breaks counts as an attempt too.
        """
        next_report, why, unfit = 1.0, "it takes connections and drops them", None
        while True:
            if self._attempts:
                waited = time.monotonic() - self._since
                left = max(0.0, self._max_wait - waited)
                if not left or self._leaving.is_set():
                    raise self._gave_up(first, why, unfit)
                if waited > next_report:
                    next_report = waited + REPORT_SECONDS
                    self._report(f"waiting for the server at {self._server} ({left:.0f} s more)")
                pause = min(FIRST_PAUSE * 2 ** min(self._attempts - 1, 10), LONGEST_PAUSE) * random.uniform(0.5, 1.0)
                until_report = max(FIRST_PAUSE, next_report - waited)  # nobody waits without a word for long
                self._leaving.wait(min(pause, left, until_report))
            self._attempts += 1
            unfit = None
            try:
                given, self._pipe = self._pipe, None  # it is good for one connection; the next is by the port
                connection = ServerConnection(
                    self._server, self._channel, self._access.passphrase, self._join(), self._holder_key, given
                )
                self._opened = time.monotonic()
                return connection
            except Unreachable as error:
                why = str(error)
                self._note_unconfirmed(error)
                if not why.startswith("the server says"):  # else it speaks with this client, and nothing is wrong
                    unfit = self._channel.diagnose()
            except Unfit as error:
                unfit = error
            if unfit and first:  # later it may be a server that is just being started again
                raise unfit

    def _note_unconfirmed(self, error: Unreachable) -> None:
        """Raise UserError if too many of this process's logins were broken off in their middle."""
        if not isinstance(error, Unconfirmed):
            return
        now = time.monotonic()
        self._unconfirmed = [one for one in self._unconfirmed if now - one[0] < UNCONFIRMED_SECONDS]
        self._unconfirmed.append((now, error.put_off))
        alike = sum(put_off == error.put_off for _, put_off in self._unconfirmed)
        if alike >= (PUT_OFF if error.put_off else BROKEN_OFF):
            times = len(self._unconfirmed)
            raise UserError(
                f"what answers at {self._server} took this client's proof {times} times and gave none of "
                f"its own; each time could be a guess at the passphrase, so this client stops ({error})"
            )

    def _gave_up(self, first: bool, why: str, unfit: UserError | None) -> UserError:
        log.debug("the last attempt: %s", why)
        if unfit or why.startswith(("the server says", "it takes")):
            return RunFailed(str(unfit) if unfit else f"{why} ({self._server})")
        kind = UserError if first else RunFailed
        return kind(f"no server answers at {self._server} after {self._max_wait:g} s: start it first, or give --server")

    def _join(self) -> Join:
        with self._lock:
            return Join(
                cids=self._cids, shared=self._shared, session=self._session, held=self._held,
                replace=self._replace_other and not self._session,
            )  # fmt: skip
