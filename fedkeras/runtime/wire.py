"""Flower messages on the wire: a Header frame with all but the arrays' bytes, then those bytes in Chunk frames.

`flwr.common.serde` hashes the whole content of a message (0.2 s for 26 MB); here the bytes are sent as they are. A
chunk is encoded and decoded by hand, in protobuf's own format, so that its bytes are copied once on each side.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from google.protobuf.message import DecodeError

from fedkeras.runtime.federation_pb2 import ArrayInfo, Arrays, Frame, Header, Record, Value, Values

METHOD = "/fedkeras.Federation/Join"
PROTOCOL = 1
CHUNK_BYTES = 1 << 20
MAX_FRAME_BYTES = 16 << 20
"""gRPC's limit for one frame; only a Header of a model with very many arrays comes near it."""

_CHUNK_TAG = bytes([Frame.CHUNK_FIELD_NUMBER << 3 | 2])

Chunk = list[memoryview]
Parsed = Frame | memoryview
"""A frame as it arrives: a chunk's bytes, or anything else as a Frame."""


class WireError(Exception):
    """The other side broke the protocol; the text says how."""


def serialise(frame: Frame | Chunk) -> bytes:
    """gRPC's serialiser."""
    if isinstance(frame, Frame):
        return frame.SerializeToString()
    return b"".join([_CHUNK_TAG, _varint(sum(len(piece) for piece in frame)), *frame])


def parse(data: bytes) -> Parsed:
    """gRPC's deserialiser. It must not raise, so bytes that are no frame become an empty Frame, which nobody sends."""
    if data[:1] == _CHUNK_TAG:
        length, start = _read_varint(data, 1)
        if start + length == len(data):
            return memoryview(data)[start:]
    try:
        return Frame.FromString(data)
    except DecodeError:
        return Frame()


def encode_content(content: RecordDict) -> tuple[list[Record], list[bytes]]:
    """A message's content as Record entries and the buffers of its arrays, which are not copied."""
    records, buffers = [], []
    for name, entry in content.items():
        if isinstance(entry, ArrayRecord):
            infos = []
            for key, array in entry.items():
                buffers.append(array.data)
                info = ArrayInfo(name=key, dtype=array.dtype, stype=array.stype, num_bytes=len(array.data))
                info.shape.extend(array.shape)
                infos.append(info)
            records.append(Record(name=name, arrays=Arrays(arrays=infos)))
        elif isinstance(entry, MetricRecord):
            records.append(Record(name=name, metrics=_encode_values(entry)))
        else:
            records.append(Record(name=name, config=_encode_values(entry)))
    return records, buffers


def encode(message: Message, cid: int, content: tuple[list[Record], list[bytes]] | None = None) -> tuple[Header, list]:
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
    records, buffers = content or encode_content(message.content)
    header.records.extend(records)
    header.payload_bytes = sum(map(len, buffers))
    if (size := header.ByteSize()) > MAX_FRAME_BYTES - 64:
        raise ValueError(
            f"{size} bytes beside the arrays are too many for a message: put large values into an ArrayRecord"
        )
    return header, buffers


def chunks(buffers: Iterable[bytes]) -> Iterator[Chunk]:
    """Cut buffers into chunks of CHUNK_BYTES; small buffers share one. No byte is copied."""
    chunk, room = [], CHUNK_BYTES
    for buffer in buffers:
        rest = memoryview(buffer)
        while len(rest):
            piece, rest = rest[:room], rest[room:]
            chunk.append(piece)
            room -= len(piece)
            if not room:
                yield chunk
                chunk, room = [], CHUNK_BYTES
    if chunk:
        yield chunk


def frames(header: Header, buffers: Iterable[bytes]) -> Iterator[Frame | Chunk]:
    """All frames of one message."""
    yield Frame(header=header)
    yield from chunks(buffers)


def same_buffers(one: Sequence[bytes], other: Sequence[bytes]) -> bool:
    """True if these are the very same bytes objects, as they are where a strategy gives several messages one record."""
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


class Assembler:
    """Puts one stream's Header and Chunk frames together again, message by message.

    With `keep` (a node's side) the last payload is kept, and a header may refer to it instead of sending it again.
    """

    def __init__(self, keep: bool = False) -> None:
        self._kept: list[memoryview] | None = [] if keep else None
        self._header: Header | None = None
        self._pieces: list[memoryview] = []
        self._missing = 0

    def add(self, frame: Parsed) -> tuple[Header, list[memoryview]] | None:
        """Take a frame; return (header, pieces) when it completes a message. Raises WireError."""
        if isinstance(frame, memoryview):
            if self._header is None or not 0 < len(frame) <= self._missing:
                raise WireError("a chunk that belongs to no message")
            self._pieces.append(frame)
            self._missing -= len(frame)
        elif frame.WhichOneof("content") == "header":
            if self._header is not None:
                raise WireError("a new message before the last one was complete")
            self._header, self._missing = frame.header, frame.header.payload_bytes
            if sum(info.num_bytes for record in self._header.records for info in record.arrays.arrays) != self._missing:
                raise WireError("a message whose arrays do not add up to its length")
            if self._header.same_payload:
                if not self._kept or sum(map(len, self._kept)) != self._missing:
                    raise WireError("a message that refers to a payload that is not there")
                self._pieces, self._missing = self._kept, 0
        else:
            raise WireError(f"a frame that does not belong here: {frame.WhichOneof('content') or 'no frame at all'}")
        if self._missing:
            return None
        complete = self._header, self._pieces
        if self._kept is not None and self._pieces:
            self._kept = self._pieces
        self._header, self._pieces = None, []
        return complete


def decode(header: Header, pieces: Sequence[memoryview], run_id: int, source: int, destination: int) -> Message:
    """A complete message. Ids of run and nodes are given by the receiver, who knows them. Raises WireError."""
    try:
        metadata = Metadata(
            run_id, header.message_id, source, destination, header.reply_to_message_id, header.group_id,
            header.created_at or time.time(), header.ttl, header.message_type,
        )  # fmt: skip
    except ValueError as error:
        raise WireError(str(error)) from error
    if header.HasField("error"):
        return Message(Error(header.error.code, header.error.reason), metadata=metadata)
    take = _Taker(pieces)
    content = RecordDict()
    for entry in header.records:
        kind = entry.WhichOneof("kind")
        if kind == "arrays":
            arrays = {
                info.name: Array(info.dtype, tuple(info.shape), info.stype, take(info.num_bytes))
                for info in entry.arrays.arrays
            }
            content[entry.name] = ArrayRecord(arrays)
        elif kind == "metrics":
            content[entry.name] = _decode_values(MetricRecord, entry.metrics)
        elif kind == "config":
            content[entry.name] = _decode_values(ConfigRecord, entry.config)
        else:
            raise WireError(f"record '{entry.name}' is of an unknown kind")
    return Message(content, metadata=metadata)


class _Taker:
    """Takes the next n bytes from a row of pieces, copying each byte once."""

    def __init__(self, pieces: Sequence[memoryview]) -> None:
        self._pieces, self._index, self._offset = pieces, 0, 0

    def __call__(self, count: int) -> bytes:
        parts = []
        while count:
            piece = self._pieces[self._index][self._offset : self._offset + count]
            parts.append(piece)
            count -= len(piece)
            self._offset += len(piece)
            if self._offset == len(self._pieces[self._index]):
                self._index, self._offset = self._index + 1, 0
        return b"".join(parts)


_FIELDS = {
    bool: ("booleans", Value.BOOLEAN),  # before int, of which bool is a kind
    int: ("integers", Value.INTEGER),
    float: ("doubles", Value.DOUBLE),
    str: ("strings", Value.STRING),
    bytes: ("blobs", Value.BLOB),
}
_FIELD_OF_TYPE = {number: field for field, number in _FIELDS.values()}


def _encode_values(table: MetricRecord | ConfigRecord) -> Values:
    values = Values()
    for name, content in table.items():
        items = content if isinstance(content, list) else [content]
        # isinstance, for numpy's float64 is a float and its str_ a str
        kind = next(kind for kind in _FIELDS if isinstance(items[0], kind)) if items else float
        field, number = _FIELDS[kind]
        entry = values.values.add(name=name, is_list=isinstance(content, list), type=number)
        getattr(entry, field).extend(items)
    return values


def _decode_values(kind: type, values: Values) -> MetricRecord | ConfigRecord:
    table = {}
    for entry in values.values:
        items = list(getattr(entry, _FIELD_OF_TYPE.get(entry.type, "doubles")))
        if not entry.is_list and len(items) != 1:
            raise WireError(f"value '{entry.name}' is missing")
        table[entry.name] = items if entry.is_list else items[0]
    try:
        return kind(table)
    except TypeError as error:
        raise WireError(f"values that do not fit a {kind.__name__}: {error}") from error


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(data: bytes, start: int) -> tuple[int, int]:
    """The number at `start` and the place behind it; (-1, start) if there is none."""
    number = 0
    for position in range(start, min(start + 10, len(data))):
        number |= (data[position] & 0x7F) << 7 * (position - start)
        if data[position] < 0x80:
            return number, position + 1
    return -1, start
