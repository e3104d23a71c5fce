"""A Flower message's content on the wire: its records' names and values, and beside them the bytes of its arrays.

`flwr.common.serde` puts everything into one protobuf and hashes it several times; here the arrays' bytes stay where
they are, and are hashed once.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import xxhash
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedkeras.runtime.federation_pb2 import ArrayInfo, Arrays, Header, Record, Value, Values

MADE_AT_ONCE = 16 << 20
"""Bytes of an array for which there is room before they have come."""


class WireError(Exception):
    """The other side broke the protocol; the text says how."""


class Altered(WireError):
    """A payload did not arrive as it was sent; a second transfer may succeed."""


@dataclass(frozen=True)
class EncodedContent:
    """A content's records for a Header, its arrays' buffers (not copied), and the XXH3 digest of these.

    The digest finds, at the speed of memory, what was altered by accident; against intent there is TLS.
    """

    records: list[Record]
    buffers: list[bytes]
    digest: bytes


def encode_content(content: RecordDict) -> EncodedContent:
    """Encode a content; once is enough for all messages that share it."""
    records, buffers, digest = [], [], xxhash.xxh3_128()
    for name, entry in content.items():
        if isinstance(entry, ArrayRecord):
            infos = []
            for key, array in entry.items():
                buffers.append(array.data)
                digest.update(array.data)
                info = ArrayInfo(name=key, dtype=array.dtype, stype=array.stype, num_bytes=len(array.data))
                info.shape.extend(array.shape)
                infos.append(info)
            records.append(Record(name=name, arrays=Arrays(arrays=infos)))
        elif isinstance(entry, MetricRecord):
            records.append(Record(name=name, metrics=_encode_values(entry)))
        else:
            records.append(Record(name=name, config=_encode_values(entry)))
    return EncodedContent(records, buffers, digest.digest() if buffers else b"")


def array_sizes(header: Header) -> list[int]:
    """Bytes of each array that belongs to a header, in the order in which they follow it."""
    return [info.num_bytes for record in header.records for info in record.arrays.arrays]


class ArrayBuffers:
    """The bytes of a message's arrays, put in their place as they come: each byte is copied once.

    Kept in pieces until all have come, a payload needs fresh pages of memory twice, for the pieces and for the whole:
    that took five times as long. Room for an array is made when the first chunk is there; for one of more than
    `MADE_AT_ONCE` it grows with what comes, for a promise of bytes is none.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        self._sizes, self._filling, self._missing = iter(sizes), io.BytesIO(), 0
        self.whole: list[bytes] = []
        """Of the arrays that are complete."""
        self._next()

    def add(self, piece: memoryview) -> None:
        """Take the next bytes; not more than there are still to come."""
        while len(piece):
            part, piece = piece[: self._missing], piece[self._missing :]
            self._filling.write(part)
            self._missing -= len(part)
            if not self._missing:
                self.whole.append(self._filling.getvalue())  # no copy: they have this very length
                self._next()

    def _next(self) -> None:
        """Begin with the next array that has any bytes."""
        for size in self._sizes:
            if size:
                # BytesIO takes over bytes that nobody else has, and gives them back as they are.
                self._filling, self._missing = io.BytesIO(bytes(size if size <= MADE_AT_ONCE else 0)), size
                return
            self.whole.append(b"")


def decode_content(header: Header, buffers: Sequence[bytes]) -> RecordDict:
    """The inverse of encode_content, from a header and the bytes of its arrays. Raises WireError."""
    rest, content = iter(buffers), RecordDict()
    for entry in header.records:
        kind = entry.WhichOneof("kind")
        if entry.name in content:
            raise WireError(f"two records of the name '{entry.name}'")
        if kind == "arrays":
            arrays = {
                info.name: Array(info.dtype, tuple(info.shape), info.stype, next(rest)) for info in entry.arrays.arrays
            }
            content[entry.name] = ArrayRecord(arrays)
        elif kind == "metrics":
            content[entry.name] = _decode_values(MetricRecord, entry.metrics)
        elif kind == "config":
            content[entry.name] = _decode_values(ConfigRecord, entry.config)
        else:
            raise WireError(f"record '{entry.name}' is of an unknown kind")
    return content


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


def _decode_values(kind: type[MetricRecord] | type[ConfigRecord], values: Values) -> MetricRecord | ConfigRecord:
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
