"""A payload that many clients are sent is put into frames once, not once for each."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fedkeras.runtime import wire

MOST_BYTES = 64 << 20
"""Of a payload whose frames are kept beside it meanwhile; those of a larger one are made for each client, and gone."""

Key = tuple[int, ...]


@dataclass
class _Payload:
    """The chunks that have been cut, by their place; `readers` clients are being sent them."""

    buffers: Sequence[bytes]
    made: dict[int, wire.SharedChunk] = field(default_factory=dict)
    readers: int = 0


class SharedPayloads:
    """Chunks of the payloads that are being sent now. For one asyncio loop.

    Their frames are kept as long as at least two clients are being sent the same buffers. So a message to one client
    alone has one frame in memory at a time, as has a client that reads slowly behind all others.
    """

    def __init__(self) -> None:
        self._payloads: dict[Key, _Payload] = {}

    @contextlib.contextmanager
    def chunks(self, buffers: Sequence[bytes]) -> Iterator[Iterator[wire.Chunk]]:
        """The chunks of these buffers, to be taken one after the other."""
        if sum(map(len, buffers)) > MOST_BYTES:
            yield wire.chunks(buffers, wire.TO_CLIENT)
            return
        key = tuple(map(id, buffers))  # of these very objects, which live as long as they are here
        payload = self._payloads.setdefault(key, _Payload(buffers))
        payload.readers += 1
        try:
            yield _chunks(payload)
        finally:
            payload.readers -= 1
            if payload.readers == 1:
                payload.made.clear()
            if not payload.readers:
                del self._payloads[key]


def _chunks(payload: _Payload) -> Iterator[wire.Chunk]:
    """Each chunk when it is wanted; it is kept, with its frame, only for others that are being sent the same."""
    for place, chunk in enumerate(wire.chunks(payload.buffers, wire.TO_CLIENT)):
        if payload.readers > 1:
            yield payload.made.setdefault(place, wire.SharedChunk(chunk))
        else:
            yield payload.made.get(place, chunk)
