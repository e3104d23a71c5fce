"""Replies in the order of cid, whatever the order of arrival: early ones wait, above a bound in temporary files."""

import io
import logging
import os
import pickle
import tempfile
from collections.abc import Hashable, Iterable, Iterator

from flwr.app import Message

from fedkeras.federation.records import payload

log = logging.getLogger("fedkeras")

HELD_IN_MEMORY = 64 << 20
"""Bytes of replies that came before their turn and wait in memory; further ones wait in a temporary file."""


def in_order(
    replies: Iterable[tuple[int, Message | None]], cids: Iterable[int], hold: bool = False
) -> Iterator[tuple[int, Message]]:
    """Yield (cid, reply) in the order of `cids`, as soon as every earlier client has answered or failed.

    `replies` are (cid, reply) pairs in the order of arrival, with None for a client that failed. Clients that never
    show up are passed over at the end. With `hold` none is yielded before the last has come.
    """
    turn, early = list(cids), EarlyReplies()
    for cid, reply in replies:
        early.put(cid, reply)
        while not hold and turn and turn[0] in early:
            if (reply := early.take(turn[0])) is not None:
                yield turn[0], reply
            turn.pop(0)
    for cid in turn:
        if cid in early and (reply := early.take(cid)) is not None:
            yield cid, reply


class EarlyReplies:
    """Replies that came early, by cid or another key. Above `limit` bytes in memory they go to one temporary file."""

    def __init__(self, limit: int = HELD_IN_MEMORY) -> None:
        self._limit, self._held = limit, 0
        self._replies: dict[Hashable, tuple[int, Message | None, int | None]] = {}
        self._spool: io.FileIO | None = None

    def __contains__(self, key: Hashable) -> bool:
        return key in self._replies

    def put(self, key: Hashable, reply: Message | None) -> None:
        """Keep a reply, or None for a client that failed."""
        size = _size(reply)
        place = self._spooled(reply) if size and self._held + size > self._limit else None
        if place is None:
            self._held += size
        self._replies[key] = (size, reply, None) if place is None else (0, None, place)

    def take(self, key: Hashable) -> Message | None:
        """Give a reply back and forget it."""
        size, reply, place = self._replies.pop(key)
        self._held -= size
        if place is None:
            return reply
        self._spool.seek(place)
        reader = io.BufferedReader(self._spool)
        reply = pickle.load(reader)
        reader.detach()
        if all(place is None for *_, place in self._replies.values()):
            self._spool.close()  # which removes it
            self._spool = None
        return reply

    def _spooled(self, reply: Message) -> int | None:
        """Where in the temporary file the reply is; None where the disk has no room."""
        try:
            self._spool = self._spool or tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the last
            place = self._spool.seek(0, os.SEEK_END)
            pickle.dump(reply, _Whole(self._spool), pickle.HIGHEST_PROTOCOL)
            return place
        except OSError as error:  # what was written of it lies behind all others and is never looked at
            log.warning("a reply that came early stays in memory: %s", error)
            return None


class _Whole:
    """Writes all that it is given to an unbuffered file: a pickle's large parts are not copied on their way.

    Unbuffered, for what a full disk has refused must not be tried again by the next seek.
    """

    def __init__(self, file: io.FileIO) -> None:
        self._file = file

    def write(self, data: bytes | memoryview) -> None:
        """Raises OSError where there is no room."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[self._file.write(rest) :]


def _size(reply: Message | None) -> int:
    if reply is None or reply.has_error():
        return 0
    return payload(reply.content)
