"""Messages put together again from the frames of one stream; what is too long, too short or altered is never used."""

import xxhash

from fedkeras.runtime import wire
from fedkeras.runtime.content import Altered, WireError
from fedkeras.runtime.federation_pb2 import Header


class Assembler:
    """Takes one stream's Header and Chunk frames, gives messages.

    With `keep` (a node's side) the last payload is kept, and a header may refer to it instead of sending it again.
    `max_bytes` bounds a message's payload.
    """

    def __init__(self, keep: bool = False, max_bytes: int = wire.MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: list[memoryview] | None = [] if keep else None
        self._kept_digest = b""
        self._header: Header | None = None
        self._pieces: list[memoryview] = []
        self._hash = xxhash.xxh3_128()
        self.missing = 0
        """Bytes that have yet to come before the message is whole."""

    def add(self, frame: wire.Parsed) -> tuple[Header, list[memoryview]] | None:
        """Take a frame; return (header, pieces) when it completes a message. Raises WireError."""
        if isinstance(frame, memoryview):
            self._add_chunk(frame)
        elif frame.WhichOneof("content") == "header":
            self._begin(frame.header)
        else:
            raise WireError(f"a frame that does not belong here: {frame.WhichOneof('content') or 'no frame at all'}")
        return None if self.missing else self._complete()

    def _begin(self, header: Header) -> None:
        if self._header is not None:
            raise WireError("a new message before the last one was complete")
        if header.payload_bytes > self._max_bytes:
            raise WireError(f"a message of {header.payload_bytes} bytes; at most {self._max_bytes} are taken")
        if sum(info.num_bytes for record in header.records for info in record.arrays.arrays) != header.payload_bytes:
            raise WireError("a message whose arrays do not add up to its length")
        self._header, self.missing, self._hash = header, header.payload_bytes, xxhash.xxh3_128()
        if header.same_payload:
            if not self._kept or header.digest != self._kept_digest or sum(map(len, self._kept)) != self.missing:
                raise WireError("a message that refers to a payload that is not there")
            self._pieces, self.missing = self._kept, 0

    def _add_chunk(self, chunk: memoryview) -> None:
        # The exact size, for a million chunks of a byte each would take far more memory than they carry.
        if self._header is None or len(chunk) != min(wire.CHUNK_BYTES, self.missing):
            raise WireError("a chunk that belongs to no message")
        self._pieces.append(chunk)
        self._hash.update(chunk)
        self.missing -= len(chunk)

    def _complete(self) -> tuple[Header, list[memoryview]]:
        header, pieces = self._header, self._pieces
        self._header, self._pieces = None, []
        if header.payload_bytes and not header.same_payload:
            if self._hash.digest() != header.digest:
                raise Altered("a message whose bytes are not those that its digest was taken of")
            if self._kept is not None:
                self._kept, self._kept_digest = pieces, header.digest
        return header, pieces
