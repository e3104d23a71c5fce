"""Bare sockets between a server and the very client processes that a benchmark measures: the limit of its transport.

Each client has a second thread, which takes and gives bytes on a connection of its own; the server exchanges with all
of them at once, between two rounds, so that both have the machine of the same minutes and the same number of processes.
Nothing is checked, summed or kept.
"""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

BUFFER_BYTES = 1 << 18
"""Read or written at once: more is no faster over loopback."""

_ORDER = struct.Struct("<QQ")


@dataclass
class _Peer:
    """What is left to send to one client and to receive of it."""

    outgoing: list[memoryview] = field(default_factory=list)
    missing: int = 0


class BareSockets:
    """The server's end: one thread, no copy of what it sends, one buffer for all that it receives."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._scratch = memoryview(bytearray(BUFFER_BYTES))

    def accept(self, count: int) -> None:
        """Wait until so many clients have connected."""
        while len(self._connections) < count:
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.append(connection)

    def exchange(self, down: int, up: int) -> float:
        """Seconds until each client has taken `down` bytes and given `up` (at least one), all at once."""
        content = memoryview(bytes(max(down, 1)))[:down]
        started = time.perf_counter()
        with selectors.DefaultSelector() as selector:
            for connection in self._connections:
                peer = _Peer([memoryview(_ORDER.pack(down, up)), content], up)
                selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, peer)
            while selector.get_map():
                for key, events in selector.select():
                    self._go_on(selector, key.fileobj, key.data, events)
        return time.perf_counter() - started

    def close(self) -> None:
        """The clients' threads end with their connections."""
        for connection in (*self._connections, self._listener):
            connection.close()

    def _go_on(self, selector: selectors.BaseSelector, connection: socket.socket, peer: _Peer, events: int) -> None:
        if events & selectors.EVENT_WRITE and peer.outgoing:
            sent = connection.send(peer.outgoing[0][:BUFFER_BYTES])
            peer.outgoing[0] = peer.outgoing[0][sent:]
            while peer.outgoing and not peer.outgoing[0]:
                del peer.outgoing[0]
            if not peer.outgoing:
                selector.modify(connection, selectors.EVENT_READ, peer)
        if events & selectors.EVENT_READ:
            if not (count := connection.recv_into(self._scratch)):
                raise SystemExit("a client of the bare sockets has gone")
            peer.missing -= count
            if not peer.missing:
                selector.unregister(connection)


def join(port: int) -> None:
    """Take part, in a thread of this process, until the server closes the connection."""
    threading.Thread(target=_take_part, args=(port,), daemon=True).start()


def _take_part(port: int) -> None:
    scratch = memoryview(bytearray(BUFFER_BYTES))
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
        for down, up in _orders(connection):
            while down > 0:
                down -= connection.recv_into(scratch, min(down, BUFFER_BYTES)) or down
            while up > 0:
                up -= connection.send(scratch[: min(up, BUFFER_BYTES)])


def _orders(connection: socket.socket) -> Iterator[tuple[int, int]]:
    """What the server asks for next, until it closes."""
    while len(order := connection.recv(_ORDER.size, socket.MSG_WAITALL)) == _ORDER.size:
        yield _ORDER.unpack(order)
