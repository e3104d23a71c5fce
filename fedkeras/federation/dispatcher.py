"""Sending messages to several clients and taking their replies: as they come, by tag, or along a script for each.

One `Dispatcher` keeps what is under way, each message with its deadline. A round's messages are an `exchange`; split
learning sends batch after batch and asks for the `next` reply among those that it can use; what is handed out before
the rounds follows a `Script` for each client, side by side in one thread (`ScriptedTalks`). Who answers with an error,
too late, or badly has failed, and nobody else has.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from fedkeras.errors import describe, one_line
from fedkeras.federation.grids import federation_grid
from fedkeras.federation.records import payload
from fedkeras.flower.internals import ErrorCode

T = TypeVar("T")
Tag = Hashable

AHEAD = 3
"""Messages to one client that may be under way at once, if its script does not wait for the answers."""

NOT_SENT = "Flower's SuperLink has refused the message to it (it may be too large for it)"

SPARE_BYTES = 1_000_000
"""What a reply may have in arrays beside those that are expected of it."""

UNDER_WAY = 64 << 20
"""Bytes of arrays under way to all clients above which scripts wait for an answer, whatever they would do."""


@dataclass(frozen=True)
class Pending:
    """A message under way: to whom, under which tag, how large, and until when its answer counts."""

    cid: int
    tag: Tag
    num_bytes: int
    deadline: float


class Dispatcher:
    """Messages to and from `cohort`, {cid: node id}; `timeout` are seconds for each answer, `flag` sets them.

    `failures` says which clients are out of it and why; `up` and `down` are bytes of arrays by cid.
    """

    def __init__(self, grid: Grid, cohort: Mapping[int, int], timeout: float, flag: str = " (--round-timeout)") -> None:
        self._grid, self._nodes, self._timeout = federation_grid(grid), dict(cohort), timeout
        self.late = f"no answer within {timeout:g} s{flag}"
        self.failures: dict[int, str] = {}
        self.up: Counter[int] = Counter()
        self.down: Counter[int] = Counter()
        self._pending: dict[str, Pending] = {}
        self._arrived: dict[tuple[int, Tag], Message] = {}

    def add_client(self, cid: int, node_id: int) -> None:
        """Another client, or one that has failed and begins again."""
        self._nodes[cid] = node_id
        self.failures.pop(cid, None)

    @property
    def pending(self) -> Mapping[str, Pending]:
        """What is under way, by message id."""
        return self._pending

    def exchange(
        self,
        messages: Sequence[Message],
        reply_limits: Sequence[int | None] | None = None,
        seconds: float | None = None,
    ) -> Iterator[Message]:
        """Send a round's messages at once, then yield each reply when it is there, those that are errors too.

        Ends with the last reply or at the deadline. The messages are on their way when this returns, before the first
        reply is asked for. `reply_limits` are bytes of arrays that the reply to each may have (None: any number). An
        answer counts for `seconds`, if they are fewer than those of all.
        """
        cid_of = {node_id: cid for cid, node_id in self._nodes.items()}
        cids = [cid_of[message.metadata.dst_node_id] for message in messages]
        refused = self._push(messages, cids, None, reply_limits or [None] * len(messages), seconds)

        def replies() -> Iterator[Message]:
            try:
                yield from (_not_sent(messages[index]) for index in refused)
                while self._pending:
                    arrived, late = self._receive(math.inf)
                    yield from (reply for _, reply in arrived)
                    if late:
                        break
            finally:  # whoever takes the replies may stop in the middle
                self.close()

        return replies()

    def send(
        self, cids: Collection[int], action: str, tag: Tag, content: RecordDict, reply_limit: int | None = None
    ) -> None:
        """Send the same content to some clients; those that have failed are passed over.

        A reply may have `reply_limit` bytes of arrays; None: any number.
        """
        cids = [cid for cid in cids if cid not in self.failures]
        messages = [Message(content, self._nodes[cid], action) for cid in cids]
        for index in self._push(messages, cids, tag, [reply_limit] * len(cids)):
            self.fail(cids[index], NOT_SENT)

    def take(self, cid: int, tag: Tag) -> Message | None:
        """A client's reply to its message `tag`, waited for; None if it has failed."""
        found = self.next({cid: tag})
        return found and found[1]

    def next(self, awaited: Mapping[int, Tag]) -> tuple[int, Message] | None:
        """The first reply to arrive, or the first that has, of those awaited as {cid: tag}, with its cid.

        None if all of these clients have failed, or if none was sent such a message.
        """
        while True:
            if found := self.arrived(awaited):
                return found
            if not any(awaited.get(each.cid) == each.tag for each in self._pending.values()):
                return None
            self.listen()

    def arrived(self, awaited: Mapping[int, Tag]) -> tuple[int, Message] | None:
        """The first that has arrived of those awaited as {cid: tag}, with its cid; it waits for nothing."""
        for cid, tag in self._arrived:
            if cid not in self.failures and awaited.get(cid) == tag:
                return cid, self._arrived.pop((cid, tag))
        return None

    def listen(self, seconds: float = math.inf) -> bool:
        """Take the replies that are there, waiting `seconds` for one, or until an answer is late; True if any came.

        Good ones are kept for `take` and `next`; errors and late answers are their clients' failures.
        """
        arrived, late = self._receive(seconds)
        for sent, reply in arrived:
            if reply.has_error():
                self.fail(sent.cid, reply.error.reason or f"error {reply.error.code}")
            elif sent.cid not in self.failures:
                self._arrived[sent.cid, sent.tag] = reply
        for cid in {sent.cid for sent in late}:
            self.fail(cid, self.late)
        return bool(arrived)

    def fail(self, cid: int, reason: str) -> None:
        """Wait for nothing more from a client; the first reason counts."""
        self.failures.setdefault(cid, one_line(reason) or "an error without a word")
        self._abandon([message_id for message_id, sent in self._pending.items() if sent.cid == cid])
        for key in [key for key in self._arrived if key[0] == cid]:
            del self._arrived[key]

    def close(self) -> None:
        """Wait for nothing any more."""
        self._abandon(list(self._pending))
        self._arrived.clear()

    def _push(
        self,
        messages: Sequence[Message],
        cids: Sequence[int],
        tag: Tag,
        reply_limits: Sequence[int | None],
        seconds: float | None = None,
    ) -> list[int]:
        """Send; return the positions of the messages that the grid has refused: no answer to them will come."""
        timeout = self._timeout if seconds is None else min(seconds, self._timeout)
        deadline = math.inf if self._grid.patient else time.monotonic() + timeout
        sizes: dict[int, int] = {}
        pushed = [message_id for message_id in self._grid.push_within(messages, reply_limits) if message_id]
        # A grid may push in another order than it was given; what it has pushed carries its id.
        own = {message.metadata.message_id for message in messages} - {""}
        others, pushed_ids, refused = iter([each for each in pushed if each not in own]), set(pushed), []
        for index, (cid, message) in enumerate(zip(cids, messages, strict=True)):
            message_id = message.metadata.message_id or next(others, "")
            if message_id not in pushed_ids:
                refused.append(index)
                continue
            if id(message.content) not in sizes:
                sizes[id(message.content)] = payload(message.content)
            size = sizes[id(message.content)]
            self._pending[message_id] = Pending(cid, tag, size, deadline)
            self.down[cid] += size
        return refused

    def _receive(self, seconds: float) -> tuple[list[tuple[Pending, Message]], list[Pending]]:
        """What has arrived, waiting `seconds` at most, and what is late.

        Late is what was due before anybody looked: an answer that came while the server was busy counts, however late
        it is by now.
        """
        looked = time.monotonic()
        earliest = min((sent.deadline for sent in self._pending.values()), default=looked)
        replies = self._grid.wait_for_replies(list(self._pending), max(0.0, min(seconds, earliest - looked)))
        arrived = []
        for reply in replies:
            sent = self._pending.pop(reply.metadata.reply_to_message_id, None)
            if sent is not None:
                if not reply.has_error():
                    self.up[sent.cid] += payload(reply.content)
                arrived.append((sent, reply))
        late = [sent for sent in self._pending.values() if sent.deadline <= looked]
        return arrived, late

    def _abandon(self, message_ids: Collection[str]) -> None:
        for message_id in message_ids:
            del self._pending[message_id]
        if message_ids:
            self._grid.abandon(message_ids)


def _not_sent(message: Message) -> Message:
    """The answer to a message that never left."""
    return Message(Error(ErrorCode.UNKNOWN, NOT_SENT), reply_to=message)


@dataclass(frozen=True)
class Ask:
    """What a script says. Without `wait` it goes on at once, and the answer only matters if it is an error.

    The answer may have `reply_limit` bytes of arrays.
    """

    action: str
    content: RecordDict
    wait: bool = True
    reply_limit: int = SPARE_BYTES


class ClientRefused(Exception):
    """Raised by a script: this client cannot go on, for the reason given."""


Script = Generator[Ask, RecordDict | None, T]
"""Yields what is to be said next, and is given the client's answer; returns what came of it."""


def talk(
    grid: Grid, cohort: Mapping[int, int], script: Callable[[int], Script[T]], timeout: float
) -> tuple[dict[int, T], dict[int, str]]:
    """Go through `script(cid)` with each of `cohort`, {cid: node id}; `timeout` are seconds for an answer.

    Returns what the scripts returned, and why the other clients failed, both in the order of cid.
    """
    talks: ScriptedTalks[T] = ScriptedTalks(grid, timeout)
    for cid in sorted(cohort):
        talks.begin(cid, cohort[cid], script(cid))
    while talks.with_whom():
        talks.listen()
    return talks.ended()


@dataclass
class _Progress(Generic[T]):
    """How far one script is."""

    script: Script[T]
    said: int = 0
    awaited: Tag = None
    """The tag of the answer that the script waits for."""
    paused: bool = False
    """The script would say more, but enough is under way."""
    tags: set[int] = field(default_factory=set)
    """Of its messages that are under way."""


class ScriptedTalks(Generic[T]):
    """A script for each client, begun when it is wanted; `timeout` are seconds for an answer.

    They may be left under way, and listened to again later.
    """

    def __init__(self, grid: Grid, timeout: float) -> None:
        self._dispatcher = Dispatcher(grid, {}, timeout, flag="")
        self._scripts: dict[int, _Progress[T]] = {}
        self._results: dict[int, T] = {}
        self._failures: dict[int, str] = {}

    def begin(self, cid: int, node_id: int, script: Script[T]) -> None:
        """Go through a script with a client with whom none is under way."""
        self._dispatcher.add_client(cid, node_id)
        self._scripts[cid] = _Progress(script)
        self._go_on(cid, None)

    def with_whom(self) -> set[int]:
        """The clients whose answer is waited for."""
        return {sent.cid for sent in self._dispatcher.pending.values()}

    def ended(self) -> tuple[dict[int, T], dict[int, str]]:
        """What scripts have returned, and why others failed, in the order of cid; each is told once."""
        over = dict(sorted(self._results.items())), dict(sorted(self._failures.items()))
        self._results, self._failures = {}, {}
        return over

    def listen(self, seconds: float = math.inf) -> bool:
        """Take the replies that are there, waiting `seconds` for one, or until an answer is late; True if any came."""
        before = self.with_whom()
        heard = self._dispatcher.listen(seconds)
        under_way: dict[int, set[Tag]] = {}
        for sent in self._dispatcher.pending.values():
            under_way.setdefault(sent.cid, set()).add(sent.tag)
        for cid in sorted(before):
            progress = self._scripts[cid]
            if cid in self._dispatcher.failures:
                self._fail(cid, self._dispatcher.failures[cid])
                continue
            for tag in sorted(progress.tags - under_way.get(cid, set())):
                progress.tags.discard(tag)
                answer = self._dispatcher.take(cid, tag)
                if answer is not None and progress.awaited == tag:
                    self._go_on(cid, answer.content)
        for cid, progress in self._scripts.items():
            if progress.paused and len(progress.tags) < AHEAD and (not progress.tags or self._bytes() <= UNDER_WAY):
                self._go_on(cid, None)
        return heard

    def _go_on(self, cid: int, answer: RecordDict | None) -> None:
        """Let a script say what it has to say, until it must wait."""
        progress = self._scripts[cid]
        progress.awaited, progress.paused = None, False
        while True:
            try:
                ask = progress.script.send(answer)
            except StopIteration as end:
                self._results[cid] = end.value
                return
            except ClientRefused as error:
                self._fail(cid, str(error))
                return
            except Exception as error:  # noqa: BLE001 - an answer that nobody thought of is its client's failure
                self._fail(cid, describe(error))
                return
            progress.said += 1
            progress.tags.add(progress.said)
            self._dispatcher.send([cid], ask.action, progress.said, ask.content, ask.reply_limit)
            if ask.wait:
                progress.awaited = progress.said
                return
            if len(progress.tags) >= AHEAD or self._bytes() > UNDER_WAY:
                progress.paused = True
                return
            answer = None

    def _fail(self, cid: int, reason: str) -> None:
        progress = self._scripts[cid]
        self._dispatcher.fail(cid, reason)
        self._failures.setdefault(cid, self._dispatcher.failures[cid])
        progress.paused, progress.awaited = False, None
        progress.tags.clear()
        progress.script.close()

    def _bytes(self) -> int:
        return sum(sent.num_bytes for sent in self._dispatcher.pending.values())
