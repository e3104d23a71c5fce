"""A Flower message's content on the wire: its records' names and values, and beside them the bytes of its arrays.

`flwr.common.serde` puts everything into one protobuf and hashes it several times; here the arrays' bytes stay where
they are, and are hashed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import xxhash
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from fedkeras.runtime.federation_pb2 import ArrayInfo, Arrays, Header, Record, Value, Values


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


def decode_content(header: Header, pieces: Sequence[memoryview]) -> RecordDict:
    """The inverse of encode_content, from a header and the whole payload in pieces. Raises WireError."""
    take, content = _Taker(pieces), RecordDict()
    for entry in header.records:
        kind = entry.WhichOneof("kind")
        if entry.name in content:
            raise WireError(f"two records of the name '{entry.name}'")
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
    return content


class _Taker:
    """Takes the next n bytes from a sequence of pieces, copying each byte once."""

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
