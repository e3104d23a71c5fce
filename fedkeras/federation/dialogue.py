"""A conversation with many clients at once, to each by a script of its own: what is handed out before the rounds.

A script is a generator: it yields what is to be said next (`Ask`) and is given the client's answer. All scripts go on
side by side, in one thread. A client whose script raises, who answers with an error or not in time, has failed; the
others go on. `talk` waits for all; `Talks` may be left under way, and listened to again later.
"""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedkeras.errors import describe
from fedkeras.federation.exchange import POLL_SECONDS, deadline_of
from fedkeras.federation.records import payload
from fedkeras.federation.validation import one_line

T = TypeVar("T")

AHEAD = 3
"""Messages to one client that may be under way at once, if its script does not wait for the answers."""

UNDER_WAY = 64 << 20
"""Bytes of arrays under way to all clients above which scripts wait for an answer, whatever they would do."""


@dataclass(frozen=True)
class Ask:
    """A message. Without `wait` the script goes on at once, and the answer only matters if it is an error."""

    action: str
    content: RecordDict
    wait: bool = True


class ClientRefused(Exception):
    """Raised by a script: this client cannot go on, for the reason given."""


Script = Generator[Ask, RecordDict | None, T]


def talk(
    grid: Grid, cohort: Mapping[int, int], script: Callable[[int], Script], timeout: float
) -> tuple[dict[int, T], dict[int, str]]:
    """Go through `script(cid)` with each of `cohort`, {cid: node id}; `timeout` are seconds for an answer.

    Returns what the scripts returned, and why the other clients failed, both in the order of cid.
    """
    talks = Talks(grid, timeout)
    for cid in sorted(cohort):
        talks.begin(cid, cohort[cid], script(cid))
    while talks.with_whom():
        talks.listen()
    return talks.ended()


@dataclass
class _Line:
    script: Script
    awaited: str = ""
    """The message whose answer the script waits for."""
    paused: bool = False
    """The script would say more, but enough is under way."""
    sent: set[str] = field(default_factory=set)


class Talks:
    """Conversations, each begun when it is wanted; `timeout` are seconds for an answer."""

    def __init__(self, grid: Grid, timeout: float) -> None:
        self._grid, self._timeout = grid, timeout
        self._nodes: dict[int, int] = {}
        self._lines: dict[int, _Line] = {}
        self._results: dict[int, object] = {}
        self._failures: dict[int, str] = {}
        self._under_way: dict[str, tuple[int, int, float]] = {}  # message id: cid, bytes, deadline

    def begin(self, cid: int, node_id: int, script: Script) -> None:
        """Go through a script with a client with whom none is under way."""
        self._nodes[cid], self._lines[cid] = node_id, _Line(script)
        self._go_on(cid, None)

    def with_whom(self) -> set[int]:
        """The clients whose answer is waited for."""
        return {cid for cid, _, _ in self._under_way.values()}

    def ended(self) -> tuple[dict[int, object], dict[int, str]]:
        """What scripts have returned, and why others failed, in the order of cid; of each script told once."""
        over = dict(sorted(self._results.items())), dict(sorted(self._failures.items()))
        self._results, self._failures = {}, {}
        return over

    def listen(self, seconds: float = float("inf")) -> bool:
        """Take the replies that are there, waiting `seconds` for one, or until an answer is late; True if any came."""
        earliest = min(deadline for _, _, deadline in self._under_way.values())
        replies = self._replies(max(0.0, min(seconds, earliest - time.monotonic())))
        for reply in replies:
            message_id = reply.metadata.reply_to_message_id
            if message_id not in self._under_way:  # its client has failed meanwhile
                continue
            cid, _, _ = self._under_way.pop(message_id)
            line = self._lines[cid]
            line.sent.discard(message_id)
            if reply.has_error():
                self._fail(cid, reply.error.reason or f"error {reply.error.code}")
            elif line.awaited == message_id:
                self._go_on(cid, reply.content)
        now = time.monotonic()
        for cid in {cid for cid, _, deadline in self._under_way.values() if deadline <= now}:
            self._fail(cid, f"no answer within {self._timeout:g} s")
        for cid, line in self._lines.items():
            if line.paused and len(line.sent) < AHEAD and (not line.sent or self._bytes() <= UNDER_WAY):
                self._go_on(cid, None)
        return bool(replies)

    def _go_on(self, cid: int, answer: RecordDict | None) -> None:
        """Let a script say what it has to say, until it must wait."""
        line = self._lines[cid]
        line.awaited, line.paused = "", False
        while True:
            try:
                ask = line.script.send(answer)
            except StopIteration as end:
                self._results[cid] = end.value
                return
            except ClientRefused as error:
                self._fail(cid, str(error))
                return
            except Exception as error:  # noqa: BLE001 - an answer that nobody thought of is its client's failure
                self._fail(cid, describe(error))
                return
            message_id = self._send(cid, ask)
            if ask.wait:
                line.awaited = message_id
                return
            if len(line.sent) >= AHEAD or self._bytes() > UNDER_WAY:
                line.paused = True
                return
            answer = None

    def _fail(self, cid: int, reason: str) -> None:
        line = self._lines[cid]
        self._failures.setdefault(cid, one_line(reason) or "an error without a word")
        line.paused, line.awaited = False, ""
        for message_id in line.sent:
            self._under_way.pop(message_id, None)
        if line.sent and hasattr(self._grid, "abandon"):
            self._grid.abandon(list(line.sent))
        line.sent.clear()
        line.script.close()

    def _bytes(self) -> int:
        return sum(size for _, size, _ in self._under_way.values())

    def _send(self, cid: int, ask: Ask) -> str:
        message = Message(ask.content, self._nodes[cid], ask.action)
        (message_id,) = self._grid.push_messages([message])
        self._under_way[message_id] = cid, payload(ask.content), deadline_of(self._grid, self._timeout)
        self._lines[cid].sent.add(message_id)
        return message_id

    def _replies(self, timeout: float) -> list[Message]:
        wait = getattr(self._grid, "wait_for_replies", None)
        if wait:
            return wait(list(self._under_way), timeout)
        deadline = time.monotonic() + timeout
        while not (replies := list(self._grid.pull_messages(list(self._under_way)))) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return replies
