"""Replies in the order of cid, whatever the order of arrival: early ones wait, above a bound in temporary files."""

import contextlib
import logging
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from flwr.app import Message

from fedkeras.federation.records import payload

log = logging.getLogger("fedkeras")

HELD_IN_MEMORY = 64 << 20
"""Bytes of replies that came before their turn and wait in memory; further ones wait in a temporary file."""


def in_order(replies: Iterable[tuple[int, Message | None]], cids: Iterable[int]) -> Iterator[tuple[int, Message]]:
    """Yield (cid, reply) in the order of `cids`, as soon as every earlier client has answered or failed.

    `replies` are (cid, reply) pairs in the order of arrival, with None for a client that failed. Clients that never
    show up are passed over at the end.
    """
    turn, early = list(cids), EarlyReplies()
    for cid, reply in replies:
        early.put(cid, reply)
        while turn and turn[0] in early:
            if (reply := early.take(turn[0])) is not None:
                yield turn[0], reply
            turn.pop(0)
    for cid in turn:
        if cid in early and (reply := early.take(cid)) is not None:
            yield cid, reply


class EarlyReplies:
    """Replies that came early, by cid. Above `limit` bytes in memory they go to a temporary file each."""

    def __init__(self, limit: int = HELD_IN_MEMORY) -> None:
        self._limit, self._held = limit, 0
        self._replies: dict[int, tuple[int, Message | None, BinaryIO | None]] = {}

    def __contains__(self, cid: int) -> bool:
        return cid in self._replies

    def put(self, cid: int, reply: Message | None) -> None:
        """Keep a reply, or None for a client that failed."""
        size = _size(reply)
        spool = _spooled(reply) if size and self._held + size > self._limit else None
        if spool is None:
            self._held += size
        self._replies[cid] = (size, reply, None) if spool is None else (0, None, spool)

    def take(self, cid: int) -> Message | None:
        """Give a reply back and forget it."""
        size, reply, spool = self._replies.pop(cid)
        self._held -= size
        if spool is None:
            return reply
        with spool:
            spool.seek(0)
            return pickle.load(spool)


def _spooled(reply: Message) -> BinaryIO | None:
    """The reply in a temporary file, which closing removes; None where the disk has no room."""
    try:
        with contextlib.ExitStack() as closing:
            spool = closing.enter_context(tempfile.TemporaryFile())
            pickle.dump(reply, spool, pickle.HIGHEST_PROTOCOL)
            closing.pop_all()
            return spool
    except OSError as error:
        log.warning("a reply that came early stays in memory: %s", error)
        return None


def _size(reply: Message | None) -> int:
    if reply is None or reply.has_error():
        return 0
    return payload(reply.content)
