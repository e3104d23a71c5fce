"""Sending a round's messages and taking the replies: as they arrive, then in the order of cid."""

import contextlib
import logging
import math
import pickle
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

from flwr.app import Message
from flwr.serverapp import Grid

from fedkeras.federation.records import payload

log = logging.getLogger("fedkeras")

HELD_IN_MEMORY = 64 << 20
"""Bytes of replies that came before their turn and wait in memory; further ones wait in a temporary file."""

POLL_SECONDS = 0.02
"""How often Flower's own grids, which cannot wait for a reply, are asked for one. Flower's loop asks every 0.1 s."""


def exchange(grid: Grid, messages: Sequence[Message], timeout: float) -> Iterator[Message]:
    """Send all messages at once, then yield each reply when it is there; ends after `timeout` seconds or the last one.

    The messages are on their way when this returns, before the first reply is asked for.
    """
    deadline = deadline_of(grid, timeout)
    message_ids = set(grid.push_messages(messages))
    wait = getattr(grid, "wait_for_replies", None)

    def replies() -> Iterator[Message]:
        while message_ids:
            left = max(0.0, deadline - time.monotonic())
            for reply in wait(message_ids, left) if wait else grid.pull_messages(message_ids):
                message_ids.discard(reply.metadata.reply_to_message_id)
                yield reply
            # Looked at after the replies: those that came while nobody was asking count, however late it is now.
            if not left:
                break
            if message_ids and not wait:
                time.sleep(POLL_SECONDS)
        if message_ids and hasattr(grid, "abandon"):
            grid.abandon(message_ids)

    return replies()


def deadline_of(grid: Grid, timeout: float) -> float:
    """The time after which no reply is waited for; none on a grid that runs the clients itself, one after the other."""
    return math.inf if getattr(grid, "patient", False) else time.monotonic() + timeout


def in_order(replies: Iterable[tuple[int, Message | None]], cids: Iterable[int]) -> Iterator[tuple[int, Message]]:
    """Yield (cid, reply) in the order of `cids`, as soon as every earlier client has answered or failed.

    `replies` are (cid, reply) pairs in the order of arrival, with None for a client that failed. Clients that never
    show up are passed over at the end.
    """
    turn, waiting = list(cids), Waiting()
    for cid, reply in replies:
        waiting.put(cid, reply)
        while turn and turn[0] in waiting:
            if (reply := waiting.take(turn[0])) is not None:
                yield turn[0], reply
            turn.pop(0)
    for cid in turn:
        if cid in waiting and (reply := waiting.take(cid)) is not None:
            yield cid, reply


class Waiting:
    """Replies that came early, by cid. Above `limit` bytes in memory they go to a temporary file each."""

    def __init__(self, limit: int = HELD_IN_MEMORY) -> None:
        self._limit, self._held = limit, 0
        self._replies: dict[int, tuple[int, Message | None, object]] = {}

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
