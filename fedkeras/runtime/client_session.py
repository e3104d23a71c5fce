"""A client's session with the server, which outlives its connections: nothing is done twice, and nothing done is lost.

A message is held from its arrival until the server has confirmed its reply. When the connection breaks, a new one is
opened under the session's name; what is held is not sent again by the server, and a reply that was computed meanwhile
is delivered. A server that does not know the session (it was restarted) begins a new one, and what was held is dropped.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version

from fedkeras.errors import RunFailed, UserError
from fedkeras.runtime import handshake, tls, wire
from fedkeras.runtime.content import WireError
from fedkeras.runtime.federation_pb2 import Frame, Goodbye, Hello, Settled, Welcome
from fedkeras.runtime.passphrase import Access, ask_passphrase
from fedkeras.runtime.server_connection import NeedsPassphrase, RunOver, ServerConnection, Unreachable
from fedkeras.runtime.tls_diagnosis import diagnose
from fedkeras.runtime.wire import Assembler

log = logging.getLogger("fedkeras")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two attempts to connect: doubled each time, less a random part, so that clients come one by one."""

REPORT_SECONDS = 5.0
LEAVE_SECONDS = 5.0


class LostConnection(RunFailed):
    """The connection was lost while the run was still going on, and could not be made again."""


class ClientSession:
    """Joins on creation, in the caller's thread; afterwards a thread of its own reads, and reconnects.

    `max_wait`: seconds for which the server is looked for, at the start and after a break. Raises UserError if the
    server refuses this client or is not there in time.
    """

    def __init__(
        self,
        server: str,
        cids: Sequence[int],
        shared: bool,
        access: Access,
        take_place: bool,
        max_wait: float,
        say: Callable[[str], None],
    ) -> None:
        self._server, self._cids, self._shared, self._access = server, cids, shared, access
        self._take_place, self._max_wait, self._say = take_place, max_wait, say
        host, _, _ = server.rpartition(":")
        tls.require_encryption_for_passphrase(host, access)
        self._credentials = tls.channel_credentials(access)
        self._lock = threading.Lock()
        self._session, self._held, self._replies = b"", {}, {}
        self._inbox: queue.SimpleQueue = queue.SimpleQueue()
        self._leaving = threading.Event()
        self._attempts, self._since, self._opened = 0, time.monotonic(), 0.0
        self._link = self._connect_asking()
        self.welcome: Welcome = self._link.welcome
        self._session, self._cids = self.welcome.session, list(self.welcome.cids)
        self._thread = threading.Thread(target=self._follow, name="fedkeras-read", daemon=True)
        self._thread.start()

    @property
    def cids(self) -> list[int]:
        """The partitions that this process serves, of its own choice or the server's."""
        return self._cids

    def receive(self) -> tuple | Welcome | None:
        """What is next: a message as (header, pieces), the Welcome of a new session, None when the run is finished.

        Raises RunFailed if the run failed, or if the connection is lost for good.
        """
        while True:
            item = self._inbox.get()
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Goodbye):
                if item.finished:
                    return None
                raise RunFailed(
                    f"the server {'ended the run' if item.over else 'sent this client away'}: {item.reason}"
                )
            if isinstance(item, Welcome):
                return item
            if item[0].message_id in self._held:
                return item
            self._rid_of(item[0].message_id)  # nobody waits for it any more

    def reply(self, message_id: str, outgoing: wire.Outgoing) -> None:
        """Send the answer to a message, now or when there is a connection again."""
        with self._lock:
            if message_id not in self._held:
                log.warning("the server no longer waits for this answer, and it is dropped")
                self._rid_of(message_id)
                return
            self._replies[message_id] = outgoing
            self._link.send(wire.frames(*outgoing))

    def _rid_of(self, message_id: str) -> None:
        """Tell the server that this process is free for another message. If that is lost, the next Hello says it."""
        self._link.send((Frame(settled=Settled(message_id=message_id)),))

    def leave(self, reason: str) -> None:
        """Tell the server that this client goes and why, and wait a little until that is sent."""
        self._leaving.set()
        self._link.send((Frame(goodbye=Goodbye(reason=reason)),))
        self._link.end()
        self._thread.join(LEAVE_SECONDS)  # the server ends the stream when it has read this

    def close(self) -> None:
        """End the connection."""
        self._leaving.set()
        self._link.close()
        self._thread.join(LEAVE_SECONDS)

    def _follow(self) -> None:
        """Runs in a thread: read, and reconnect, until there is a Goodbye or nothing to hope for."""
        try:
            while not self._leaving.is_set():
                try:
                    goodbye = self._read(self._link)
                    self._link.send((Frame(goodbye=Goodbye(over=True)),))  # so the server knows that it has come
                    self._link.end()
                    self._inbox.put(goodbye)
                    return
                except (Unreachable, WireError) as error:
                    if self._leaving.is_set():
                        return  # it has said goodbye: to come back now would keep the server waiting for its end
                    self._say(f"lost the connection to {self._server}: {error}")
                self._link.close()
                if time.monotonic() - self._opened > LONGEST_PAUSE:
                    self._attempts = 0  # it lasted, even if nothing was to be said
                if not self._attempts:
                    self._since = time.monotonic()
                self._resume(self._connect())
        except RunOver as over:
            self._inbox.put(over.goodbye)
        except RunFailed as error:
            self._inbox.put(LostConnection(f"the connection to the server was lost: {error}"))
        except Exception as error:  # noqa: BLE001 - whatever it is, who waits for messages must hear of it
            self._inbox.put(error)

    def _read(self, link: ServerConnection) -> Goodbye:
        """Take what comes on one connection. Raises Unreachable when it breaks, WireError if it is no use."""
        assembler = Assembler(keep=True, max_bytes=link.welcome.max_message_bytes)
        for frame in link.frames():
            kind = None if isinstance(frame, memoryview) else frame.WhichOneof("content")
            if kind == "goodbye":
                if frame.goodbye.again:
                    raise Unreachable(f"the server says: {frame.goodbye.reason}")
                return frame.goodbye
            if kind == "settled":
                self._settle(frame.settled.message_id)
            elif complete := assembler.add(frame):
                self._attempts = 0  # something came of it: the next break is a new one
                with self._lock:
                    self._held[complete[0].message_id] = None
                self._inbox.put(complete)
        raise AssertionError("frames() ends with an exception")

    def _settle(self, message_id: str) -> None:
        with self._lock:
            self._held.pop(message_id, None)
            self._replies.pop(message_id, None)

    def _resume(self, link: ServerConnection) -> None:
        """Go on with a new connection: deliver what was computed meanwhile, or begin again."""
        with self._lock:
            self._link, self._session = link, link.welcome.session
            wanted = set(link.welcome.wanted) if link.welcome.resumed else set()
            self._held = {key: None for key in self._held if key in wanted}
            self._replies = {key: outgoing for key, outgoing in self._replies.items() if key in wanted}
            for outgoing in self._replies.values():
                link.send(wire.frames(*outgoing))
        self._say(f"connected again to {self._server}")
        if not link.welcome.resumed:
            self._inbox.put(link.welcome)

    def _connect_asking(self) -> ServerConnection:
        """The first connection; a person at the terminal can give the passphrase."""
        try:
            return self._connect(first=True)
        except NeedsPassphrase:
            typed = ask_passphrase(self._server)
            if typed is None:
                raise
            self._access = replace(self._access, passphrase=typed)
            tls.require_encryption_for_passphrase(self._server.rpartition(":")[0], self._access)
            self._attempts, self._since = 0, time.monotonic()  # how long somebody types is no waiting for the server
            return self._connect(first=True)

    def _connect(self, first: bool = False) -> ServerConnection:
        """Try until there is a connection. Raises UserError after `max_wait` seconds, or where waiting is no use.

        A connection that brings nothing before it breaks counts as an attempt too.
        """
        report, why, unfit = 1.0, "it takes connections and drops them", None
        while True:
            if self._attempts:
                waited = time.monotonic() - self._since
                left = max(0.0, self._max_wait - waited)
                if not left or self._leaving.is_set():
                    raise self._given_up(first, why, unfit)
                if waited > report:
                    report = waited + REPORT_SECONDS
                    self._say(f"waiting for the server at {self._server} ({left:.0f} s more)")
                pause = min(FIRST_PAUSE * 2 ** min(self._attempts - 1, 10), LONGEST_PAUSE)
                self._leaving.wait(min(pause * random.uniform(0.5, 1.0), left))
            self._attempts += 1
            try:
                link = ServerConnection(self._server, self._hello(), self._access, self._credentials)
                self._opened = time.monotonic()
                return link
            except Unreachable as error:
                why = str(error)
            unfit = self._diagnose()
            if unfit and first:  # later it may be a server that is just being started again
                raise UserError(unfit)

    def _given_up(self, first: bool, why: str, unfit: str | None) -> UserError:
        log.debug("the last attempt: %s", why)
        if unfit or why.startswith(("the server says", "it takes")):
            return RunFailed(unfit or f"{why} ({self._server})")
        kind = UserError if first else RunFailed
        return kind(f"no server answers at {self._server} after {self._max_wait:g} s: start it first, or give --server")

    def _hello(self) -> Hello:
        with self._lock:
            return Hello(
                protocol=wire.PROTOCOL, version=version("fedkeras"), cids=self._cids, shared=self._shared,
                nonce=handshake.new_nonce(), session=self._session, held=self._held,
                replace=self._take_place and not self._session,
            )  # fmt: skip

    def _diagnose(self) -> str | None:
        host, _, port = self._server.rpartition(":")
        return diagnose(host.strip("[]"), int(port), self._access)
