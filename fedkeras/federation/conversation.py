"""Talking with several clients at once, a message after the other: what split learning needs between two batches.

A client has one or more messages under way; each has a tag, under which its reply is asked for. What a client does not
answer within the time-out, answers with an error, or answers badly (`fail`) ends the conversation with that client, and
with no other.
"""

import time
from collections import Counter
from collections.abc import Collection, Hashable, Mapping

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedkeras.federation.exchange import POLL_SECONDS, deadline_of
from fedkeras.federation.records import payload
from fedkeras.federation.validation import one_line

Tag = Hashable


class Conversation:
    """Messages to and from a cohort, {cid: node id}; `timeout` are seconds for each answer.

    `failures` says who is out of it and why; `up` and `down` are bytes of arrays by cid.
    """

    def __init__(self, grid: Grid, cohort: Mapping[int, int], timeout: float) -> None:
        self._grid, self._nodes, self._timeout = grid, dict(cohort), timeout
        self.failures: dict[int, str] = {}
        self.up: Counter[int] = Counter()
        self.down: Counter[int] = Counter()
        self._sent: dict[str, tuple[int, Tag, float]] = {}
        self._arrived: dict[tuple[int, Tag], Message] = {}

    def send(self, cids: Collection[int], action: str, tag: Tag, content: RecordDict) -> None:
        """Send the same content to some clients; those that have failed are passed over."""
        cids = [cid for cid in cids if cid not in self.failures]
        messages = [Message(content, self._nodes[cid], action) for cid in cids]
        deadline = deadline_of(self._grid, self._timeout)
        for cid, message_id in zip(cids, self._grid.push_messages(messages), strict=True):
            self._sent[message_id] = cid, tag, deadline
            self.down[cid] += payload(content)

    def take(self, cid: int, tag: Tag) -> Message | None:
        """A client's reply to its message `tag`, waited for; None if it has failed."""
        found = self.next({cid: tag})
        return found and found[1]

    def next(self, awaited: Mapping[int, Tag]) -> tuple[int, Message] | None:
        """The first reply to arrive, or the first that has, of those awaited as {cid: tag}, with its cid.

        None if all of these clients have failed, or if none was sent such a message.
        """
        while True:
            for cid, tag in self._arrived:
                if cid not in self.failures and awaited.get(cid) == tag:
                    return cid, self._arrived.pop((cid, tag))
            if not any(awaited.get(cid) == tag for cid, tag, _ in self._sent.values()):
                return None
            self._receive()

    def fail(self, cid: int, reason: str) -> None:
        """End the conversation with a client; the first reason counts."""
        self.failures.setdefault(cid, one_line(reason) or "an error without a word")
        self._abandon([message_id for message_id, (other, _, _) in self._sent.items() if other == cid])
        for key in [key for key in self._arrived if key[0] == cid]:
            del self._arrived[key]

    def close(self) -> None:
        """Wait for nothing any more."""
        self._abandon(list(self._sent))
        self._arrived.clear()

    def _receive(self) -> None:
        """Wait for at least one reply, or until somebody is too late."""
        left = min(deadline for _, _, deadline in self._sent.values()) - time.monotonic()
        replies = self._replies(max(0.0, left))
        for reply in replies:
            cid, tag, _ = self._sent.pop(reply.metadata.reply_to_message_id, (None, None, 0.0))
            if cid is None:  # the client has failed by another reply that came with this one
                continue
            if reply.has_error():
                self.fail(cid, reply.error.reason or f"error {reply.error.code}")
            else:
                self.up[cid] += payload(reply.content)
                self._arrived[cid, tag] = reply
        # Looked at after the replies: those that came while the server was at work count, however late it is now.
        now = time.monotonic()
        for cid in {cid for cid, _, deadline in self._sent.values() if deadline <= now} if not replies else ():
            self.fail(cid, f"no answer within {self._timeout:g} s (--round-timeout)")

    def _replies(self, timeout: float) -> list[Message]:
        wait = getattr(self._grid, "wait_for_replies", None)
        if wait:
            return wait(list(self._sent), timeout)
        deadline = time.monotonic() + timeout
        while not (replies := list(self._grid.pull_messages(list(self._sent)))) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return replies

    def _abandon(self, message_ids: list[str]) -> None:
        for message_id in message_ids:
            del self._sent[message_id]
        if message_ids and hasattr(self._grid, "abandon"):
            self._grid.abandon(message_ids)
