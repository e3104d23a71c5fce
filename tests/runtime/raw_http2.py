"""HTTP/2 by hand, for what no honest library does: windows of zero, frames that are never finished, floods.

RFC 9113 (HTTP/2), RFC 7541 (HPACK, of which only literals are used) and gRPC's five bytes before each message.
"""

import asyncio
import contextlib
import ssl
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE, MAX_FRAME = 4, 16384
JOIN = "/fedkeras.Federation/Join"


class Http2:
    """One connection to a gRPC server. `window`: what the server may send on each stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self.reader, self.writer, self.window = reader, writer, window
        self.closed = asyncio.Event()
        self.received: dict[int, bytearray] = {}
        self.ended: dict[int, str] = {}
        self.goaway = ""
        self._room = {0: 65535}
        self._initial = 65535
        self._more_room = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, port: int, window: int = 65535, read: bool = True, tls: bool = False) -> "Http2":
        """Open a connection on loopback and send the preface; without `read` nothing is ever read from it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=any_server() if tls else None)
        self = cls(reader, writer, window)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window))
        if read:
            self._listening = asyncio.ensure_future(self._listen())
        return self

    def frame(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        """Send one frame."""
        self.writer.write(len(payload).to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload)

    def open_stream(self, stream: int, path: str = JOIN, **more: str) -> None:
        """Begin a call; `more` are further headers, with underscores for dashes."""
        headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost"}
        headers |= {"content-type": "application/grpc", "te": "trailers"}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        self.frame(HEADERS, END_HEADERS, stream, b"".join(literal(name, value) for name, value in headers.items()))
        self._room[stream] = self._initial

    async def send(self, stream: int, data: bytes) -> None:
        """Send bytes of a call as the server's windows let them; returns early when the connection or call ends."""
        while data and not self.closed.is_set() and stream not in self.ended:
            self._more_room.clear()
            room = min(self._room[0], self._room[stream], MAX_FRAME, len(data))
            if room <= 0:
                await self._more_room.wait()
                continue
            self.frame(DATA, 0, stream, data[:room])
            self._room[0] -= room
            self._room[stream] -= room
            data = data[room:]
            await self.writer.drain()

    def abort(self) -> None:
        """Close at once."""
        if self._listening:
            self._listening.cancel()
        self.writer.transport.abort()

    async def _listen(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                self._take(kind, flags, stream, payload)
                self._more_room.set()
        self.closed.set()
        self._more_room.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for start in range(0, len(payload), 6):
                key, value = struct.unpack_from(">HI", payload, start)
                if key == INITIAL_WINDOW_SIZE:
                    for other in self._room.keys() - {0}:
                        self._room[other] += value - self._initial
                    self._initial = value
            self.frame(SETTINGS, ACK, 0)
        elif kind == WINDOW_UPDATE:
            self._room[stream] = self._room.get(stream, self._initial) + int.from_bytes(payload, "big")
        elif kind == PING and not flags & ACK:
            self.frame(PING, ACK, 0, payload)
        elif kind == DATA:
            self.received.setdefault(stream, bytearray()).extend(payload)
        elif kind == RST_STREAM:
            self.ended[stream] = f"reset {int.from_bytes(payload, 'big')}"
        elif kind == GOAWAY:
            self.goaway = payload[8:].decode(errors="replace") or f"goaway {int.from_bytes(payload[4:8], 'big')}"
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended.setdefault(stream, "ended")


def any_server() -> ssl.SSLContext:
    """TLS with whoever answers: a stranger has no reason to ask who that is."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def literal(name: str, value: str) -> bytes:
    """A header field without indexing and without Huffman's code."""
    return b"\x00" + b"".join(_length(len(text)) + text.encode() for text in (name, value))


def message(payload: bytes, compressed: bool = False) -> bytes:
    """One gRPC message: a flag and its length before it."""
    return bytes([compressed]) + len(payload).to_bytes(4, "big") + payload


def _length(count: int) -> bytes:
    """HPACK's integer with a prefix of 7 bits."""
    if count < 127:
        return bytes([count])
    encoded, count = bytearray([127]), count - 127
    while count >= 128:
        encoded.append(count % 128 + 128)
        count //= 128
    return bytes([*encoded, count])
