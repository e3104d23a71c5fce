"""Flower messages on the wire: a Header frame with all but the arrays' bytes, then those bytes in Chunk frames.

A message is cut into chunks so that a large one does not hold up what else travels on the connection. A chunk is
encoded and decoded by hand, in protobuf's own format, so that its bytes are copied once on each side. A Header that is
larger than a frame may be travels in parts. At the other end the Assembler puts a stream's messages together again; one
that is too long, too short or altered is never used.

Frames to the server are smaller than those to a client: gRPC takes a whole one before it can be known who sends it.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import xxhash
from flwr.app import Error, Message, Metadata
from google.protobuf.message import DecodeError

from fedkeras.errors import describe
from fedkeras.runtime.content import (
    Altered,
    ArrayBuffers,
    EncodedContent,
    WireError,
    array_sizes,
    decode_content,
    encode_content,
)
from fedkeras.runtime.federation_pb2 import Frame, Header, HeaderPart

METHOD = "/fedkeras.Federation/Join"
PROTOCOL = 6


@dataclass(frozen=True)
class Direction:
    """How large a chunk is, in bytes: all but a message's last have exactly this size."""

    chunk_bytes: int

    @property
    def max_frame_bytes(self) -> int:
        """The largest frame, and so gRPC's limit: one full chunk, and what protobuf puts before it."""
        return self.chunk_bytes + 64


TO_CLIENT, TO_SERVER = Direction(2 << 20), Direction(384 << 10)
MAX_HEADER_BYTES = 4 << 20
"""The largest Header, that of a model with very many arrays."""
MAX_MESSAGE_BYTES = 1 << 30
"""The largest payload that is received from the other side, unless another bound is given."""

HEADER_SPARE_BYTES = 1 << 20
"""What a reply may have beside its arrays, and beside twice what its message had there."""

MAX_RECORDS, MAX_ENTRIES = 100, 20_000
"""Records of a message; arrays, values and texts in all of them: a few bytes each on the wire, hundreds in memory."""

_CHUNK_TAG = bytes([Frame.CHUNK_FIELD_NUMBER << 3 | 2])

Chunk = list[memoryview]
Parsed = Frame | memoryview
"""A frame as it arrives: a chunk's bytes, or any other frame as a Frame."""
Outgoing = tuple[Header, list[bytes]]
"""A message that is ready to be sent: its header, and its arrays' buffers."""


class TooLarge(WireError):
    """A message of more bytes than the receiver takes: the same again when it is sent again."""


class SharedChunk(Chunk):
    """A chunk that several clients are sent: a frame is made of it once, where a stream needs its bytes in one."""

    @functools.cached_property
    def frame(self) -> bytes:
        """What `serialise` gives."""
        return b"".join(pieces(self))


def serialise(frame: Frame | Chunk) -> bytes:
    """gRPC's serialiser."""
    return frame.frame if isinstance(frame, SharedChunk) else b"".join(pieces(frame))


def pieces(frame: Frame | Chunk) -> list[bytes | memoryview]:
    """A frame as it is serialised; a chunk's bytes are not copied."""
    if isinstance(frame, Frame):
        return [frame.SerializeToString()]
    return [_CHUNK_TAG + _varint(sum(len(piece) for piece in frame)), *frame]


def parse(data: bytes | bytearray) -> Parsed:
    """gRPC's deserialiser. It must not raise: bytes that are no frame become an empty Frame, which is never sent."""
    if (chunk := chunk_in(data)) is not None:
        return chunk
    try:
        return Frame.FromString(bytes(data))
    except DecodeError:
        return Frame()


def chunk_in(data: bytes | bytearray) -> memoryview | None:
    """The bytes of a serialised chunk, not copied; None for another frame."""
    if data[:1] == _CHUNK_TAG:
        length, start = _read_varint(data, 1)
        if start + length == len(data):
            return memoryview(data)[start:]
    return None


def header_limit(sent: int) -> int:
    """Bytes that the Header of a reply may have, where its message's had `sent`."""
    return min(MAX_HEADER_BYTES, 2 * sent + HEADER_SPARE_BYTES)


def encode(
    message: Message, cid: int, content: EncodedContent | None = None, max_header_bytes: int = MAX_HEADER_BYTES
) -> Outgoing:
    """A message as its Header and buffers; `content` is encode_content's result where many messages share it.

    Raises ValueError for what cannot be sent: integers beyond 64 bits, or names and values that take too much room.
    """
    meta = message.metadata
    header = Header(
        message_id=meta.message_id,
        reply_to_message_id=meta.reply_to_message_id,
        cid=cid,
        message_type=meta.message_type,
        group_id=meta.group_id,
        created_at=meta.created_at,
        ttl=meta.ttl,
    )
    if message.has_error():
        header.error.code, header.error.reason = message.error.code, message.error.reason or ""
        return header, []
    content = content or encode_content(message.content)
    header.records.extend(content.records)
    header.payload_bytes, header.digest = sum(map(len, content.buffers)), content.digest
    if (size := header.ByteSize()) > max_header_bytes:
        raise ValueError(
            f"{size} bytes beside the arrays are too many for a message: put large values into an ArrayRecord"
        )
    if fault := _fault_of_records(header):
        raise ValueError(fault)
    return header, content.buffers


def chunks(buffers: Iterable[bytes], direction: Direction) -> Iterator[Chunk]:
    """Cut buffers into chunks of the direction's size; small buffers share one. No byte is copied."""
    chunk, room = [], direction.chunk_bytes
    for buffer in buffers:
        rest = memoryview(buffer)
        while len(rest):
            piece, rest = rest[:room], rest[room:]
            chunk.append(piece)
            room -= len(piece)
            if not room:
                yield chunk
                chunk, room = [], direction.chunk_bytes
    if chunk:
        yield chunk


def frames(header: Header, buffers: Iterable[bytes], direction: Direction) -> Iterator[Frame | Chunk]:
    """All frames of one message."""
    yield from header_frames(header, direction)
    yield from chunks(buffers, direction)


def header_frames(header: Header, direction: Direction) -> Iterator[Frame]:
    """Those with which a message begins."""
    most = direction.chunk_bytes
    if (size := header.ByteSize()) <= most:
        yield Frame(header=header)
    else:
        encoded = header.SerializeToString()
        for start in range(0, size, most):
            part = encoded[start : start + most]
            yield Frame(header_part=HeaderPart(data=part, last=start + most >= size))


def same_buffers(one: Sequence[bytes], other: Sequence[bytes]) -> bool:
    """True if these are the very same bytes objects, as they are where a strategy gives several messages one record."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def decode(header: Header, buffers: Sequence[bytes], run_id: int, source: int, destination: int) -> Message:
    """A complete message. Ids of run and nodes are given by the receiver, who knows them.

    Raises WireError, and nothing else, whatever the other side has put together.
    """
    try:
        metadata = Metadata(
            run_id, header.message_id, source, destination, header.reply_to_message_id, header.group_id,
            header.created_at or time.time(), header.ttl, header.message_type,
        )  # fmt: skip
        if header.HasField("error"):
            return Message(Error(header.error.code, header.error.reason), metadata=metadata)
        return Message(decode_content(header, buffers), metadata=metadata)
    except WireError:
        raise
    except Exception as error:
        raise WireError(f"a message that is none: {describe(error)}") from error


def _fault_of_records(header: Header) -> str:
    """What is wrong with the number of a message's records, arrays and values, or ''."""
    if (count := len(header.records)) > MAX_RECORDS:
        return f"a message of {count} records; at most {MAX_RECORDS} are taken"
    # A record is one of three kinds; the others have nothing in them.
    count = sum(len(r.arrays.arrays) + len(r.metrics.values) + len(r.config.values) for r in header.records)
    if count <= MAX_ENTRIES:
        tables = (values for record in header.records for values in (record.metrics.values, record.config.values))
        count += sum(len(value.strings) + len(value.blobs) for values in tables for value in values)
    return f"a message of {count} arrays and values; at most {MAX_ENTRIES} are taken" if count > MAX_ENTRIES else ""


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(data: bytes | bytearray, start: int) -> tuple[int, int]:
    """The number at `start` and the place behind it; (-1, start) if there is none."""
    number = 0
    for position in range(start, min(start + 10, len(data))):
        number |= (data[position] & 0x7F) << 7 * (position - start)
        if data[position] < 0x80:
            return number, position + 1
    return -1, start


class Assembler:
    """Puts the messages of one stream together from its Header and Chunk frames.

    `direction` is that of the messages. A client keeps the last payload, and a header may refer to it instead of a
    second transfer. `max_bytes` bounds a message's payload, and `max_header_bytes()` a Header that comes in parts.
    `judge(header)` is asked before any bytes of a payload are kept: False lets the message pass by; it may raise
    WireError.
    """

    def __init__(
        self,
        direction: Direction,
        max_bytes: int = MAX_MESSAGE_BYTES,
        judge: Callable[[Header], bool] = lambda header: True,
        max_header_bytes: Callable[[], int] = lambda: MAX_HEADER_BYTES,
    ) -> None:
        self._chunk_bytes, self._max_bytes = direction.chunk_bytes, max_bytes
        self._judge, self._max_header_bytes = judge, max_header_bytes
        keep = direction is TO_CLIENT
        self._skipped = False
        self._header_parts = bytearray()
        self._kept: list[bytes] | None = [] if keep else None
        self._kept_digest = b""
        self._header: Header | None = None
        self._buffers: ArrayBuffers | None = None
        self._hash = xxhash.xxh3_128()
        self.missing = 0
        """Bytes of arrays that have yet to come before the message is whole."""

    @property
    def midway(self) -> bool:
        """True if a message has begun that is not whole yet."""
        return bool(self.missing or self._header_parts)

    @property
    def header(self) -> Header | None:
        """Of the message that is under way and not skipped."""
        return None if self._skipped else self._header

    def skip(self) -> None:
        """Let what is left of this message pass by, and forget what there is of it."""
        self._skipped, self._buffers = True, None

    def add(self, frame: Parsed) -> tuple[Header, list[bytes]] | None:
        """Take a frame; return (header, its arrays' buffers) when it completes a message. Raises WireError."""
        if isinstance(frame, memoryview):
            self._add_chunk(frame)
        elif frame.WhichOneof("content") == "header":
            self._begin(frame.header)
        elif frame.WhichOneof("content") == "header_part":
            self._add_header_part(frame.header_part)
        else:
            raise WireError(f"a frame that does not belong here: {frame.WhichOneof('content') or 'no frame at all'}")
        return None if self.midway else self._complete()

    def _add_header_part(self, part: HeaderPart) -> None:
        # Full ones, as with chunks; and a header has at least two, or it would be no part
        full, parts = len(part.data) == self._chunk_bytes, self._header_parts
        if not (full or (part.last and parts)):
            raise WireError("a header in parts that have another size than they should")
        if len(parts) + len(part.data) > (most := self._max_header_bytes()):
            raise WireError(f"more than {most} bytes beside a message's arrays")
        parts += part.data
        if part.last:
            self._header_parts = bytearray()
            try:
                self._begin(Header.FromString(bytes(parts)))
            except DecodeError:
                raise WireError("a header in parts that is none") from None

    def _begin(self, header: Header) -> None:
        if self._header is not None or self._header_parts:
            raise WireError("a new message before the last one was complete")
        if fault := _fault_of_records(header):
            raise WireError(fault)
        if header.payload_bytes > self._max_bytes:
            raise TooLarge(f"a message of {header.payload_bytes} bytes; at most {self._max_bytes} are taken")
        if sum(sizes := array_sizes(header)) != header.payload_bytes:
            raise WireError("a message whose arrays do not add up to its length")
        self._header, self.missing, self._hash = header, header.payload_bytes, xxhash.xxh3_128()
        self._skipped = not self._judge(header)
        if header.same_payload:
            if not self._kept or header.digest != self._kept_digest or [len(each) for each in self._kept] != sizes:
                raise WireError("a message that refers to a payload that is not there")
            self.missing = 0

    def _add_chunk(self, chunk: memoryview) -> None:
        # The exact size, for a million chunks of a byte each would take far more memory than they carry.
        if self._header is None or len(chunk) != min(self._chunk_bytes, self.missing):
            raise WireError("a chunk that belongs to no message")
        self.missing -= len(chunk)
        if not self._skipped:
            self._buffers = self._buffers or ArrayBuffers(array_sizes(self._header))
            self._buffers.add(chunk)
            self._hash.update(chunk)

    def _complete(self) -> tuple[Header, list[bytes]] | None:
        header, filled, skipped = self._header, self._buffers, self._skipped
        self._header, self._buffers, self._skipped = None, None, False
        if skipped:
            return None
        if header.same_payload:
            return header, self._kept
        if filled and self._hash.digest() != header.digest:
            raise Altered("a message whose bytes are not those that its digest was taken of")
        if filled and self._kept is not None:
            self._kept, self._kept_digest = filled.whole, header.digest
        return header, filled.whole if filled else [b""] * len(array_sizes(header))
