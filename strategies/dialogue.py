"""A conversation with many clients at once, to each by a script of its own: what is handed out before the rounds.

A script is a generator: it yields what is to be said next (`Ask`) and is given the client's answer. All scripts go on
side by side, in one thread. A client whose script raises Refused, who answers with an error or not in time, has failed;
the others go on.
"""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from strategies.arrays import payload
from strategies.checks import one_line
from strategies.exchange import POLL_SECONDS

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


class Refused(Exception):
    """Raised by a script: this client cannot go on, for the reason given."""


Script = Generator[Ask, RecordDict | None, T]


def talk(
    grid: Grid, cohort: Mapping[int, int], script: Callable[[int], Script], timeout: float
) -> tuple[dict[int, T], dict[int, str]]:
    """Go through `script(cid)` with each of `cohort`, {cid: node id}; `timeout` are seconds for an answer.

    Returns what the scripts returned, and why the other clients failed, both in the order of cid.
    """
    talks = _Talks(grid, cohort, timeout)
    for cid in sorted(cohort):
        talks.lines[cid] = _Line(script(cid))
    for cid in sorted(cohort):
        talks.go_on(cid, None)
    while talks.under_way:
        talks.listen()
    return dict(sorted(talks.results.items())), dict(sorted(talks.failures.items()))


@dataclass
class _Line:
    script: Script
    awaited: str = ""
    """The message whose answer the script waits for."""
    paused: bool = False
    """The script would say more, but enough is under way."""
    sent: set[str] = field(default_factory=set)


class _Talks:
    def __init__(self, grid: Grid, cohort: Mapping[int, int], timeout: float) -> None:
        self._grid, self._nodes, self._timeout = grid, dict(cohort), timeout
        self.lines: dict[int, _Line] = {}
        self.results: dict[int, object] = {}
        self.failures: dict[int, str] = {}
        self.under_way: dict[str, tuple[int, int, float]] = {}  # message id: cid, bytes, deadline

    def go_on(self, cid: int, answer: RecordDict | None) -> None:
        """Let a script say what it has to say, until it must wait."""
        line = self.lines[cid]
        line.awaited, line.paused = "", False
        while True:
            try:
                ask = line.script.send(answer)
            except StopIteration as end:
                self.results[cid] = end.value
                return
            except Refused as error:
                self.fail(cid, str(error))
                return
            message_id = self._send(cid, ask)
            if ask.wait:
                line.awaited = message_id
                return
            if len(line.sent) >= AHEAD or self._bytes() > UNDER_WAY:
                line.paused = True
                return
            answer = None

    def listen(self) -> None:
        """Take the replies that are there, waiting for one or for the next deadline."""
        earliest = min(deadline for _, _, deadline in self.under_way.values())
        for reply in self._replies(max(0.0, earliest - time.monotonic())):
            message_id = reply.metadata.reply_to_message_id
            if message_id not in self.under_way:  # its client has failed meanwhile
                continue
            cid, _, _ = self.under_way.pop(message_id)
            line = self.lines[cid]
            line.sent.discard(message_id)
            if reply.has_error():
                self.fail(cid, reply.error.reason or f"error {reply.error.code}")
            elif line.awaited == message_id:
                self.go_on(cid, reply.content)
        now = time.monotonic()
        for cid in {cid for cid, _, deadline in self.under_way.values() if deadline <= now}:
            self.fail(cid, f"no answer within {self._timeout:g} s")
        for cid, line in self.lines.items():
            if line.paused and len(line.sent) < AHEAD and (not line.sent or self._bytes() <= UNDER_WAY):
                self.go_on(cid, None)

    def fail(self, cid: int, reason: str) -> None:
        line = self.lines[cid]
        self.failures.setdefault(cid, one_line(reason) or "an error without a word")
        line.paused, line.awaited = False, ""
        for message_id in line.sent:
            self.under_way.pop(message_id, None)
        if line.sent and hasattr(self._grid, "abandon"):
            self._grid.abandon(list(line.sent))
        line.sent.clear()
        line.script.close()

    def _bytes(self) -> int:
        return sum(size for _, size, _ in self.under_way.values())

    def _send(self, cid: int, ask: Ask) -> str:
        message = Message(ask.content, self._nodes[cid], ask.action)
        (message_id,) = self._grid.push_messages([message])
        self.under_way[message_id] = cid, payload(ask.content), time.monotonic() + self._timeout
        self.lines[cid].sent.add(message_id)
        return message_id

    def _replies(self, timeout: float) -> list[Message]:
        wait = getattr(self._grid, "wait_for_replies", None)
        if wait:
            return wait(list(self.under_way), timeout)
        deadline = time.monotonic() + timeout
        while not (replies := list(self._grid.pull_messages(list(self.under_way)))) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return replies
