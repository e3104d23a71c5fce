"""What a live view knows of a run: who is at what in the round under way, and what each client said last.

The round loop writes it, a view reads copies of it; no terminal, no colours, nothing that is not standard library.
"""

import copy
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Real

from fedkeras.reports.history import NO_METRICS

AT_WORK = {"train": "training", "evaluate": "evaluating"}
PACE = 5
"""Rounds by whose seconds the rest is estimated: the first, in which graphs are compiled, tells little."""

ANSWERED, FAILED, RESTING, NOT_ASKED, CONNECTED, ABSENT = (
    "answered", "failed", "resting", "not asked", "connected", "not there",
)  # fmt: skip


@dataclass
class LiveClient:
    """One client: `seconds` until its answer in this phase, `before` until the one in the last phase of that kind."""

    state: str = NOT_ASKED
    seconds: float | None = None
    reason: str = ""
    before: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Mapping[str, object]] = field(default_factory=dict)
    """Phase -> its last line of history.csv in it."""


@dataclass
class LiveState:
    """The run as of now. Its methods are those of the round loop's watch, and may be called from any thread."""

    num_clients: int
    num_rounds: int
    clock: Callable[[], float] = time.monotonic
    clients: dict[int, LiveClient] = field(default_factory=dict)
    round: int = 0
    """The round under way; 0 before the first."""
    phase: str = "waiting"
    """waiting (for clients), train, evaluate, between (rounds), or over."""
    done: int = 0
    """The last finished round."""
    needed: int = 0
    """While it waits: how many clients it waits for."""
    since: float = 0.0
    """When the phase began."""
    started: float = 0.0
    ends: list[float] = field(default_factory=list)
    """When the last few rounds ended, and before them the first began."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.clients = {cid: LiveClient(state=ABSENT) for cid in range(self.num_clients)}
        self.needed = self.num_clients
        self.since = self.started = self.clock()

    def connected(self, cids: Iterable[int], needed: int) -> None:
        """These clients are there, and so many are waited for."""
        there = set(cids)
        with self._lock:
            if self.phase != "waiting":
                self.since = self.clock()
            self.phase, self.needed = "waiting", needed
            for cid, client in self.clients.items():
                client.state, client.seconds = CONNECTED if cid in there else ABSENT, None

    def began(self, server_round: int, phase: str, asked: Iterable[int], resting: Iterable[int]) -> None:
        """A phase of a round begins."""
        asked, resting = set(asked), set(resting)
        with self._lock:
            self.since = self.clock()
            if not self.round:
                self.done = server_round - 1
                self.started, self.ends = self.since, [self.since]
            self.round, self.phase = server_round, phase
            for cid in asked - set(self.clients):
                self.clients[cid] = LiveClient()
            for cid, client in self.clients.items():
                client.seconds, client.reason = None, ""
                client.state = AT_WORK[phase] if cid in asked else RESTING if cid in resting else NOT_ASKED

    def answered(self, cid: int, line: Mapping[str, object]) -> None:
        """A client's good answer: its line of history.csv."""
        with self._lock:
            client = self.clients.setdefault(cid, LiveClient())
            client.state, client.seconds = ANSWERED, self.clock() - self.since
            client.before[self.phase] = client.seconds
            client.figures[self.phase] = line

    def failed(self, cid: int, reason: str) -> None:
        """A client gives no good answer."""
        with self._lock:
            client = self.clients.setdefault(cid, LiveClient())
            client.state, client.seconds, client.reason = FAILED, self.clock() - self.since, " ".join(reason.split())

    def round_finished(self, number: int) -> None:
        """A round is over and recorded."""
        with self._lock:
            self.done, self.phase, self.since = number, "between", self.clock()
            self.ends = [*self.ends, self.since][-PACE - 1 :]

    def ended(self) -> None:
        """The run is over: there is nothing to show any more."""
        self.phase = "over"

    def snapshot(self) -> "LiveState":
        """A copy that stays as it is while it is drawn."""
        with self._lock:
            clients = {cid: copy.copy(client) for cid, client in sorted(self.clients.items())}
            for client in clients.values():
                client.before, client.figures = dict(client.before), dict(client.figures)
            shown, now = copy.copy(self), self.clock()
        shown.clients, shown.clock = clients, lambda: now
        return shown

    def left(self) -> float | None:
        """Seconds to the end of the run at the pace of the last few rounds; None before the first has ended."""
        rounds = len(self.ends) - 1
        if rounds < 1:
            return None
        return (self.ends[-1] - self.ends[0]) / rounds * (self.num_rounds - self.done)

    def counts(self) -> Counter[str]:
        """How many clients are in each state."""
        return Counter(client.state for client in self.clients.values())

    def asked(self) -> int:
        """How many were asked in this phase."""
        counts = self.counts()
        return counts[ANSWERED] + counts[FAILED] + sum(counts[state] for state in AT_WORK.values())

    def metric(self) -> str:
        """The metric beside the loss: accuracy, or the first of the model's own."""
        names = dict.fromkeys(
            name
            for client in self.clients.values()
            for line in client.figures.values()
            for name, value in line.items()
            if name == "accuracy" or (name not in NO_METRICS and isinstance(value, Real))
        )
        return "accuracy" if "accuracy" in names else next(iter(names), "accuracy")
