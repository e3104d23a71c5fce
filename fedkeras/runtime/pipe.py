"""A stream to a client process that the server has started itself: two connected sockets, and no network between them.

A spawned client could use the server's port as any other does, and where the connection is to be encrypted it does. But
each gRPC frame costs some 0.3 ms of both sides' processors, in threads that hand it on; here it is its length (4 bytes)
and what `wire.serialise` makes of it. Login, sessions and limits are those of every client: the server's end is to the
Service what gRPC's context is. A process that loses its pipe comes back by the port.
"""

import asyncio
import contextlib
import os
import queue
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable, Mapping

import grpc

from fedkeras.runtime import wire
from fedkeras.runtime.federation_pb2 import Frame
from fedkeras.runtime.tls_probe import Unreachable

VARIABLE = "FEDKERAS_PIPE"
"""The environment variable that says which descriptor is the process's end."""

LAST_FRAME_SECONDS, CLOSE_SECONDS = 1.0, 5.0
"""How long what is queued may take when there is no more, and the thread of a closed pipe to end."""

MOST_PIECES = 64
"""Buffers that the system is given at once: it takes 1024 at most."""

AHEAD = 4
"""Frames that lie ready before the server reads no further."""

Ended = type(grpc.aio.EOF)
"""What gRPC's context gives where no frame will come any more."""

_LENGTH = struct.Struct("<I")


def inherited() -> socket.socket | None:
    """The pipe to the server that has started this process, for whoever asks first; else None."""
    given = os.environ.pop(VARIABLE, "")
    if not given.isdecimal():
        return None
    with contextlib.suppress(OSError):  # it was not handed on after all: the process takes the port
        pipe = socket.socket(fileno=int(given))
        pipe.set_inheritable(False)  # what this process starts in its turn has nothing to do with it
        return pipe
    return None


class ServerPipe(asyncio.BufferedProtocol):
    """The server's end, with as much of gRPC's context as the Service uses. `name` is that of the peer in the log."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._length = bytearray(_LENGTH.size)
        self._frame: bytearray | None = None
        self._room = memoryview(self._length)
        self._ready: deque[bytes | memoryview] = deque()
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._over = self._closed = False

    async def begins(self) -> bool:
        """Wait for the first frame: until then the process imports and has nothing to say. False: it has ended."""
        while not (self._ready or self._over):
            await self._wait()
        return not self._over

    def peer(self) -> str:
        """Who is at the other end."""
        return self._name

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """No certificate."""
        return {}

    async def read(self) -> bytes | memoryview | Ended:
        """The next frame: a chunk's bytes, another frame as it was serialised, or gRPC's EOF."""
        while not self._ready:
            if self._over:
                return grpc.aio.EOF
            await self._wait()
        frame = self._ready.popleft()
        if len(self._ready) < AHEAD and not self._over:
            self._transport.resume_reading()
        return frame

    async def write(self, frame: Frame | wire.Chunk) -> None:
        """Send a frame; returns when the process has taken all but a little of it."""
        if self._over:
            raise ConnectionResetError("the process has closed its pipe")
        for piece in _packed(frame):
            self._transport.write(piece)
        await self._writable.wait()

    def close(self) -> None:
        """Send what is queued, and end it."""
        self._closed = True
        if self._transport is not None:
            self._transport.close()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = transport
        self._writable.set()
        if self._closed:  # the run was over before this
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the process has ended, or this end was closed."""
        self._over = True
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """asyncio's."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """asyncio's."""
        self._writable.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio's: where the next bytes go."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio's: so many have come."""
        self._room = self._room[nbytes:]
        if len(self._room):
            return
        if self._frame is None:
            (length,) = _LENGTH.unpack(self._length)
            if not 0 < length <= wire.TO_SERVER.max_frame_bytes:  # not what a client of this version sends
                self._transport.abort()
                return
            self._frame = bytearray(length)
            self._room = memoryview(self._frame)
            return
        chunk = wire.chunk_in(self._frame)
        self._ready.append(bytes(self._frame) if chunk is None else chunk)
        self._frame, self._room = None, memoryview(self._length)
        if len(self._ready) >= AHEAD:
            self._transport.pause_reading()
        self._changed.set()


class ClientPipe:
    """The process's end: what `GrpcStream` is on a network."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket, self._ended = connection, False
        self._outgoing: queue.SimpleQueue[Iterable[Frame | wire.Chunk] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._keep_sending, name="fedkeras-pipe", daemon=True)
        self._sender.start()

    def send(self, frames: Iterable[Frame | wire.Chunk]) -> None:
        """Queue frames; they are sent in a thread, so that the next message is answered meanwhile."""
        self._outgoing.put(frames)

    def next(self) -> wire.Parsed:
        """Wait for the next frame. Raises Unreachable when the server has closed the pipe."""
        (length,) = _LENGTH.unpack(self._receive(_LENGTH.size))
        if length > wire.TO_CLIENT.max_frame_bytes:
            raise Unreachable(f"a frame of {length} bytes is none of this version's server")
        return wire.parse(self._receive(length))

    def end(self) -> None:
        """Send what is queued and no more; the server then closes the pipe."""
        self._ended = True
        self._outgoing.put(None)

    def close(self) -> None:
        """Close it at once, or after `end` when all is sent."""
        self._outgoing.put(None)
        if self._ended:
            self._sender.join(LAST_FRAME_SECONDS)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._sender.join(CLOSE_SECONDS)
        self._socket.close()

    def _receive(self, count: int) -> bytearray:
        data = bytearray(count)
        try:
            taken = self._socket.recv_into(data, count, socket.MSG_WAITALL)
            while 0 < taken < count:  # a signal may cut it short
                more = self._socket.recv_into(memoryview(data)[taken:], count - taken, socket.MSG_WAITALL)
                taken = taken + more if more else 0
        except OSError as error:
            raise Unreachable(f"the pipe to the server is broken: {error.strerror or error}") from None
        if not taken:
            raise Unreachable("the server closed the connection without a word")
        return data

    def _keep_sending(self) -> None:
        with contextlib.suppress(OSError):  # whoever reads hears of it
            while (frames := self._outgoing.get()) is not None:
                for frame in frames:
                    self._send_all(_packed(frame))
            self._socket.shutdown(socket.SHUT_WR)

    def _send_all(self, pieces: list[bytes | memoryview]) -> None:
        while pieces:
            sent = self._socket.sendmsg(pieces[:MOST_PIECES])
            while pieces and sent >= len(pieces[0]):
                sent -= len(pieces.pop(0))
            if sent:
                pieces[0] = memoryview(pieces[0])[sent:]


def _packed(frame: Frame | wire.Chunk) -> list[bytes | memoryview]:
    """A frame with its length before it, in pieces: a chunk's bytes are not copied."""
    first, *rest = wire.pieces(frame)
    length = len(first) + sum(len(piece) for piece in rest)
    return [_LENGTH.pack(length) + first, *rest]
