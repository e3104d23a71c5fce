"""The server's TCP connections, as the operating system lists them: gRPC shows none of them, and ends few.

Whoever reaches the port may open connections and say nothing, stop within a TLS handshake, or open a stream and read
nothing: what was written to it then waits for ever, and the stream with it. Here such a connection is closed under
gRPC's feet, which takes it for one that has broken. Where the system does not list a process's sockets (Windows),
gRPC's own limits alone apply (channel.py).
"""

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fedkeras.runtime.budget import return_free_memory
from fedkeras.runtime.endpoints import Endpoint, endpoint

STRANGER_SECONDS = 12.0
"""How long a connection may last on which nobody has logged in: the login's own limit, and a little for its goodbye."""

MOST_STRANGERS = 64
"""Connections on which nobody has logged in, where the process may open enough files."""

LOOK_SECONDS = 0.1
"""Seconds from one look at all connections to the next."""

SHARE = 0.01
"""Of the network's time, the share that looking may take where there are thousands of connections."""

TRIM_AFTER = 8
"""Strangers that have gone before the memory that their frames took is returned to the system."""

FOLDERS = ("/proc/self/fd", "/dev/fd")


class Connections:
    """Knows on which connections a client has logged in, and hangs up on the others. For one asyncio loop.

    `port` is that on which the server listens. Of more than `most_strangers`, the oldest go. `watch` is to be run
    meanwhile.
    """

    def __init__(
        self, port: Callable[[], int], most_strangers: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.most_strangers = most_strangers
        self._port, self._clock = port, clock
        self._known: set[Endpoint] = set()
        self._since: dict[Endpoint, float] = {}
        self._seen: dict[Endpoint, int] = {}
        self._gone = 0

    def logged_in(self, peer: str) -> None:
        """Whoever is at the other end may stay as long as it likes."""
        self._known.add(endpoint(peer))

    def logged_out(self, peer: str) -> None:
        """Its stream has ended; it has some time to read what was sent last, and to go."""
        self._known.discard(endpoint(peer))
        self._since[endpoint(peer)] = self._clock()

    def hang_up(self, peer: str) -> None:
        """Close this peer's connection at once, whatever gRPC still wants of it."""
        wanted = endpoint(peer)
        if not (wanted in self._seen and shut(wanted, self._seen[wanted])):
            self.look()  # it is newer than the last look; and where one is in the way, others may be
            if wanted in self._seen:
                shut(wanted, self._seen[wanted])

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            started = self._clock()
            self.look()
            took = self._clock() - started
            if self._gone >= TRIM_AFTER:
                self._gone = 0
                await asyncio.to_thread(return_free_memory)
            await asyncio.sleep(max(LOOK_SECONDS, took / SHARE))

    def look(self) -> None:
        """Hang up on strangers who have been here too long, or are too many."""
        now = self._clock()
        self._seen = here = dict(accepted(self._port()))
        self._gone += len(self._since.keys() - here.keys())
        self._since = {other: self._since.get(other, now) for other in here if other not in self._known}
        strangers = sorted(self._since, key=self._since.__getitem__)
        for place, other in enumerate(strangers):
            if now - self._since[other] > STRANGER_SECONDS or len(strangers) - place > self.most_strangers:
                shut(other, here[other])


def accepted(port: int) -> Iterator[tuple[Endpoint, int]]:
    """The other end, and the descriptor, of each connection that this process has accepted on `port`."""
    for number in _descriptors():
        if (other := _other_end(number, port)) is not None:
            yield other, number


def shut(other: Endpoint, number: int) -> bool:
    """Close the connection to `other` behind this descriptor, if it is still that: gRPC then closes the descriptor."""
    with contextlib.suppress(OSError, ValueError):
        connection = socket.socket(fileno=number)
        try:
            if Endpoint.of(connection.getpeername()) == other:
                connection.shutdown(socket.SHUT_RDWR)
                return True
        finally:
            connection.detach()
    return False


def _descriptors() -> list[int]:
    folder = next((folder for folder in FOLDERS if Path(folder).is_dir()), None)
    try:
        return [int(name) for name in os.listdir(folder)] if folder else []  # noqa: PTH208 - thousands of names
    except OSError:  # no descriptor is left for looking: the next look is soon
        return []


def _other_end(number: int, port: int) -> Endpoint | None:
    try:
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        connection = socket.socket(fileno=number)
    except OSError:  # closed meanwhile
        return None
    try:
        if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.getsockname()[1] != port:
            return None
        return Endpoint.of(connection.getpeername())
    except OSError:  # the listening socket has no other end
        return None
    finally:
        connection.detach()
